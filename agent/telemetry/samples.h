// SPDX-License-Identifier: Apache-2.0
//
// Takes sampled packets off the kernel's ring, names what they belong to, and publishes them.
#pragma once

#include <thread>

#include "agent/control/controller.h"
#include "agent/control/events.h"

namespace headgate {

class SamplePump {
 public:
  SamplePump(Dataplane& dataplane, const Controller& controller, EventBus& events);

 private:
  std::jthread thread_;
};

}  // namespace headgate
