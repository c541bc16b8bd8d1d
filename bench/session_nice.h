// SPDX-License-Identifier: Apache-2.0
//
// The nice value of the session, where the kernel schedules by session (sched(7), autogroup): threads' own count
// within it.
#pragma once

#include <fstream>
#include <string>

namespace headgate::bench {

// For as long as it lives.
class SessionNice {
 public:
  explicit SessionNice(int nice) {
    std::ifstream file(kPath);
    std::string group, word;
    if (file >> group >> word >> before_) changed_ = Write(nice);
  }
  ~SessionNice() {
    if (changed_) Write(before_);
  }
  SessionNice(const SessionNice&) = delete;
  SessionNice& operator=(const SessionNice&) = delete;

 private:
  static constexpr char kPath[] = "/proc/self/autogroup";
  static bool Write(int nice) { return static_cast<bool>(std::ofstream(kPath) << nice << std::flush); }

  int before_ = 0;
  bool changed_ = false;
};

}  // namespace headgate::bench
