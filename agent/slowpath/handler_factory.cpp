// SPDX-License-Identifier: Apache-2.0
#include "agent/slowpath/handler_factory.h"

#include <random>

#include "agent/base/status.h"
#include "agent/slowpath/count_handler.h"
#include "agent/slowpath/echo_handler.h"
#include "agent/slowpath/tap_handler.h"

namespace headgate {
namespace {

using Made = absl::StatusOr<std::unique_ptr<Handler>>;

struct Maker {
  Made operator()(const CountSetup&) const { return std::make_unique<CountHandler>(); }
  Made operator()(const EchoSetup&) const { return std::make_unique<EchoHandler>(); }
  Made operator()(const TapSetup& setup) const {
    HG_ASSIGN_OR_RETURN(TapDevice device, TapDevice::Open(setup.device, setup.tun));
    std::random_device random;
    const uint64_t seed = uint64_t{random()} << 32 | random();
    return std::make_unique<TapHandler>(setup, std::move(device), seed);
  }
  Made operator()(const AppSetup&) const { return absl::UnimplementedError("apps"); }
};

}  // namespace

absl::StatusOr<std::unique_ptr<Handler>> MakeHandler(const SlowPathConfig::Target& target) {
  return std::visit(Maker{}, target.handler);
}

}  // namespace headgate
