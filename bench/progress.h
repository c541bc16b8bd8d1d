// SPDX-License-Identifier: Apache-2.0
//
// A line each second about traffic that is under way: on a terminal it overwrites the one before.
#pragma once

#include <absl/functional/function_ref.h>
#include <absl/status/status.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

namespace headgate::bench {

// What has been counted so far, by those ends of the path that there are.
struct Counts {
  std::optional<uint64_t> sent, refused;  // frames
  // First arrivals, and numbers up to the highest that came of which no frame did.
  std::optional<uint64_t> received, lost;
};

// Rates are of the `interval` from `before` to `now`. Without the line's end.
std::string ToProgressLine(std::chrono::nanoseconds since_start, std::chrono::nanoseconds interval,
                           const Counts& before, const Counts& now);

class Progress {
 public:
  // Writes to the file descriptor, or when `quiet` nothing. Time starts.
  Progress(bool quiet, int fd);
  // Ends a line that stands on a terminal.
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // To be called often. Reads and writes when a second is over. A line that cannot be written is left out.
  absl::Status Update(absl::FunctionRef<absl::Status(Counts&)> read);

 private:
  using Clock = std::chrono::steady_clock;
  void Write(const std::string& text) const;

  bool quiet_;
  int fd_;
  bool terminal_;
  bool line_stands_ = false;
  Clock::time_point start_ = Clock::now(), last_ = start_;
  Counts before_;
};

}  // namespace headgate::bench
