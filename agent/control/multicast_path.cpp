// SPDX-License-Identifier: Apache-2.0
#include "agent/control/multicast_path.h"

#include <absl/strings/str_cat.h>

#include <algorithm>
#include <limits>

#include "agent/control/compile_multicast.h"

namespace headgate {
namespace {

// Devices with larger ones may give a packet in several buffers: what one page holds beside the headroom and what
// the kernel keeps there.
constexpr uint32_t kOneBufferMtu = 3000;

const InterfaceState* Find(const std::map<std::string, InterfaceState>& interfaces, const std::string& name) {
  const auto found = interfaces.find(name);
  return found == interfaces.end() || !found->second.device ? nullptr : &found->second;
}

bool IsGeneric(const InterfaceState& interface) { return interface.mode == DriverMode::kGeneric; }

}  // namespace

// As bpf/multicast.bpf.c and Fanouts decide for each packet.
MulticastPath PathOf(const MulticastRoute& route, const std::map<std::string, InterfaceState>& interfaces) {
  if (std::string reason = WhyWorkers(route); !reason.empty()) return {true, true, std::move(reason)};
  uint32_t egress_mtu = std::numeric_limits<uint32_t>::max();
  for (const MulticastLeg& leg : route.legs) {
    const InterfaceState* egress = Find(interfaces, leg.interface);
    if (egress == nullptr) continue;
    if (IsGeneric(*egress)) {
      return {true, true, absl::StrCat("egress interface \"", leg.interface, "\" runs in generic mode")};
    }
    egress_mtu = std::min(egress_mtu, egress->device->mtu);
  }
  MulticastPath path;
  size_t generic = 0;
  for (const std::string& name : route.input.interfaces) {
    const InterfaceState* ingress = Find(interfaces, name);
    if (ingress == nullptr) continue;
    if (IsGeneric(*ingress)) {
      ++generic;
      path.reason = absl::StrCat("input interface \"", name, "\" runs in generic mode");
    } else if (path.reason.empty() && ingress->device->mtu > egress_mtu) {
      path.reason =
          absl::StrCat("packets above ", egress_mtu, " bytes, the smallest MTU of its legs, are workers'");
    } else if (path.reason.empty() && ingress->device->mtu > kOneBufferMtu) {
      path.reason = absl::StrCat("packets that \"", name, "\" receives in several buffers are workers'");
    }
  }
  path.workers = !path.reason.empty();
  path.userspace = generic != 0 && generic == route.input.interfaces.size();
  return path;
}

}  // namespace headgate
