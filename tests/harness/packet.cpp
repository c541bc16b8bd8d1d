// SPDX-License-Identifier: Apache-2.0
#include "tests/harness/packet.h"

#include <absl/strings/str_cat.h>
#include <arpa/inet.h>

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "agent/base/address.h"

namespace headgate::testing {
namespace {

void Put8(Bytes& out, unsigned value) { out.push_back(static_cast<uint8_t>(value)); }
void Put16(Bytes& out, unsigned value) {
  Put8(out, value >> 8);
  Put8(out, value & 0xff);
}
void Put32(Bytes& out, uint32_t value) {
  Put16(out, value >> 16);
  Put16(out, value & 0xffff);
}
void PutMac(Bytes& out, const std::string& text) {
  const auto mac = ParseMac(text);
  if (!mac.ok()) throw std::invalid_argument(std::string(mac.status().message()));
  out.insert(out.end(), mac->begin(), mac->end());
}
void PutAddress(Bytes& out, const std::string& text, Family family) {
  const auto address = ParseAddress(text);
  if (!address.ok() || address->family != family) throw std::invalid_argument("not an address: " + text);
  for (int i = 0; i < (family == Family::kIpv4 ? 1 : 4); ++i) Put32(out, address->words[i]);
}
Bytes Join(Bytes head, const Bytes& rest) {
  head.insert(head.end(), rest.begin(), rest.end());
  return head;
}
void Set16(Bytes& bytes, size_t at, unsigned value) {
  bytes[at] = static_cast<uint8_t>(value >> 8);
  bytes[at + 1] = static_cast<uint8_t>(value);
}

// Where the checksum of an L4 header lies, -1 when it has none that covers a pseudo header.
int ChecksumOffset(int protocol) {
  switch (protocol) {
    case IPPROTO_TCP:
      return 16;
    case IPPROTO_UDP:
      return 6;
    case IPPROTO_ICMPV6:
      return 2;
    default:
      return -1;
  }
}

// Fills the L4 checksum when it is still zero; 0xffff there means "leave it zero".
void FillChecksum(Bytes& l4, int protocol, const Bytes& addresses) {
  const int at = ChecksumOffset(protocol);
  if (at < 0 || l4.size() < static_cast<size_t>(at) + 2 || l4[at] != 0 || l4[at + 1] != 0) return;
  Bytes pseudo = addresses;
  Put32(pseudo, static_cast<uint32_t>(l4.size()));
  Put32(pseudo, static_cast<uint32_t>(protocol));
  uint32_t sum = 0;
  for (size_t i = 0; i < pseudo.size(); i += 2) sum += static_cast<uint32_t>(pseudo[i] << 8 | pseudo[i + 1]);
  uint16_t checksum = InternetChecksum(l4.data(), l4.size(), sum);
  if (checksum == 0 && protocol == IPPROTO_UDP) checksum = 0xffff;
  Set16(l4, static_cast<size_t>(at), checksum);
}

}  // namespace

uint16_t InternetChecksum(const uint8_t* data, size_t size, uint32_t sum) {
  for (size_t i = 0; i + 1 < size; i += 2) sum += static_cast<uint32_t>(data[i] << 8 | data[i + 1]);
  if (size % 2 != 0) sum += static_cast<uint32_t>(data[size - 1] << 8);
  while (sum >> 16 != 0) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(~sum);
}

Bytes Truncate(Bytes frame, size_t size) {
  frame.resize(std::min(size, frame.size()));
  return frame;
}

Bytes Packet::Build() const {
  Bytes frame;
  for (size_t i = layers_.size(); i-- > 0;) {
    frame = layers_[i].build(i + 1 < layers_.size() ? &layers_[i + 1] : nullptr, std::move(frame));
  }
  return frame;
}

void Packet::Add(const Ethernet& layer) {
  layers_.push_back({0, -1, [layer](const Layer* next, const Bytes& rest) {
                       Bytes out;
                       PutMac(out, layer.destination);
                       PutMac(out, layer.source);
                       Put16(out, layer.type.value_or(next != nullptr ? next->ether_type : 0));
                       return Join(std::move(out), rest);
                     }});
}

void Packet::Add(const Vlan& layer) {
  layers_.push_back({layer.tpid, -1, [layer](const Layer* next, const Bytes& rest) {
                       Bytes out;
                       Put16(out, static_cast<unsigned>(layer.priority << 13 | layer.id));
                       Put16(out, layer.type.value_or(next != nullptr ? next->ether_type : 0));
                       return Join(std::move(out), rest);
                     }});
}

void Packet::Add(const Ipv4& layer) {
  layers_.push_back({0x0800, IPPROTO_IPIP, [layer](const Layer* next, Bytes rest) {
                       Bytes options = layer.options;
                       while (options.size() % 4 != 0) options.push_back(0);
                       const auto protocol = layer.protocol.value_or(
                           static_cast<uint8_t>(next != nullptr && next->protocol >= 0 ? next->protocol : 253));
                       Bytes addresses;
                       PutAddress(addresses, layer.source, Family::kIpv4);
                       PutAddress(addresses, layer.destination, Family::kIpv4);
                       if (!layer.more_fragments && layer.fragment_offset == 0)
                         FillChecksum(rest, protocol, addresses);
                       const size_t header = 20 + options.size();
                       Bytes out;
                       Put8(out, static_cast<unsigned>(layer.version.value_or(4) << 4 |
                                                       layer.ihl.value_or(static_cast<uint8_t>(header / 4))));
                       Put8(out, layer.tos);
                       Put16(out, layer.total_length.value_or(static_cast<uint16_t>(header + rest.size())));
                       Put16(out, layer.id);
                       Put16(out,
                             static_cast<unsigned>((layer.dont_fragment ? 0x4000 : 0) |
                                                   (layer.more_fragments ? 0x2000 : 0) | layer.fragment_offset));
                       Put8(out, layer.ttl);
                       Put8(out, protocol);
                       Put16(out, 0);
                       out = Join(Join(std::move(out), addresses), options);
                       Set16(out, 10, layer.checksum.value_or(InternetChecksum(out.data(), out.size())));
                       return Join(std::move(out), rest);
                     }});
}

void Packet::Add(const Ipv6& layer) {
  layers_.push_back({0x86dd, IPPROTO_IPV6, [layer](const Layer* next, Bytes rest) {
                       const int protocol = next != nullptr && next->protocol >= 0 ? next->protocol : 59;
                       Bytes addresses;
                       PutAddress(addresses, layer.source, Family::kIpv6);
                       PutAddress(addresses, layer.destination, Family::kIpv6);
                       FillChecksum(rest, protocol, addresses);
                       Bytes out;
                       Put32(out, static_cast<uint32_t>(layer.version.value_or(6)) << 28 |
                                      static_cast<uint32_t>(layer.traffic_class) << 20);
                       Put16(out, layer.payload_length.value_or(static_cast<uint16_t>(rest.size())));
                       Put8(out, layer.next_header.value_or(static_cast<uint8_t>(protocol)));
                       Put8(out, layer.hop_limit);
                       return Join(Join(std::move(out), addresses), rest);
                     }});
}

void Packet::Add(const Ipv6Extension& layer) {
  layers_.push_back({0, layer.type, [layer](const Layer* next, const Bytes& rest) {
                       const bool authentication = layer.type == IPPROTO_AH;
                       Bytes out;
                       Put8(out, layer.next_header.value_or(static_cast<uint8_t>(
                                     next != nullptr && next->protocol >= 0 ? next->protocol : 59)));
                       // Authentication counts four-byte units minus two (RFC 4302, section 2.2).
                       Put8(out, layer.length_field.value_or(static_cast<uint8_t>(
                                     authentication ? layer.extra_units + 1 : layer.extra_units)));
                       out.resize(authentication ? 12 + 4 * layer.extra_units : 8 + 8 * layer.extra_units);
                       if (layer.type == IPPROTO_HOPOPTS || layer.type == IPPROTO_DSTOPTS) {
                         // PadN over all of it, in pieces of at most 255 + 2.
                         for (size_t at = 2; at < out.size();) {
                           const size_t size = std::min<size_t>(out.size() - at, 257);
                           if (size == 1) break;
                           out[at] = 1;
                           out[at + 1] = static_cast<uint8_t>(size - 2);
                           at += size;
                         }
                       }
                       return Join(std::move(out), rest);
                     }});
}

void Packet::Add(const Ipv6Fragment& layer) {
  layers_.push_back({0, IPPROTO_FRAGMENT, [layer](const Layer* next, const Bytes& rest) {
                       Bytes out;
                       Put8(out, layer.next_header.value_or(static_cast<uint8_t>(
                                     next != nullptr && next->protocol >= 0 ? next->protocol : 59)));
                       Put8(out, 0);
                       Put16(out, static_cast<unsigned>(layer.offset << 3 | (layer.more ? 1 : 0)));
                       Put32(out, layer.id);
                       return Join(std::move(out), rest);
                     }});
}

void Packet::Add(const Tcp& layer) {
  layers_.push_back({0, IPPROTO_TCP, [layer](const Layer*, const Bytes& rest) {
                       Bytes out;
                       Put16(out, layer.source_port);
                       Put16(out, layer.destination_port);
                       Put32(out, 1);
                       Put32(out, 0);
                       Put8(out, static_cast<unsigned>(layer.data_offset.value_or(5) << 4));
                       Put8(out, layer.flags);
                       Put16(out, 65535);
                       Put16(out, 0);
                       Put16(out, 0);
                       return Join(std::move(out), rest);
                     }});
}

void Packet::Add(const Udp& layer) {
  layers_.push_back({0, IPPROTO_UDP, [layer](const Layer*, const Bytes& rest) {
                       Bytes out;
                       Put16(out, layer.source_port);
                       Put16(out, layer.destination_port);
                       Put16(out, layer.length.value_or(static_cast<uint16_t>(8 + rest.size())));
                       Put16(out, layer.checksum.value_or(0));
                       return Join(std::move(out), rest);
                     }});
}

void Packet::Add(const Icmp& layer) {
  layers_.push_back({0, IPPROTO_ICMP, [layer](const Layer*, const Bytes& rest) {
                       Bytes out;
                       Put8(out, layer.type);
                       Put8(out, layer.code);
                       Put16(out, 0);
                       Put32(out, 0x00010001);
                       out = Join(std::move(out), rest);
                       Set16(out, 2, InternetChecksum(out.data(), out.size()));
                       return out;
                     }});
}

void Packet::Add(const Icmpv6& layer) {
  layers_.push_back({0, IPPROTO_ICMPV6, [layer](const Layer*, const Bytes& rest) {
                       Bytes out;
                       Put8(out, layer.type);
                       Put8(out, layer.code);
                       Put16(out, 0);
                       Put32(out, 0x00010001);
                       return Join(std::move(out), rest);
                     }});
}

void Packet::Add(const Protocol& layer) {
  layers_.push_back(
      {0, layer.number, [layer](const Layer*, const Bytes& rest) { return Join(layer.bytes, rest); }});
}

void Packet::Add(const Arp&) {
  layers_.push_back({0x0806, -1, [](const Layer*, const Bytes& rest) {
                       Bytes out;
                       Put16(out, 1);
                       Put16(out, 0x0800);
                       Put8(out, 6);
                       Put8(out, 4);
                       Put16(out, 1);
                       out.resize(28);
                       return Join(std::move(out), rest);
                     }});
}

void Packet::Add(const Payload& layer) {
  layers_.push_back({0, -1, [layer](const Layer*, const Bytes& rest) { return Join(layer.bytes, rest); }});
}

}  // namespace headgate::testing
