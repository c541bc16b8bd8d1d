// SPDX-License-Identifier: Apache-2.0
//
// A TUN or TAP device's user end. A device that does not exist is made, and goes with this; one that was made to
// stay (ip tuntap add) is attached to, and stays. Its MTU, addresses and namespace are its owner's: frames of any
// size can be written whatever the MTU, which bounds only what its software sends.
#pragma once

#include <absl/status/statusor.h>
#include <absl/types/span.h>
#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "agent/base/fd.h"

namespace headgate {

class TapDevice {
 public:
  // Up when this returns. `tun`: carries IP packets, else Ethernet frames.
  static absl::StatusOr<TapDevice> Open(const std::string& name, bool tun);
  // A stand-in: one packet a read and a write.
  explicit TapDevice(Fd fd) : fd_(std::move(fd)) {}

  int fd() const { return fd_.get(); }
  // False: it takes none, because it is down, say.
  bool Write(absl::Span<const iovec> packet);
  // Bytes of a packet; 0: there is none.
  size_t Read(absl::Span<uint8_t> buffer);
  // The device is gone, as when it was deleted.
  bool is_gone() const { return gone_; }

 private:
  Fd fd_;
  bool gone_ = false;
};

}  // namespace headgate
