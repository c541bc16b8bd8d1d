// SPDX-License-Identifier: Apache-2.0
//
// What the parser must make of a frame, in plain C++ from the RFCs and the documented reasons: slow, and readable
// beside them. It cuts the frame down to the packet, and the packet down to each header's payload, where the
// program compares offsets; that the two agree is what the fuzzer checks.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>

#include "bpf/hg_abi.h"

namespace headgate::testing {

struct Parsed {
  std::optional<hg_reason> malformed;  // the rest says nothing then

  std::array<uint32_t, 4> source{};  // host-order words
  std::array<uint32_t, 4> destination{};
  uint16_t source_port = 0;
  uint16_t destination_port = 0;
  uint8_t icmp_type = 0;
  uint8_t icmp_code = 0;
  uint8_t protocol = 0;
  uint8_t dscp = 0;
  uint8_t tcp_flags = 0;
  uint16_t vlan = 0;
  uint16_t inner_vlan = 0;
  uint32_t length = 0;  // from the network header on, without padding when IP tells
  bool ipv4 = false;
  bool ipv6 = false;
  bool fragment = false;
  bool later = false;
  bool ports = false;
  bool icmp = false;
  bool essential = false;  // ARP, ND, IGMP, MLD, LLDP
  bool group = false;      // to a multicast or broadcast address

  // The match key that these make for an ingress port.
  std::array<uint32_t, HG_WORDS> Key(uint32_t port) const;
};

Parsed ParseFrame(std::span<const uint8_t> frame);

}  // namespace headgate::testing
