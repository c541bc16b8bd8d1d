// SPDX-License-Identifier: Apache-2.0
#include "bench/progress.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <unistd.h>

#include "agent/base/status.h"

namespace headgate::bench {
namespace {

constexpr std::chrono::seconds kInterval(1);
constexpr char kBackToStart[] = "\r\033[K";  // and clear what stands there

double Seconds(std::chrono::nanoseconds time) { return std::chrono::duration<double>(time).count(); }

double Rate(uint64_t before, uint64_t now, double seconds) {
  return seconds > 0 && now > before ? static_cast<double>(now - before) / seconds : 0;
}

}  // namespace

std::string ToProgressLine(std::chrono::nanoseconds since_start, std::chrono::nanoseconds interval,
                           const Counts& before, const Counts& now) {
  const double seconds = Seconds(interval);
  std::string line = absl::StrFormat("%.0f s:", Seconds(since_start));
  const char* separator = " ";
  if (now.sent) {
    absl::StrAppendFormat(&line, "%ssent %.0f/s, %d in all", separator,
                          Rate(before.sent.value_or(0), *now.sent, seconds), *now.sent);
    if (now.refused.value_or(0) != 0) absl::StrAppend(&line, ", ", *now.refused, " refused");
    separator = "; ";
  }
  if (now.received) {
    absl::StrAppendFormat(&line, "%sreceived %.0f/s, %d in all", separator,
                          Rate(before.received.value_or(0), *now.received, seconds), *now.received);
  }
  if (now.lost) {
    const uint64_t all = now.received.value_or(0) + *now.lost;
    absl::StrAppendFormat(&line, ", %d lost (%.3g %%)", *now.lost,
                          all != 0 ? 100 * static_cast<double>(*now.lost) / static_cast<double>(all) : 0);
  }
  return line;
}

Progress::Progress(bool quiet, int fd) : quiet_(quiet), fd_(fd), terminal_(isatty(fd) == 1) {}

Progress::~Progress() {
  if (line_stands_) Write("\n");
}

absl::Status Progress::Update(absl::FunctionRef<absl::Status(Counts&)> read) {
  const auto time = Clock::now();
  if (quiet_ || time - last_ < kInterval) return absl::OkStatus();
  Counts now;
  HG_RETURN_IF_ERROR(read(now));
  const std::string line = ToProgressLine(time - start_, time - last_, before_, now);
  Write(terminal_ ? absl::StrCat(kBackToStart, line) : absl::StrCat(line, "\n"));
  line_stands_ = terminal_;
  before_ = now;
  last_ = time;
  return absl::OkStatus();
}

void Progress::Write(const std::string& text) const {
  if (write(fd_, text.data(), text.size()) < 0) return;
}

}  // namespace headgate::bench
