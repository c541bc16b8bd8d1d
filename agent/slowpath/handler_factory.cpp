// SPDX-License-Identifier: Apache-2.0
#include "agent/slowpath/handler_factory.h"

#include <random>

#include "agent/base/status.h"
#include "agent/slowpath/app_handler.h"
#include "agent/slowpath/app_server.h"
#include "agent/slowpath/count_handler.h"
#include "agent/slowpath/echo_handler.h"
#include "agent/slowpath/multicast_handler.h"
#include "agent/slowpath/tap_handler.h"

namespace headgate {
namespace {

using Made = absl::StatusOr<std::unique_ptr<Handler>>;

uint64_t Random() {
  std::random_device random;
  return uint64_t{random()} << 32 | random();
}

struct Maker {
  const SlowPathConfig::Target& target;
  const HandlerPlace& place;
  Made operator()(const CountSetup&) const { return std::make_unique<CountHandler>(); }
  Made operator()(const EchoSetup&) const { return std::make_unique<EchoHandler>(); }
  Made operator()(const TapSetup& setup) const {
    HG_ASSIGN_OR_RETURN(TapDevice device, TapDevice::Open(setup.device, setup.tun));
    return std::make_unique<TapHandler>(setup, std::move(device), Random());
  }
  Made operator()(const MulticastSetup& setup) const {
    return std::make_unique<MulticastHandler>(setup, *place.multicast, Random());
  }
  Made operator()(const AppSetup&) const {
    if (place.apps == nullptr) return absl::FailedPreconditionError("headgated has no socket for applications");
    return AppHandler::Make(place.apps->Mailbox(target.id, place.worker));
  }
};

}  // namespace

absl::StatusOr<std::unique_ptr<Handler>> MakeHandler(const SlowPathConfig::Target& target,
                                                     const HandlerPlace& place) {
  return std::visit(Maker{target, place}, target.handler);
}

}  // namespace headgate
