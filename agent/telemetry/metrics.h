// SPDX-License-Identifier: Apache-2.0
//
// Metrics in Prometheus' text format: names begin with headgate_, and the number of series is bounded.
#pragma once

#include <prometheus/histogram.h>
#include <prometheus/metric_family.h>
#include <prometheus/registry.h>

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "agent/control/controller.h"
#include "agent/slowpath/worker_status.h"

namespace headgate {

class Metrics {
 public:
  // Series by rule are left out when there are more rules than this.
  static constexpr size_t kMaxRules = 1000;

  Metrics();

  // Where the controller puts how long changes took.
  ControllerTimes Times();
  std::string Text(const Controller& controller, const std::vector<TableInfo>& maps,
                   const std::vector<WorkerStatus>& workers) const;

 private:
  std::shared_ptr<prometheus::Registry> registry_;
  prometheus::Histogram* durable_;
  prometheus::Histogram* visible_;
};

}  // namespace headgate
