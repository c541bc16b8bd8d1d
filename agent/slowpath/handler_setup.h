// SPDX-License-Identifier: Apache-2.0
//
// What a steer target's handler is to do.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <variant>

#include "agent/slowpath/multicast_plan.h"

namespace headgate {

struct CountSetup {
  friend bool operator==(const CountSetup&, const CountSetup&) = default;
};
struct EchoSetup {
  friend bool operator==(const EchoSetup&, const EchoSetup&) = default;
};
struct TapSetup {
  std::string device;
  bool tun = false;
  uint32_t port = 0;  // by which frames of unknown destination leave; 0: none
  friend bool operator==(const TapSetup&, const TapSetup&) = default;
};
struct AppSetup {
  std::string target;  // the name by which processes ask for it
  std::string group;   // whose processes may; empty: root's alone
  friend bool operator==(const AppSetup&, const AppSetup&) = default;
};
// Of HG_TARGET_MULTICAST alone.
struct MulticastSetup {
  std::shared_ptr<const MulticastPlan> plan;  // never null
  friend bool operator==(const MulticastSetup& a, const MulticastSetup& b) {
    return a.plan == b.plan || *a.plan == *b.plan;
  }
};
using HandlerSetup = std::variant<CountSetup, EchoSetup, TapSetup, AppSetup, MulticastSetup>;

// Whether handlers of the one may go on with the other, so that packets need not wait for new ones.
inline bool MayGoOn(const HandlerSetup& now, const HandlerSetup& wanted) {
  return now == wanted ||
         (std::holds_alternative<MulticastSetup>(now) && std::holds_alternative<MulticastSetup>(wanted));
}

}  // namespace headgate
