// SPDX-License-Identifier: Apache-2.0
//
// GENEVE (RFC 8926) around what a sender sends: an IP packet in UDP, without an inner Ethernet header, as gateway
// load balancers wrap it.
#pragma once

#include <absl/status/statusor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "agent/base/address.h"

namespace headgate::bench {

// Base header and options at their longest (RFC 8926, section 3.4).
inline constexpr uint32_t kMaxGeneveBytes = 8 + 252;

struct GeneveSpec {
  IpAddress source;
  IpAddress destination;         // of the source's family
  uint32_t vni = 0;              // 24 bits
  std::vector<uint8_t> options;  // as they are on the wire, up to 252 bytes
};

// "CLASS:TYPE:HEX", all in hexadecimal: class up to ffff, type up to ff, and as data a multiple of 4 bytes up to
// 124, or none. As it is on the wire.
absl::StatusOr<std::vector<uint8_t>> ParseGeneveOption(const std::string& text);

// What GENEVE's base header and its options take.
uint32_t GeneveBytes(const GeneveSpec& spec);
absl::Status ValidateGeneve(const GeneveSpec& spec);
// GeneveBytes at `header`, around a packet of that EtherType.
void WriteGeneve(const GeneveSpec& spec, uint16_t type, uint8_t* header);

}  // namespace headgate::bench
