// SPDX-License-Identifier: Apache-2.0
#include "agent/listeners/message.h"
#include "agent/listeners/wire.h"

namespace headgate {
namespace {

using namespace wire;

void Put(std::vector<uint8_t>& to, uint32_t value) {
  to.push_back(static_cast<uint8_t>(value >> 8));
  to.push_back(static_cast<uint8_t>(value));
}

void Put(std::vector<uint8_t>& to, const IpAddress& address) {
  for (size_t i = 0; i < AddressBytes(address.family) / 4; ++i) {
    Put(to, address.words[i] >> 16);
    Put(to, address.words[i] & 0xffff);
  }
}

void PutAt(std::vector<uint8_t>& to, size_t at, uint16_t value) {
  to[at] = static_cast<uint8_t>(value >> 8);
  to[at + 1] = static_cast<uint8_t>(value);
}

// From the group on: the same in both protocols.
void PutRest(const ListenerQuery& query, Family family, std::vector<uint8_t>& message) {
  Put(message, query.group.value_or(IpAddress{.family = family}));
  // More than seven cannot be said (RFC 3376, section 4.1.6).
  message.push_back(
      static_cast<uint8_t>((query.suppress ? 8 : 0) | (query.robustness > 7 ? 0 : query.robustness)));
  message.push_back(static_cast<uint8_t>(Encode(query.interval_seconds, kByteMantissa)));
  Put(message, static_cast<uint32_t>(query.sources.size()));
  for (const IpAddress& source : query.sources) Put(message, source);
}

std::vector<uint8_t> BuildIgmp(const ListenerQuery& query, const IpAddress& source) {
  const auto ticks = static_cast<uint32_t>(query.response / kIgmpTick);
  std::vector<uint8_t> message = {kIgmpQuery, static_cast<uint8_t>(Encode(ticks, kByteMantissa)), 0, 0};
  PutRest(query, Family::kIpv4, message);
  PutAt(message, 2, Fold(Sum(message)));
  // 24 bytes with Router Alert, type of service 0xc0 (RFC 3376, section 4), TTL 1.
  std::vector<uint8_t> packet = {0x46, 0xc0};
  Put(packet, static_cast<uint32_t>(24 + message.size()));
  packet.insert(packet.end(), {0, 0, 0x40, 0, 1, kIgmp, 0, 0});
  Put(packet, source);
  Put(packet, QueryDestination(query, Family::kIpv4));
  packet.insert(packet.end(), {0x94, 4, 0, 0});
  PutAt(packet, 10, Fold(Sum(packet)));
  packet.insert(packet.end(), message.begin(), message.end());
  return packet;
}

std::vector<uint8_t> BuildMld(const ListenerQuery& query, const IpAddress& source) {
  std::vector<uint8_t> message = {kMldQuery, 0, 0, 0};
  Put(message, Encode(static_cast<uint32_t>(query.response.count()), kWordMantissa));
  Put(message, 0);
  PutRest(query, Family::kIpv6, message);
  std::vector<uint8_t> packet = {0x60, 0, 0, 0};
  Put(packet, static_cast<uint32_t>(8 + message.size()));
  packet.insert(packet.end(), {0, 1});
  Put(packet, source);
  Put(packet, QueryDestination(query, Family::kIpv6));
  // Hop-by-hop options: Router Alert for MLD, then padding.
  packet.insert(packet.end(), {kIcmp6, 0, 5, 2, 0, 0, 1, 0});
  PutAt(message, 2, Icmp6Checksum(absl::MakeConstSpan(packet).subspan(8, 32), message));
  packet.insert(packet.end(), message.begin(), message.end());
  return packet;
}

}  // namespace

std::vector<uint8_t> BuildQuery(const ListenerQuery& query, const IpAddress& source) {
  return source.family == Family::kIpv4 ? BuildIgmp(query, source) : BuildMld(query, source);
}

IpAddress QueryDestination(const ListenerQuery& query, Family family) {
  if (query.group) return *query.group;
  return family == Family::kIpv4 ? kAllHosts4 : kAllNodes6;
}

// RFC 1112, section 6.4; RFC 2464, section 7.
MacAddress GroupMac(const IpAddress& group) {
  const auto byte = [](uint32_t word, int shift) { return static_cast<uint8_t>(word >> shift); };
  if (group.family == Family::kIpv4) {
    const uint32_t low = group.words[0] & 0x7fffff;
    return {0x01, 0x00, 0x5e, byte(low, 16), byte(low, 8), byte(low, 0)};
  }
  const uint32_t low = group.words[3];
  return {0x33, 0x33, byte(low, 24), byte(low, 16), byte(low, 8), byte(low, 0)};
}

}  // namespace headgate
