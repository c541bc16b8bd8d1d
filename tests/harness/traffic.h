// SPDX-License-Identifier: Apache-2.0
//
// Full-rate traffic through a gateway in a lab, and the account of it: what was sent, what arrived and in which
// form, and what the gateway says it did with the rest.
#pragma once

#include <absl/status/statusor.h>

#include <functional>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "bench/receiver.h"
#include "bench/sender.h"
#include "tests/harness/agent.h"
#include "tests/harness/lab.h"
#include "tests/harness/packet.h"
#include "tests/harness/tally.h"

struct tally_bpf;  // the skeleton

namespace headgate::testing {

// The value, or an exception, which fails the test.
template <typename T>
T Value(absl::StatusOr<T> value) {
  if (!value.ok()) throw std::runtime_error(value.status().ToString());
  return *std::move(value);
}
void Ok(const absl::Status& status);

// UDP over IPv4 from 192.0.2.1 on (256 flows an address), to 198.51.100.1 port 20000, TTL 64.
bench::FrameSpec FlowFrames(uint32_t flows, uint16_t stream = 1);
// From the namespace "client", as fast as the gateway takes them, until it is stopped. The gateway receives them
// on the CPU given, which keeps the path free of loss: its stages run one after the other.
std::unique_ptr<bench::Sender> OpenSender(const Lab& lab, const bench::FrameSpec& frame, int cpu = 0,
                                          const std::string& device = "c0");
std::unique_ptr<bench::Receiver> OpenReceiver(const Lab& lab, const std::string& ns, const std::string& device);

// Counts the frames that arrive at a device by what was done to them.
class Tally {
 public:
  // `delay`: a number of steps of some nanoseconds that it takes for each frame, so that the ring before it fills
  // up. `payloads`: marks have them.
  Tally(const Lab& lab, const std::string& ns, const std::string& device, uint32_t delay = 0,
        bool payloads = false);
  ~Tally();
  Tally(const Tally&) = delete;
  Tally& operator=(const Tally&) = delete;

  uint64_t Frames() const;
  // Those with XDP metadata before them, which nobody meant for who receives them.
  uint64_t FramesWithMetadata() const;
  // Visits every kind of frame that came; throws when there were more kinds than it has room for.
  void ForEach(const std::function<void(const hgt_mark&, uint64_t frames)>& visit) const;

 private:
  std::vector<uint64_t> Total(uint32_t key) const;
  tally_bpf* skeleton_;
  Fd link_;
};

// As marks have it.
uint64_t PayloadHash(const Bytes& payload);

// What the gateway says of frames that came in through some interfaces and were to leave by others.
struct Account {
  uint64_t received = 0;
  std::map<std::string, uint64_t> reasons;
  uint64_t transmitted = 0, dropped = 0, refused = 0;  // at egress

  // By the program, and at egress.
  uint64_t forwarded() const;
  uint64_t lost_at_egress() const { return dropped + refused; }
  friend void PrintTo(const Account& account, std::ostream* out);
};
Account ReadAccount(Client& client, const std::vector<std::string>& in, const std::vector<std::string>& out);

// `count` rules of all kinds of match that match none of FlowFrames, as YAML lines of a `rules:` list: priorities
// from 1000 up, named bystander-0 and so on.
std::string Bystanders(size_t count);

// The document as an ApplyRequest that waits until it is in force.
pb::ApplyRequest WholeConfig(const std::string& yaml);

// Every object with its id, without its status; and the generation.
std::string Holdings(Client& client);

}  // namespace headgate::testing
