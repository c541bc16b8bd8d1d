// SPDX-License-Identifier: Apache-2.0
//
// States and changes of the control plane from YAML as users write it, and states as text: for tests of what is
// below the API.
#pragma once

#include <memory>
#include <string>

#include "agent/api/convert.h"
#include "agent/control/change.h"

namespace headgate::testing {

// The pool that all objects made here share.
api::ActionPool& Actions();

// A whole document, and a patch, as YAML. Text that is no message throws; what is wrong with its values is among
// the change's violations, with paths that begin with "config" and "patch".
Change Config(const std::string& yaml);
Change Patch(const std::string& yaml);

// Everything of a state but its generation, an object a line, in order: equal texts are equal states. With ids or
// without.
std::string Describe(const State& state, bool ids = true);

// "FIELD: DESCRIPTION" lines.
std::string Describe(const Violations& violations);

// Applies changes one after the other, as the controller does, with ids that are free again at once.
class Desired {
 public:
  explicit Desired(const Limits& limits = {}) : limits_(limits), ids_(limits.max_entries) {}

  // Takes the new state on when there is one.
  ChangeResult Apply(Change change);
  // The same of a change that must be right; throws when it is not.
  const Snapshot& Must(Change change);
  // What the change would do.
  ChangeResult Try(Change change) { return BuildState(state_, std::move(change), limits_, ids_, true); }

  const State& operator*() const { return *state_; }
  const State* operator->() const { return state_.get(); }
  const Snapshot& state() const { return state_; }
  IdAllocators& ids() { return ids_; }

 private:
  Limits limits_;
  IdAllocators ids_;
  Snapshot state_ = std::make_shared<const State>();
};

}  // namespace headgate::testing
