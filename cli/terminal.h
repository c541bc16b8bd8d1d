// SPDX-License-Identifier: Apache-2.0
//
// A terminal taken over: another screen, keys as they are pressed, signals as things to read. Given back as it was
// when this goes.
#pragma once

#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>
#include <signal.h>
#include <termios.h>

#include <cstddef>
#include <memory>

#include "agent/base/fd.h"

namespace headgate::cli {

class Terminal {
 public:
  enum class Event { kKey, kQuit, kResize, kWake };

  static bool IsPossible();
  // Before other threads are started: they must not take the signals.
  static absl::StatusOr<std::unique_ptr<Terminal>> Open();
  ~Terminal();

  // Waits for the next event; Wake() from another thread is one.
  Event Next();
  void Wake();
  // Of the last kKey.
  char key() const { return key_; }

  // The whole screen.
  void Draw(absl::string_view text);
  size_t height() const;

 private:
  Terminal() = default;

  termios before_{};
  sigset_t mask_before_{};
  Fd signals_;
  Fd wake_;
  char key_ = 0;
};

}  // namespace headgate::cli
