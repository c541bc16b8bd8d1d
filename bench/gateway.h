// SPDX-License-Identifier: Apache-2.0
//
// What a redirect benchmark puts between two devices: Headgate, or the bare program it is compared with.
#pragma once

#include <absl/status/statusor.h>
#include <absl/types/span.h>

#include <cstdint>
#include <memory>
#include <string>

#include "agent/base/address.h"

namespace headgate::bench {

// Where frames come in and go out, and the addresses they leave with.
struct GatewayPath {
  std::string netns;
  std::string in;
  std::string out;
  MacAddress source_mac{};
  MacAddress destination_mac{};
};

// Redirects from `in` to `out` until destroyed.
class Gateway {
 public:
  virtual ~Gateway() = default;
  // Frames it has dropped, by its own counters, of those that came in by `in`. Fails unless what came in is `sent`
  // frames and what left by `out` is `received`. The bare program does not count: it believes.
  virtual absl::StatusOr<uint64_t> CheckAccount(uint64_t sent, uint64_t received) = 0;
  // Mean time of the program alone for a frame that comes in by the path's `in`.
  virtual absl::StatusOr<double> ProgramNanoseconds(absl::Span<const uint8_t> frame) = 0;
};

absl::StatusOr<std::unique_ptr<Gateway>> StartBareRedirect(const GatewayPath& path);

// Headgate with about 1,000 rules (ClassBench acl1_1k), none of which the frame matches, before the one of lowest
// priority that redirects everything from `in`, and with all its counters. `frame` is one of those to be sent.
absl::StatusOr<std::unique_ptr<Gateway>> StartHeadgate(const GatewayPath& path, absl::Span<const uint8_t> frame);

}  // namespace headgate::bench
