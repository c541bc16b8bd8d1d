// SPDX-License-Identifier: Apache-2.0
#include "agent/telemetry/metrics.h"

#include <prometheus/text_serializer.h>

#include <utility>

#include "agent/base/log.h"
#include "agent/base/process.h"
#include "agent/control/stats.h"

namespace headgate {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;

// 50 microseconds to 10 seconds.
const prometheus::Histogram::BucketBoundaries kSeconds = {50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3,
                                                          25e-3, 50e-3,  0.1,    0.25,   0.5,  1,      2.5,  10};

using Labels = std::vector<std::pair<const char*, std::string>>;

class Families {
 public:
  void Add(const char* name, const char* help, MetricType type, double value, const Labels& labels = {}) {
    if (families_.empty() || families_.back().name != name) {
      families_.emplace_back();
      families_.back().name = name;
      families_.back().help = help;
      families_.back().type = type;
    }
    ClientMetric metric;
    for (const auto& [label, text] : labels) metric.label.push_back({label, text});
    (type == MetricType::Counter ? metric.counter.value : metric.gauge.value) = value;
    families_.back().metric.push_back(std::move(metric));
  }
  template <typename Number>
  void Counter(const char* name, const char* help, Number value, const Labels& labels = {}) {
    Add(name, help, MetricType::Counter, static_cast<double>(value), labels);
  }
  void Gauge(const char* name, const char* help, double value, const Labels& labels = {}) {
    Add(name, help, MetricType::Gauge, value, labels);
  }
  std::vector<MetricFamily>& all() { return families_; }

