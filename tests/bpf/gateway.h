// SPDX-License-Identifier: Apache-2.0
//
// The programs under a configuration written as users write it: YAML is read, validated and compiled by the
// agent's own code, and what a packet moves is told by the names the configuration gave.
#pragma once

#include <array>
#include <map>
#include <ostream>
#include <string>
#include <vector>

#include "agent/api/convert.h"
#include "agent/control/change.h"
#include "tests/harness/program.h"

namespace headgate::testing {

struct Count {
  uint64_t packets = 0;
  uint64_t bytes = 0;
  friend bool operator==(const Count&, const Count&) = default;
  friend void PrintTo(const Count& count, std::ostream* out) {
    *out << count.packets << " packets, " << count.bytes << " bytes";
  }
};

// Everything one packet did.
struct Outcome {
  uint32_t verdict = 0;                      // XDP_*
  std::string reason;                        // the one that counted
  std::string rule;                          // the one that counted, empty: none
  bool limited = false;                      // counted by the rule as above its rate
  std::string route;                         // the multicast route that counted, empty: none
  std::map<std::string, uint64_t> counters;  // packets by named counter, those that moved
  Bytes output;
  Bytes metadata;  // before it
};

std::string VerdictName(uint32_t verdict);
// The only verdict that the class of a reason allows.
uint32_t VerdictOf(const std::string& reason);

class Gateway {
 public:
  // Packets come in by the first interface, which is bound to `kIngressIfindex`; the others have no device yet.
  explicit Gateway(const std::string& name, std::vector<std::string> interfaces = {"in", "out"},
                   TableSizes sizes = {.max_entries = 16384, .max_prefixes = 16384});

  // Puts a document in force, to which the interfaces are added. Throws with everything that is wrong with it.
  void Configure(const std::string& yaml);
  // As Configure, for a change made without text.
  void Apply(Change change);

  // One packet through the program that devices run. Checks what holds for every packet: one reason counts it, the
  // verdict is the one that the reason is documented with, what passes is unchanged, what the kernel is to copy is
  // offered once to each leg of its multicast route and to no other, and a trace beforehand tells the same and
  // leaves no mark.
  Outcome Run(const Bytes& frame);
  // The match key that the parser makes of a frame; ended early when the frame is malformed.
  std::array<uint32_t, HG_WORDS> Key(const Bytes& frame);

  hg_rule_count RuleCount(const std::string& rule) const;
  Count NamedCount(const std::string& counter) const;
  Count RouteCount(const std::string& multicast_route) const;
  // Packets by leg, "route/leg".
  std::map<std::string, uint64_t> Offered() const;
  // Packets and bytes of the ingress port by reason, those that are not zero.
  std::map<std::string, Count> Reasons() const;

  uint32_t Port(const std::string& interface) const { return state_->interfaces.Get(interface)->id; }
  // Ties an interface to a device that exists where the calling thread is.
  void Bind(const std::string& interface, uint32_t ifindex, const std::string& mac);
  const State& state() const { return *state_; }
  Program& program() { return program_; }

 private:
  // What multicast has counted.
  struct Multicast {
    std::map<std::string, Count> routes;
    std::map<std::string, uint64_t> offered;
    friend bool operator==(const Multicast&, const Multicast&) = default;
  };
  Multicast CountMulticast() const;
  void CheckMulticast(const Multicast& before, size_t length, Outcome& outcome) const;
  TraceResult Trace(const Bytes& frame);
  std::vector<std::string> interfaces_;
  Limits limits_;
  IdAllocators ids_;
  api::ActionPool actions_;
  Snapshot state_ = std::make_shared<const State>();
  mutable Program program_;
};

}  // namespace headgate::testing
