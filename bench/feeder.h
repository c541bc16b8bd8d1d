// SPDX-License-Identifier: Apache-2.0
//
// Times an XDP program by prog runs in which every packet is another one.
#pragma once

#include <absl/status/statusor.h>
#include <absl/types/span.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "bench/bpf/header.h"

struct feed_bpf;  // the skeleton

namespace headgate::bench {

class Feeder {
 public:
  // Loads the headers.
  static absl::StatusOr<std::unique_ptr<Feeder>> Open(absl::Span<const hgb_header> headers);
  ~Feeder();
  Feeder(const Feeder&) = delete;
  Feeder& operator=(const Feeder&) = delete;

  // Hands every header to the program once. Like Time in all else.
  absl::Status FeedAll(int program, uint32_t ifindex);

  // Mean time of a packet, in nanoseconds, over all headers in turn, each as often as the others, which come in by
  // a device of the calling thread's namespace. The feeder's own share is the same for every program. The program
  // passes or drops, and has xdp.frags.
  absl::StatusOr<double> Time(int program, uint32_t ifindex);

 private:
  Feeder() = default;
  absl::Status Load(absl::Span<const hgb_header> headers);
  // Goes on where the last run ended. The mean of its packets.
  absl::StatusOr<double> Run(int program, uint32_t ifindex, size_t packets);

  feed_bpf* skeleton_ = nullptr;
  size_t count_ = 0;
  std::vector<uint8_t> frame_;
};

}  // namespace headgate::bench
