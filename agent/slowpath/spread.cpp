// SPDX-License-Identifier: Apache-2.0
#include "agent/slowpath/spread.h"

#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>

#include <cstddef>
#include <cstring>

namespace headgate {
namespace {

// Odd and without pattern: the golden ratio, as in Knuth's multiplicative hashing.
constexpr uint64_t kMultiplier = 0x9e3779b97f4a7c15;

uint64_t Mix(uint64_t value) {
  value *= kMultiplier;
  return value ^ (value >> 32);
}

template <typename T>
T Load(const uint8_t* data) {
  T value;
  std::memcpy(&value, data, sizeof(value));
  return value;
}

// One end of a flow.
uint64_t End(const uint8_t* address, size_t bytes, uint16_t port) {
  uint64_t end = port;
  for (size_t i = 0; i < bytes; i += sizeof(uint32_t)) end = Mix(end ^ Load<uint32_t>(address + i));
  return end;
}

}  // namespace

uint32_t SpreadHash(const Packet& packet, SpreadMode mode) {
  const Segment& first = packet.segments[0];
  const hg_steer_meta& meta = packet.meta;
  const bool ipv6 = (meta.kind & HG_KIND_IPV6) != 0;
  const size_t header = ipv6 ? sizeof(ipv6hdr) : sizeof(iphdr), address = ipv6 ? 16 : 4;
  if ((meta.kind & (HG_KIND_IPV4 | HG_KIND_IPV6)) == 0 || meta.l3 + header > first.length) {
    // No IP: by Ethernet addresses.
    if (first.length < sizeof(ethhdr)) return 0;
    const uint64_t source = End(first.data + ETH_ALEN + 2, 4, 0), destination = End(first.data + 2, 4, 0);
    return static_cast<uint32_t>(Mix(mode == SpreadMode::kSource ? source : source + destination) >> 32);
  }
  const uint8_t* ip = first.data + meta.l3;
  const uint8_t* source = ip + (ipv6 ? offsetof(ipv6hdr, saddr) : offsetof(iphdr, saddr));
  if (mode == SpreadMode::kSource) return static_cast<uint32_t>(Mix(End(source, address, 0)) >> 32);
  uint16_t source_port = 0, destination_port = 0;
  if ((meta.kind & HG_KIND_PORTS) != 0 && (meta.kind & HG_KIND_FRAGMENT) == 0 &&
      meta.l4 + 2 * sizeof(uint16_t) <= first.length) {
    source_port = Load<uint16_t>(first.data + meta.l4);
    destination_port = Load<uint16_t>(first.data + meta.l4 + sizeof(uint16_t));
  }
  const uint64_t from = End(source, address, source_port);
  const uint64_t to = End(source + address, address, destination_port);
  // A sum is the same both ways round.
  const uint64_t ends = mode == SpreadMode::kFlowSymmetric ? from + to : Mix(from) + to;
  return static_cast<uint32_t>(Mix(ends) >> 32);
}

}  // namespace headgate
