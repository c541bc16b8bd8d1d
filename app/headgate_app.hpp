// SPDX-License-Identifier: Apache-2.0
//
// headgate_app.h for C++17 and later: the target is let go of with the object. What calls do, their units and
// threads are told there; failures that end what was asked for are std::system_error.
#ifndef HEADGATE_APP_HPP
#define HEADGATE_APP_HPP

#include "headgate_app.h"

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <string>
#include <system_error>
#include <utility>

namespace headgate {

class Application {
 public:
  using Packet = hga_packet;

  // `socket`: empty for the default. `flags`: HGA_RETRY.
  explicit Application(const std::string& target, const std::string& socket = {}, unsigned flags = 0) {
    Check(hga_open(&app_, socket.empty() ? nullptr : socket.c_str(), target.c_str(), flags),
          "headgate target " + target);
  }
  ~Application() { hga_close(app_); }
  Application(Application&& other) noexcept : app_(std::exchange(other.app_, nullptr)) {}
  Application& operator=(Application&& other) noexcept {
    std::swap(app_, other.app_);
    return *this;
  }
  Application(const Application&) = delete;
  Application& operator=(const Application&) = delete;

  // Why not connected; none: it is.
  std::error_code status() const { return {-hga_status(app_), std::generic_category()}; }
  unsigned channels() const { return hga_channels(app_); }

  // Whether there is something to be received; false also after a signal. Negative: for ever.
  bool Wait(unsigned channel, std::chrono::milliseconds timeout) {
    const int found = hga_wait(app_, channel, static_cast<int>(timeout.count()));
    return found == -EINTR ? false : Check(found, "wait for packets") != 0;
  }
  // How many packets it has put at `packets`, of at most `most`.
  std::size_t Receive(unsigned channel, Packet* packets, std::size_t most) {
    return static_cast<std::size_t>(
        Check(hga_receive(app_, channel, packets, static_cast<unsigned>(most)), "receive packets"));
  }
  // As hga_send says: under load, frames that cannot be sent are no exception.
  int Send(unsigned channel, std::uint16_t port, const void* frame, std::uint32_t length) {
    return hga_send(app_, channel, port, frame, length);
  }
  void Flush(unsigned channel) { hga_flush(app_, channel); }
  int fd(unsigned channel) { return Check(hga_fd(app_, channel), "watch a channel"); }

 private:
  static int Check(int result, const std::string& what) {
    if (result < 0) throw std::system_error(-result, std::generic_category(), what);
    return result;
  }
  hga* app_ = nullptr;
};

}  // namespace headgate

#endif
