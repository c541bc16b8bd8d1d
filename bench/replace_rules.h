// SPDX-License-Identifier: Apache-2.0
//
// What the replace benchmark configures, in turn.
#pragma once

#include <absl/status/statusor.h>

#include <string>
#include <vector>

#include "bench/frame.h"
#include "bench/gateway_client.h"

namespace headgate::bench {

// Interfaces are "in" and "out", as their stats are.
struct ReplacePath {
  std::string in;  // devices
  std::string out;
  std::string source_mac;
  std::string destination_mac;
};

// What is sent: up to 256 flows from one address.
FrameSpec ReplaceFrames(uint32_t flows);

// Each replaces all rules of the one before, but for the one of lowest priority, which redirects all that comes in
// by `in`: a ClassBench set; the same with source and destination exchanged, under other names; and none, so that
// all the room that rules took is given back. The few rules of the set that match any of the frames are left out,
// so that these are redirected all the time.
struct ReplaceCycle {
  std::vector<v1::ApplyRequest> requests;
  size_t rules = 0;  // of the set
};
absl::StatusOr<ReplaceCycle> MakeReplaceCycle(const std::string& rule_set, const ReplacePath& path,
                                              const FrameSpec& frames);

}  // namespace headgate::bench
