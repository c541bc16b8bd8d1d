// SPDX-License-Identifier: Apache-2.0
//
// The compiler: keeps an image of every table of a generation, brings it from one state to the next, and hands
// what changed to the data plane.
#pragma once

#include <absl/status/statusor.h>

#include <cstdint>

#include "agent/control/compile_forward.h"
#include "agent/control/compile_multicast.h"
#include "agent/control/compile_rules.h"
#include "agent/control/compile_sets.h"
#include "agent/control/state.h"
#include "agent/dataplane/dataplane.h"

namespace headgate {

class Compiler {
 public:
  Compiler() : rules_(trees_, actions_), prefixes_(trees_) {}

  // Brings the image from the state compiled last to `next`. Nothing a packet can see changes.
  void Compile(const State& next);
  // Takes over the tables in force and brings them to `next`. Returns how many objects differed; fails when
  // they are not what this compiler could have left, and a fresh one has to compile all of `next`.
  absl::StatusOr<uint64_t> Adopt(const Dataplane& dataplane, const State& next);

  // Has a fresh compiler leave alone what the generation in force may reach, though Adopt refused it.
  void KeepClear(const Dataplane& dataplane);

  // Whether there is room for the image; the error names the table, what it needs and how to get it.
  absl::Status CheckRoom(const Dataplane& dataplane) const;
  // Writes what changed since the last time it succeeded.
  absl::Status Flush(Dataplane& dataplane);
  // The root record of the state compiled last, to be activated once flushed.
  uint32_t root() const { return root_; }
  // After activation: packets may now see what was written. `epoch` counts activations.
  void Published(uint64_t epoch);
  // No packet is older than `epoch` any more.
  void Reclaim(uint64_t epoch);

  // Compares the kernel's tables with the image and puts right what differs.
  absl::StatusOr<Repairs> Repair(Dataplane& dataplane);

  // Whether some table is so full of cells that wait to be reclaimed that the next change may not fit.
  bool Crowded(const Dataplane& dataplane) const;

  struct Use {
    uint64_t cells = 0;   // in use or waiting to be reclaimed
    uint64_t values = 0;  // of the table, that such cells fill
    uint64_t listed = 0;  // entries of the lists kept beside them
  };
  // By TableId.
  std::array<Use, kTables> Uses() const;

 private:
  // `self` is a Compiler, constant or not.
  template <typename Self, typename F>
  static void ForEachArena(Self& self, F&& visit);
  template <typename Arena>
  absl::Status Load(const Dataplane& dataplane, TableId table, uint32_t values, Arena& arena);
  void WriteRoot(const State& state);

  TreeStore trees_;
  ActionTable actions_;
  RuleTable rules_;
  PrefixTable prefixes_;
  NextHopTable next_hops_;
  TargetTable targets_;
  MulticastTable multicast_;
  Arena<hg_root, 1> roots_;
  uint32_t root_ = 0;
  State compiled_;
};

}  // namespace headgate
