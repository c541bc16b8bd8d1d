// SPDX-License-Identifier: Apache-2.0
//
// What a sender's frames look like, and the template its BPF program fills in for each.
#pragma once

#include <absl/status/statusor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "agent/base/address.h"
#include "bench/bpf/wire.h"
#include "bench/geneve.h"

namespace headgate::bench {

enum class Transport : uint8_t { kUdp, kTcp };

// Flow f of `flows` has the source port `source_port` + f % 256 and the source address `source` + f / 256.
struct FrameSpec {
  MacAddress destination_mac{};
  MacAddress source_mac{};
  IpAddress source;
  IpAddress destination;  // of the source's family
  Transport transport = Transport::kUdp;
  uint16_t source_port = 10000;
  uint16_t destination_port = 20000;
  uint32_t size = 64;  // bytes of a frame, without FCS; of the largest, when there are several sizes
  // When there are any: frames have these sizes in turn, up to HGB_SIZES of them.
  std::vector<uint32_t> sizes = {};
  uint32_t flows = 1;
  uint16_t stream = 0;
  // Each flow goes to so many groups in turn: `destination`, which is one, and those after it.
  uint32_t groups = 1;
  // Frames go to the Ethernet address of their group instead of `destination_mac`. Not in a tunnel.
  bool group_macs = false;
  bool wrapped = false;  // in GENEVE
  GeneveSpec geneve = {};
};

// Whether it is a multicast address.
bool IsGroup(const IpAddress& address);
// A group's own (RFC 1112, section 6.4; RFC 2464, section 7).
MacAddress GroupMac(const IpAddress& group);

// What a page of a prog run has room for, whatever the kernel's own structs in it take.
inline constexpr uint32_t kMaxFrameBytes = HGB_FRAME_BYTES;

// The smallest frame that holds the headers and the record.
uint32_t MinFrameBytes(const FrameSpec& spec);

// Errors say which field is wrong.
absl::StatusOr<hgb_template> BuildTemplate(const FrameSpec& spec);

// The same for frames into which hgb_write_header writes (bench/bpf/header.h): without a record, and as right for
// TCP as for UDP. The frame is of UDP over IPv4.
absl::StatusOr<hgb_template> BuildHeaderTemplate(const FrameSpec& spec);

// The frame of a flow with its record's number and time zero: as the program would send it. Of several sizes, the
// largest; its lengths are left to the program.
std::vector<uint8_t> BuildFrame(const FrameSpec& spec, const hgb_template& frame, uint32_t flow);

// One size of a mix, and how many of the mix's frames have it.
struct SizeShare {
  uint32_t size = 0;
  uint32_t share = 0;
};
// "1400", "64:7,594:4,1518:1", or "imix": the Internet mix of 7 frames of 64 bytes to 4 of 594 and 1 of 1518 with
// FCS, which are 60, 590 and 1514 without. At least one.
absl::StatusOr<std::vector<SizeShare>> ParseSizes(const std::string& text);
// The sizes of all shares, each spread as evenly as can be. Of one size: nothing.
std::vector<uint32_t> SpreadSizes(const std::vector<SizeShare>& mix);

}  // namespace headgate::bench
