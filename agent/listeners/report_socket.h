// SPDX-License-Identifier: Apache-2.0
//
// IGMP and MLD at one device: all that hosts behind it say, and queries to them. A packet socket: reports go to
// the groups themselves, of which this host is no member.
#pragma once

#include <absl/status/statusor.h>
#include <absl/types/span.h>

#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "agent/base/fd.h"
#include "agent/listeners/message.h"

namespace headgate {

class ReportSocket {
 public:
  // Untagged packets of the device from now on, but none that this host sends.
  static absl::StatusOr<ReportSocket> Open(uint32_t ifindex);

  int fd() const { return fd_.get(); }
  struct Received {
    absl::Span<const uint8_t> packet;  // until the next call
    MacAddress from{};
  };
  // Nothing: none waits.
  std::optional<Received> Receive();
  absl::Status Send(const ListenerQuery& query, const IpAddress& source);

 private:
  ReportSocket(Fd fd, uint32_t ifindex) : fd_(std::move(fd)), ifindex_(ifindex) {}

  Fd fd_;
  uint32_t ifindex_;
  std::vector<uint8_t> buffer_ = std::vector<uint8_t>(65536);
};

// By ifindex, the addresses that MLD may be spoken from.
std::map<uint32_t, IpAddress> LinkLocalAddresses();

}  // namespace headgate