 private:
  std::vector<MetricFamily> families_;
};

void AddInterfaceCounters(const Stats& stats, Families& out) {
  for (const auto& interface : stats.interfaces) {
    for (const auto& row : interface.reasons) {
      const Reason& reason = ReasonOf(row.reason);
      out.Counter("headgate_interface_received_packets_total", "Packets received, by what became of them.",
                  row.count.packets,
                  {{"interface", interface.name},
                   {"class", ReasonClassName(reason.reason_class)},
                   {"reason", reason.name}});
    }
  }
  for (const auto& interface : stats.interfaces) {
    for (const auto& row : interface.reasons) {
      const Reason& reason = ReasonOf(row.reason);
      out.Counter("headgate_interface_received_bytes_total", "Frame bytes received, by what became of them.",
                  row.count.bytes,
                  {{"interface", interface.name},
                   {"class", ReasonClassName(reason.reason_class)},
                   {"reason", reason.name}});
    }
  }
  for (const auto& interface : stats.interfaces) {
    out.Counter("headgate_interface_transmitted_packets_total", "Frames that Headgate sent and the driver took.",
                interface.egress.sent, {{"interface", interface.name}});
  }
  for (const auto& interface : stats.interfaces) {
    out.Counter("headgate_interface_transmit_dropped_packets_total", "Frames that the driver refused to send.",
                interface.egress.dropped, {{"interface", interface.name}});
  }
  for (const auto& interface : stats.interfaces) {
    out.Counter("headgate_interface_transmit_refused_packets_total", "Frames that the kernel refused to queue.",
                interface.egress.refused, {{"interface", interface.name}});
  }
}

void AddRuleCounters(const Stats& stats, Families& out) {
  for (const auto& rule : stats.rules) {
    out.Counter("headgate_rule_packets_total", "Packets that matched the rule.", rule.count.packets,
                {{"rule", rule.name}});
  }
  for (const auto& rule : stats.rules) {
    out.Counter("headgate_rule_bytes_total", "Frame bytes that matched the rule.", rule.count.bytes,
                {{"rule", rule.name}});
  }
  for (const auto& rule : stats.rules) {
    out.Counter("headgate_rule_limited_packets_total", "Packets that the rule's rate limit dropped.",
                rule.count.limited, {{"rule", rule.name}});
  }
  for (const auto& counter : stats.counters) {
    out.Counter("headgate_count_packets_total", "Packets of rules that name the counter.", counter.count.packets,
                {{"counter", counter.name}});
  }
  for (const auto& counter : stats.counters) {
    out.Counter("headgate_count_bytes_total", "Frame bytes of rules that name the counter.", counter.count.bytes,
                {{"counter", counter.name}});
  }
  out.Counter("headgate_unconfigured_packets_total", "Packets on devices that are not interfaces.",
              stats.unconfigured_packets);
  out.Counter("headgate_samples_lost_total", "Sampled packets that found the ring full.", stats.samples_lost);
}

// A series for each leg: at most 8191.
void AddMulticast(const Stats& stats, Families& out) {
  const auto each = [&stats](auto&& add) {
    for (const MulticastRouteStats& route : stats.multicast_routes) {
      for (const MulticastLegStats& leg : route.legs) add(leg, Labels{{"route", route.name}, {"leg", leg.name}});
    }
  };
  for (const MulticastRouteStats& route : stats.multicast_routes) {
    out.Counter("headgate_multicast_packets_total", "Packets that the route took.", route.count.packets,
                {{"route", route.name}});
  }
  for (const MulticastRouteStats& route : stats.multicast_routes) {
    out.Counter("headgate_multicast_bytes_total", "Frame bytes of them.", route.count.bytes,
                {{"route", route.name}});
  }
  each([&out](const MulticastLegStats& leg, const Labels& labels) {
    out.Counter("headgate_multicast_leg_sent_packets_total", "Copies handed to the leg's device.",
                leg.count.packets, labels);
  });
  each([&out](const MulticastLegStats& leg, const Labels& labels) {
    out.Counter("headgate_multicast_leg_sent_bytes_total", "Frame bytes of them.", leg.count.bytes, labels);
  });
  each([&out](const MulticastLegStats& leg, const Labels& labels) {
    const std::pair<const char*, uint64_t> reasons[] = {{"ttl", leg.count.ttl},
                                                        {"limited", leg.count.limited},
                                                        {"no_source", leg.count.no_source},
                                                        {"malformed", leg.count.malformed},
                                                        {"no_listener", leg.count.no_listener},
                                                        {"no_neighbour", leg.count.no_neighbour},
                                                        {"too_big", leg.count.too_big},
                                                        {"tx_full", leg.count.tx_full},
                                                        {"no_device", leg.not_made()}};
    for (const auto& [reason, packets] : reasons) {
      Labels with_reason = labels;
      with_reason.emplace_back("reason", reason);
      out.Counter("headgate_multicast_leg_dropped_packets_total", "Copies that were not sent.", packets,
                  with_reason);
    }
  });
}

// Seven series for each route that has a feed.
void AddFeeds(const Stats& stats, Families& out) {
  struct Family {
    const char* name;
    const char* help;
    __u64 hg_feed::*field;
  };
  static constexpr Family kFamilies[] = {
      {"headgate_multicast_feed_packets_total", "Packets of the route's feed that were new.", &hg_feed::packets},
      {"headgate_multicast_feed_duplicate_packets_total", "Packets that came before.", &hg_feed::duplicates},
      {"headgate_multicast_feed_late_packets_total", "Packets that came after a higher number.", &hg_feed::late},
      {"headgate_multicast_feed_stale_packets_total", "Packets from behind the window.", &hg_feed::stale},
      {"headgate_multicast_feed_unread_packets_total", "Packets without a sequence number.", &hg_feed::unread},
      {"headgate_multicast_feed_restarts_total", "How often the sequence began anew.", &hg_feed::restarts}};
  for (const Family& family : kFamilies) {
    for (const MulticastRouteStats& route : stats.multicast_routes) {
      if (route.feed) out.Counter(family.name, family.help, (*route.feed).*family.field, {{"route", route.name}});
    }
  }
  for (const MulticastRouteStats& route : stats.multicast_routes) {
    if (!route.feed) continue;
    // It falls when a late one comes.
    out.Gauge("headgate_multicast_feed_missing_packets", "Sequence numbers that have not come.",
              static_cast<double>(route.feed->missing), {{"route", route.name}});
  }
}

void AddInterfaces(const Controller& controller, Families& out) {
  const auto interfaces = controller.interfaces();
  for (const auto& [name, state] : interfaces) {
    out.Gauge("headgate_interface_up", "Whether the device exists, is up and has a carrier.",
              state.device && state.device->up ? 1 : 0, {{"interface", name}});
  }
  for (const auto& [name, state] : interfaces) {
    const char* mode = !state.mode ? "none" : *state.mode == DriverMode::kNative ? "native" : "generic";
    out.Gauge("headgate_interface_attached", "Whether the program is attached, and in which mode.",
              state.status.state == ObjectState::kApplied ? 1 : 0, {{"interface", name}, {"mode", mode}});
  }
}

void AddAgent(const Controller& controller, const std::vector<TableInfo>& maps, Families& out) {
  const ControllerStatus status = controller.status();
  out.Gauge("headgate_build_info", "Always 1; the version is a label.", 1, {{"version", HG_VERSION}});
  out.Gauge("headgate_generation_desired", "Generation of the desired state.",
            static_cast<double>(status.desired_generation));
  out.Gauge("headgate_generation_applied", "Generation that packets use.",
            static_cast<double>(status.applied_generation));
  out.Gauge("headgate_rules", "Rules of the desired state.", static_cast<double>(status.desired->rules.size()));
  out.Gauge("headgate_prefixes", "Prefixes of the desired state's sets.",
            static_cast<double>(status.desired->prefix_count));
  out.Counter("headgate_drift_repaired_total",
              "Values of the kernel's tables found changed by others and put right.", status.drift_repaired);
  out.Counter("headgate_drift_checks_total",
              "Times that the kernel's tables were compared with what was written (--drift-interval).",
              status.drift_checks);
  for (const TableInfo& map : maps) {
    out.Gauge("headgate_table_bytes", "Kernel memory of a table.", static_cast<double>(map.bytes),
              {{"table", map.name}});
  }
  for (const auto& [table, used] : status.table_use) {
    out.Gauge("headgate_table_used_values", "Values of a table that are in use.", static_cast<double>(used),
              {{"table", controller.dataplane().Info(table).name}});
  }
  for (const auto& [table, used] : status.table_use) {
    const TableInfo info = controller.dataplane().Info(table);
    out.Gauge("headgate_table_capacity_values", "Values a table has room for.", info.capacity,
              {{"table", info.name}});
  }
  out.Gauge("headgate_egress_counted",
            "1 when what devices refuse after a redirect is counted, 0 when it cannot be.",
            controller.dataplane().EgressCounting().ok() ? 1 : 0);
  out.Gauge("headgate_agent_resident_bytes", "Memory of the agent that is in RAM.",
            static_cast<double>(ResidentBytes()));
}

struct WorkerCounter {
  const char* name;
  const char* help;
  uint64_t WorkerStatus::*value;
};
constexpr WorkerCounter kWorkerCounters[] = {
    {"headgate_worker_received_packets_total", "Steered packets that a worker received.", &WorkerStatus::received},
    {"headgate_worker_received_bytes_total", "Their bytes.", &WorkerStatus::received_bytes},
    {"headgate_worker_originated_packets_total", "Frames that handlers made.", &WorkerStatus::originated},
    {"headgate_worker_processed_packets_total", "Packets that handlers dealt with, those lent by others too.",
     &WorkerStatus::processed},
    {"headgate_worker_consumed_packets_total", "Packets that handlers were done with.", &WorkerStatus::consumed},
    {"headgate_worker_transmitted_packets_total", "Packets handed to the kernel to be sent.",
     &WorkerStatus::transmitted},
    {"headgate_worker_wakeups_total", "Waits that ended with something to do.", &WorkerStatus::wakeups}};

void AddWorkerDrops(const WorkerStatus& worker, const std::string& name, Families& out) {
  const std::pair<const char*, uint64_t> drops[] = {{"handler", worker.dropped_handler},
                                                    {"no_handler", worker.dropped_no_handler},
                                                    {"tx_full", worker.dropped_tx_full},
                                                    {"overload", worker.dropped_overload},
                                                    {"handover", worker.dropped_handover},
                                                    {"rx_ring_full", worker.kernel.rx_ring_full},
                                                    {"fill_ring_empty", worker.kernel.fill_ring_empty},
                                                    {"kernel_other", worker.kernel.other}};
  for (const auto& [reason, packets] : drops) {
    out.Counter("headgate_worker_dropped_packets_total",
                "Packets that got no further, by reason; those the kernel had no room for were not received.",
                packets, {{"worker", name}, {"reason", reason}});
  }
}

void AddWorkers(const std::vector<WorkerStatus>& workers, Families& out) {
  const auto each = [&](auto&& add) {
    for (const WorkerStatus& worker : workers) add(worker, std::to_string(worker.index));
  };
  for (const WorkerCounter& counter : kWorkerCounters) {
    each([&](const WorkerStatus& worker, const std::string& name) {
      out.Counter(counter.name, counter.help, worker.*counter.value, {{"worker", name}});
    });
  }
  each([&](const WorkerStatus& worker, const std::string& name) { AddWorkerDrops(worker, name, out); });
  each([&](const WorkerStatus& worker, const std::string& name) {
    out.Counter("headgate_worker_cpu_seconds_total", "CPU time that a worker took.", worker.cpu_seconds,
                {{"worker", name}});
  });
  const auto gauge = [&](const char* name, const char* help, uint32_t WorkerStatus::*value) {
    each([&](const WorkerStatus& worker, const std::string& index) {
      out.Gauge(name, help, worker.*value, {{"worker", index}});
    });
  };
  gauge("headgate_worker_free_frames", "Frames of a worker's pool that nothing holds.",
        &WorkerStatus::frames_free);
  gauge("headgate_worker_held_frames",
        "Frames of the pool that sockets and other workers hold: free + held = all.", &WorkerStatus::frames_held);
  gauge("headgate_worker_frames", "Frames of a worker's pool.", &WorkerStatus::frames_total);
  gauge("headgate_worker_lent_packets", "Packets that other workers have in hand.", &WorkerStatus::lent);
  gauge("headgate_worker_waiting_packets", "Packets that wait in a worker's receive rings.",
        &WorkerStatus::waiting);
  each([&](const WorkerStatus& worker, const std::string& name) {
    out.Gauge("headgate_worker_hangs", "1: the worker does not come round, its other figures are old.",
              worker.stale ? 1 : 0, {{"worker", name}});
  });
}

}  // namespace

