// SPDX-License-Identifier: Apache-2.0
//
// One end of a wire: raw frames in and out of a device, in whichever namespace it is.
#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <string>

#include "agent/base/fd.h"
#include "tests/harness/packet.h"

namespace headgate::testing {

class Wire {
 public:
  // `netns`: full name; the device must exist.
  Wire(const std::string& netns, const std::string& device);

  void Send(const Bytes& frame);
  // The next frame that arrives for which `wanted` holds; others are dropped. Frames this end sent do not count.
  std::optional<Bytes> Receive(const std::function<bool(const Bytes&)>& wanted,
                               std::chrono::milliseconds timeout = std::chrono::seconds(3));
  // How many wanted frames have come when `count` have, or the time is over.
  size_t ReceiveCount(const std::function<bool(const Bytes&)>& wanted, size_t count,
                      std::chrono::milliseconds timeout = std::chrono::seconds(5));

 private:
  Fd socket_;
};

// Whether the frame ends in this payload, wherever it begins: for frames whose headers were rewritten. Frames
// shorter than 60 bytes may have been padded.
std::function<bool(const Bytes&)> CarriesPayload(Bytes payload);

// The kernel's own chatter on a wire left out: IPv6 autoconfiguration and the like.
bool IsIp(const Bytes& frame, uint8_t protocol);

}  // namespace headgate::testing
