// SPDX-License-Identifier: Apache-2.0
#include <optional>

#include "agent/listeners/message.h"
#include "agent/listeners/wire.h"

namespace headgate {
namespace {

using namespace wire;

using Bytes = absl::Span<const uint8_t>;
using Parsed = std::variant<Heard, Refusal>;

constexpr size_t kIgmpHeader = 8;
constexpr size_t kIgmp3Query = 12;
constexpr size_t kMldHeader = 24;
constexpr size_t kMld2Query = 28;
constexpr uint8_t kRouterAlert6 = 5;
constexpr std::chrono::milliseconds kIgmp1Response{10000};  // RFC 3376, section 8.3

bool IsUnspecified(const IpAddress& address) { return address == IpAddress{.family = address.family}; }

bool IsGroup(const IpAddress& address) {
  return address.family == Family::kIpv4 ? address.words[0] >> 28 == 0xe : address.words[0] >> 24 == 0xff;
}

// RFC 3376, section 4.2.13: a host that has no address yet sends from 0.0.0.0.
bool MaySend4(const IpAddress& sender) {
  return !IsGroup(sender) && sender.words[0] != 0xffffffff && sender.words[0] >> 24 != 127;
}
bool IsLinkLocal6(const IpAddress& address) { return address.words[0] >> 22 == 0xfe80 >> 6; }

void ReadSources(const uint8_t* at, size_t count, Family family, std::vector<IpAddress>& sources) {
  for (size_t i = 0; i < count; ++i) {
    const IpAddress source = ReadAddress(at + i * AddressBytes(family), family);
    // No sender has such an address.
    if (!IsUnspecified(source) && !IsGroup(source)) sources.push_back(source);
  }
}

// The records of a report of the current version. Those of link-local groups, and of types to come, are left out.
std::optional<Report> ReadRecords(Bytes rest, size_t count, Family family) {
  const size_t address = AddressBytes(family);
  Report report;
  for (; count != 0; --count) {
    if (rest.size() < 4 + address) return std::nullopt;
    const size_t sources = Word(&rest[2]);
    const size_t length = 4 + address + sources * address + size_t{rest[1]} * 4;
    if (rest.size() < length) return std::nullopt;
    GroupRecord record{static_cast<RecordType>(rest[0]), ReadAddress(&rest[4], family), {}};
    ReadSources(&rest[4] + address, sources, family, record.sources);
    const bool known = rest[0] >= static_cast<uint8_t>(RecordType::kIsInclude) &&
                       rest[0] <= static_cast<uint8_t>(RecordType::kBlock);
    if (known && IsRoutedGroup(record.group)) report.records.push_back(std::move(record));
    rest.remove_prefix(length);
  }
  return report;
}

// As an older host says it.
Report OlderReport(HostVersion version, const IpAddress& group, bool leaves) {
  return {version, {{leaves ? RecordType::kToInclude : RecordType::kIsExclude, group, {}}}};
}

// What follows the group in queries of the current version: flags, interval, and sources from `at` on.
bool ReadQueryRest(Bytes message, size_t at, Family family, ListenerQuery& query) {
  query.version = HostVersion::kCurrent;
  query.suppress = (message[at] & 8) != 0;
  query.robustness = message[at] & 7;
  query.interval_seconds = Decode(message[at + 1], kByteMantissa);
  const size_t sources = Word(&message[at + 2]);
  if (message.size() < at + 4 + sources * AddressBytes(family)) return false;
  ReadSources(message.data() + at + 4, sources, family, query.sources);
  return true;
}

Parsed FinishQuery(const IpAddress& sender, const IpAddress& group, ListenerQuery query) {
  if (!IsUnspecified(group)) {
    if (!IsRoutedGroup(group)) return Refusal::kGroup;
    query.group = group;
  } else if (!query.sources.empty()) {
    return Refusal::kGroup;
  }
  return Heard{sender, std::move(query)};
}

Parsed ParseIgmpQuery(Bytes message, const IpAddress& sender) {
  ListenerQuery query{.version = HostVersion::kOlder};
  const uint8_t code = message[1];
  query.response = kIgmpTick * uint32_t{code};
  if (message.size() >= kIgmp3Query) {
    query.response = kIgmpTick * Decode(code, kByteMantissa);
    if (!ReadQueryRest(message, kIgmpHeader, Family::kIpv4, query)) return Refusal::kTruncated;
  } else if (code == 0) {
    query.version = HostVersion::kOldest;
    query.response = kIgmp1Response;
  }
  return FinishQuery(sender, ReadAddress(&message[4], Family::kIpv4), std::move(query));
}

Parsed ParseIgmp(Bytes message, const IpAddress& sender, const IpAddress& destination) {
  if (message.size() < kIgmpHeader) return Refusal::kTruncated;
  if (Fold(Sum(message)) != 0) return Refusal::kChecksum;
  if (!MaySend4(sender)) return Refusal::kSender;
  const IpAddress group = ReadAddress(&message[4], Family::kIpv4);
  switch (message[0]) {
    case kIgmpQuery:
      return ParseIgmpQuery(message, sender);
    case kIgmpReport1:
    case kIgmpReport2:
    case kIgmpLeave: {
      const bool leaves = message[0] == kIgmpLeave;
      if (!IsRoutedGroup(group)) return Refusal::kGroup;
      // RFC 2236, section 3: reports go to the group itself.
      if (destination != group && !(leaves && destination == kAllRouters4)) return Refusal::kGroup;
      return Heard{sender, OlderReport(message[0] == kIgmpReport1 ? HostVersion::kOldest : HostVersion::kOlder,
                                       group, leaves)};
    }
    case kIgmpReport3: {
      std::optional<Report> report = ReadRecords(message.subspan(kIgmpHeader), Word(&message[6]), Family::kIpv4);
      if (!report) return Refusal::kTruncated;
      return Heard{sender, std::move(*report)};
    }
    default:
      return Refusal::kNotOurs;
  }
}

Parsed ParseIpv4(Bytes packet) {
  constexpr size_t kLeast = 20;
  if (packet.size() < kLeast) return Refusal::kTruncated;
  const size_t header = (packet[0] & 0xfU) * 4, length = Word(&packet[2]);
  if (header < kLeast || length < header || packet.size() < length) return Refusal::kTruncated;
  if (packet[9] != kIgmp) return Refusal::kNotOurs;
  if (Fold(Sum(packet.first(header))) != 0) return Refusal::kChecksum;
  // RFC 3376, section 4: nobody sends it further, so one that was is not from here; nor is it ever in fragments.
  if (packet[8] != 1) return Refusal::kHops;
  if ((Word(&packet[6]) & 0x3fff) != 0) return Refusal::kNotOurs;
  return ParseIgmp(packet.subspan(header, length - header), ReadAddress(&packet[12], Family::kIpv4),
                   ReadAddress(&packet[16], Family::kIpv4));
}

Parsed ParseMldQuery(Bytes message, const IpAddress& sender) {
  ListenerQuery query{.version = HostVersion::kOlder};
  query.response = std::chrono::milliseconds(Word(&message[4]));
  if (message.size() >= kMld2Query) {
    query.response = std::chrono::milliseconds(Decode(Word(&message[4]), kWordMantissa));
    if (!ReadQueryRest(message, kMldHeader, Family::kIpv6, query)) return Refusal::kTruncated;
  }
  return FinishQuery(sender, ReadAddress(&message[8], Family::kIpv6), std::move(query));
}

Parsed ParseMld(Bytes message, const IpAddress& sender, const IpAddress& destination) {
  if (message[0] == kMldReport2) {
    std::optional<Report> report = ReadRecords(message.subspan(8), Word(&message[6]), Family::kIpv6);
    if (!report) return Refusal::kTruncated;
    return Heard{sender, std::move(*report)};
  }
  if (message.size() < kMldHeader) return Refusal::kTruncated;
  if (message[0] == kMldQuery) return ParseMldQuery(message, sender);
  const IpAddress group = ReadAddress(&message[8], Family::kIpv6);
  if (!IsRoutedGroup(group)) return Refusal::kGroup;
  const bool leaves = message[0] == kMldDone;
  if (!leaves && destination != group) return Refusal::kGroup;
  return Heard{sender, OlderReport(HostVersion::kOlder, group, leaves)};
}

// Whether the hop-by-hop options have a Router Alert for MLD (RFC 2711).
bool HasRouterAlert(Bytes options) {
  for (size_t i = 0; i < options.size();) {
    if (options[i] == 0) {
      ++i;
      continue;
    }
    if (i + 2 > options.size()) return false;
    const size_t length = options[i + 1];
    if (options[i] == kRouterAlert6) return length == 2 && i + 4 <= options.size() && Word(&options[i + 2]) == 0;
    i += 2 + length;
  }
  return false;
}

// RFC 3810, section 6: from a link-local address, with a hop limit of one and Router Alert.
Parsed ParseIpv6(Bytes packet) {
  constexpr uint8_t kHopByHop = 0;
  if (packet.size() < kIp6Header + 8) return Refusal::kTruncated;
  const size_t payload = Word(&packet[4]);
  if (packet.size() < kIp6Header + payload || payload < 8) return Refusal::kTruncated;
  if (packet[6] != kHopByHop || packet[kIp6Header] != kIcmp6) return Refusal::kNotOurs;
  const size_t options = 8 + size_t{packet[kIp6Header + 1]} * 8;
  if (payload < options + 8) return Refusal::kTruncated;
  const Bytes message = packet.subspan(kIp6Header + options, payload - options);
  if (message[0] != kMldReport2 && (message[0] < kMldQuery || message[0] > kMldDone)) return Refusal::kNotOurs;
  if (!HasRouterAlert(packet.subspan(kIp6Header + 2, options - 2))) return Refusal::kNotOurs;
  if (packet[7] != 1) return Refusal::kHops;
  if (Icmp6Checksum(packet.subspan(8, 32), message) != 0) return Refusal::kChecksum;
  const IpAddress sender = ReadAddress(&packet[8], Family::kIpv6);
  if (!IsLinkLocal6(sender)) return Refusal::kSender;
  return ParseMld(message, sender, ReadAddress(&packet[24], Family::kIpv6));
}

}  // namespace

bool IsRoutedGroup(const IpAddress& address) {
  if (!IsGroup(address)) return false;
  if (address.family == Family::kIpv4) return address.words[0] >> 8 != 0xe00000;
  return (address.words[0] >> 16 & 0xf) > 2;
}

Parsed ParseListenerPacket(Bytes packet) {
  if (packet.empty()) return Refusal::kTruncated;
  switch (packet[0] >> 4) {
    case 4:
      return ParseIpv4(packet);
    case 6:
      return ParseIpv6(packet);
    default:
      return Refusal::kNotOurs;
  }
}

}  // namespace headgate