Metrics::Metrics() : registry_(std::make_shared<prometheus::Registry>()) {
  durable_ = &prometheus::BuildHistogram()
                  .Name("headgate_change_durable_seconds")
                  .Help("From the receipt of a change until it is durable.")
                  .Register(*registry_)
                  .Add({}, kSeconds);
  visible_ = &prometheus::BuildHistogram()
                  .Name("headgate_change_visible_seconds")
                  .Help("From a change being durable until packets use it.")
                  .Register(*registry_)
                  .Add({}, kSeconds);
}

ControllerTimes Metrics::Times() {
  return {.durable_seconds = [this](double seconds) { durable_->Observe(seconds); },
          .visible_seconds = [this](double seconds) { visible_->Observe(seconds); }};
}

std::string Metrics::Text(const Controller& controller, const std::vector<TableInfo>& maps,
                          const std::vector<WorkerStatus>& workers) const {
  Families families;
  AddAgent(controller, maps, families);
  AddInterfaces(controller, families);
  AddWorkers(workers, families);
  const Snapshot state = controller.desired();
  StatsFilter filter;
  filter.rules = state->rules.size() <= kMaxRules;
  families.Gauge("headgate_rules_without_metrics", "Rules left out here because there are too many.",
                 filter.rules ? 0 : static_cast<double>(state->rules.size()));
  const absl::StatusOr<Stats> stats = ReadStats(controller.dataplane(), *state, filter);
  if (stats.ok()) {
    AddInterfaceCounters(*stats, families);
    AddRuleCounters(*stats, families);
    AddMulticast(*stats, families);
    AddFeeds(*stats, families);
  } else {
    Log(spdlog::level::err, "cannot read counters for metrics", {{"reason", stats.status()}});
  }
  std::vector<MetricFamily>& all = families.all();
  for (MetricFamily& family : registry_->Collect()) all.push_back(std::move(family));
  return prometheus::TextSerializer().Serialize(all);
}

}  // namespace headgate
