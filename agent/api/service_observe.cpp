// SPDX-License-Identifier: Apache-2.0
//
// Watch, Stats, Trace, Status and SetLogLevel.
#include <absl/container/flat_hash_set.h>
#include <absl/strings/str_cat.h>
#include <google/protobuf/util/time_util.h>
#include <linux/bpf.h>

#include <thread>

#include "agent/api/gateway_service.h"
#include "agent/api/status.h"
#include "agent/api/trace_text.h"
#include "agent/base/log.h"
#include "agent/base/process.h"
#include "agent/control/stats.h"

namespace headgate::api {
namespace {

using google::protobuf::util::TimeUtil;

constexpr std::chrono::milliseconds kLookUp{200};  // how often streams look whether they should end
constexpr std::chrono::milliseconds kMinInterval{100};
constexpr std::chrono::milliseconds kMaxInterval{3'600'000};
constexpr std::chrono::milliseconds kDefaultInterval{1'000};
constexpr int kCountedKinds[] = {pb::KIND_INTERFACE, pb::KIND_RULE, pb::KIND_COUNTER, pb::KIND_STEER_TARGET,
                                 pb::KIND_MULTICAST_ROUTE};

google::protobuf::Timestamp Stamp(std::chrono::system_clock::time_point time) {
  return TimeUtil::NanosecondsToTimestamp(
      std::chrono::duration_cast<std::chrono::nanoseconds>(time.time_since_epoch()).count());
}

constexpr std::pair<EventType, pb::EventType> kEventTypes[] = {
    {EventType::kGenerationApplied, pb::EVENT_TYPE_GENERATION_APPLIED},
    {EventType::kObjectStatus, pb::EVENT_TYPE_OBJECT_STATUS},
    {EventType::kInterfaceChange, pb::EVENT_TYPE_INTERFACE_CHANGE},
    {EventType::kDriftRepaired, pb::EVENT_TYPE_DRIFT_REPAIRED},
    {EventType::kRolledBack, pb::EVENT_TYPE_ROLLED_BACK},
    {EventType::kSample, pb::EVENT_TYPE_SAMPLE},
};

pb::Event ToProto(const Event& event) {
  pb::Event message;
  *message.mutable_time() = Stamp(event.time);
  for (const auto& [type, number] : kEventTypes) {
    if (type == event.type) message.set_type(number);
  }
  message.set_generation(event.generation);
  if (event.kind) message.set_kind(api::ToProto(*event.kind));
  message.set_name(event.name);
  if (event.status) *message.mutable_status() = api::ToProto(*event.status);
  message.set_message(event.message);
  message.set_missed(event.missed);
  if (event.sample) {
    pb::PacketSample* sample = message.mutable_sample();
    sample->set_rule(event.sample->rule);
    sample->set_interface(event.sample->interface);
    sample->set_reason(event.sample->reason);
    sample->set_length(event.sample->length);
    sample->set_data(event.sample->data.data(), event.sample->data.size());
  }
  return message;
}

StatsFilter FilterOf(const pb::StatsRequest& request) {
  StatsFilter filter;
  if (request.kinds_size() != 0) {
    filter.interfaces = filter.rules = filter.counters = filter.multicast_routes = false;
    for (const int kind : request.kinds()) {
      filter.interfaces = filter.interfaces || kind == pb::KIND_INTERFACE;
      filter.rules = filter.rules || kind == pb::KIND_RULE;
      filter.counters = filter.counters || kind == pb::KIND_COUNTER;
      filter.multicast_routes = filter.multicast_routes || kind == pb::KIND_MULTICAST_ROUTE;
    }
  }
  if (request.names_size() != 0) {
    auto names =
        std::make_shared<absl::flat_hash_set<std::string>>(request.names().begin(), request.names().end());
    filter.wanted = [names](const std::string& name) { return names->contains(name); };
  }
  return filter;
}

// Since a time of CLOCK_MONOTONIC, ns; not before now, which ticks are ahead of.
void WriteAge(uint64_t since, google::protobuf::Duration& to) {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  const auto nanoseconds = now.tv_sec * 1'000'000'000 + now.tv_nsec;
  const int64_t age = std::max<int64_t>(0, nanoseconds - static_cast<int64_t>(since));
  to.set_seconds(age / 1'000'000'000);
  to.set_nanos(static_cast<int32_t>(age % 1'000'000'000));
}

void Write(const MulticastRouteStats& from, pb::MulticastRouteStats& to) {
  to.set_name(from.name);
  to.set_packets(from.count.packets);
  to.set_bytes(from.count.bytes);
  if (from.last_packet != 0) WriteAge(from.last_packet, *to.mutable_last_packet_age());
  for (const MulticastLegStats& leg : from.legs) {
    pb::MulticastLegStats* message = to.add_legs();
    message->set_name(leg.name);
    message->set_offered_packets(leg.count.offered);
    message->set_sent_packets(leg.count.packets);
    message->set_sent_bytes(leg.count.bytes);
    message->set_dropped_ttl_packets(leg.count.ttl);
    message->set_dropped_limited_packets(leg.count.limited);
    message->set_dropped_no_source_packets(leg.count.no_source);
    message->set_dropped_malformed_packets(leg.count.malformed);
    message->set_dropped_no_device_packets(leg.not_made());
    message->set_dropped_no_neighbour_packets(leg.count.no_neighbour);
    message->set_dropped_too_big_packets(leg.count.too_big);
    message->set_dropped_tx_full_packets(leg.count.tx_full);
    message->set_fragments(leg.count.fragments);
    message->set_dropped_no_listener_packets(leg.count.no_listener);
  }
  if (!from.feed) return;
  pb::MulticastFeedStats& feed = *to.mutable_feed();
  feed.set_packets(from.feed->packets);
  feed.set_duplicate_packets(from.feed->duplicates);
  feed.set_missing_packets(from.feed->missing);
  feed.set_late_packets(from.feed->late);
  feed.set_stale_packets(from.feed->stale);
  feed.set_unread_packets(from.feed->unread);
  feed.set_restarts(from.feed->restarts);
}

void Write(const Stats& from, bool nonzero_only, pb::StatsResponse& to) {
  *to.mutable_time() = Stamp(std::chrono::system_clock::now());
  for (const InterfaceStats& interface : from.interfaces) {
    const hg_egress& egress = interface.egress;
    if (nonzero_only && interface.received.packets + egress.sent + egress.dropped + egress.refused == 0) continue;
    pb::InterfaceStats* message = to.add_interfaces();
    message->set_name(interface.name);
    message->set_received_packets(interface.received.packets);
    message->set_received_bytes(interface.received.bytes);
    for (const ReasonStats& reason : interface.reasons) {
      pb::ReasonStats* row = message->add_reasons();
      row->set_reason(ReasonOf(reason.reason).name);
      row->set_class_(ReasonClassName(ReasonOf(reason.reason).reason_class));
      row->set_packets(reason.count.packets);
      row->set_bytes(reason.count.bytes);
    }
    message->set_transmitted_packets(egress.sent);
    message->set_transmit_dropped_packets(egress.dropped);
    message->set_transmit_refused_packets(egress.refused);
  }
  for (const RuleStats& rule : from.rules) {
    if (nonzero_only && rule.count.packets == 0) continue;
    pb::RuleStats* message = to.add_rules();
    message->set_name(rule.name);
    message->set_packets(rule.count.packets);
    message->set_bytes(rule.count.bytes);
    message->set_limited_packets(rule.count.limited);
  }
  for (const CounterStats& counter : from.counters) {
    if (nonzero_only && counter.count.packets == 0) continue;
    pb::CounterStats* message = to.add_counters();
    message->set_name(counter.name);
    message->set_packets(counter.count.packets);
    message->set_bytes(counter.count.bytes);
  }
  for (const MulticastRouteStats& route : from.multicast_routes) {
    if (!nonzero_only || route.count.packets != 0) Write(route, *to.add_multicast_routes());
  }
  to.set_unconfigured_packets(from.unconfigured_packets);
  to.set_samples_lost(from.samples_lost);
}

// Empty when the port is no interface's any more.
std::string InterfaceOf(uint32_t port, const State& state) {
  std::string name;
  state.interfaces.ForEach([&](const std::shared_ptr<const Interface>& interface) {
    if (interface->id == port) name = interface->name;
  });
  return name;
}

std::string TargetOf(uint32_t id, const State& state) {
  std::string name;
  state.steer_targets.ForEach([&](const std::shared_ptr<const SteerTarget>& target) {
    if (target->id == id) name = target->name;
  });
  return name;
}

void AddWarnings(const SlowPathTroubles& troubles, const State& state, pb::StatusResponse& to) {
  for (const auto& [port, failure] : troubles.ports) {
    if (port == HG_PORT_COPIER) {
      to.add_warnings(absl::StrCat("multicast to many legs behind one device is dropped: ", failure.message()));
      continue;
    }
    to.add_warnings(absl::StrCat("packets of interface ", InterfaceOf(port, state),
                                 " that workers are to have take the fallback: ", failure.message()));
  }
  for (const auto& [target, failure] : troubles.targets) {
    if (target == HG_TARGET_MULTICAST) {
      to.add_warnings(absl::StrCat("multicast that workers are to replicate is dropped: ", failure.message()));
      continue;
    }
    to.add_warnings(absl::StrCat("packets of steer target ", TargetOf(target, state),
                                 " take the fallback: ", failure.message()));
  }
  for (const auto& [port, reason] : troubles.spread) {
    to.add_warnings(absl::StrCat("steered packets of interface ", InterfaceOf(port, state),
                                 " are spread over workers in software: ", reason));
  }
}

void Write(const WorkerStatus& from, const State& state, pb::WorkerStats& to) {
  to.set_index(from.index);
  to.set_stale(from.stale);
  to.set_received_packets(from.received);
  to.set_received_bytes(from.received_bytes);
  to.set_consumed_packets(from.consumed);
  to.set_transmitted_packets(from.transmitted);
  to.set_dropped_handler_packets(from.dropped_handler);
  to.set_dropped_no_handler_packets(from.dropped_no_handler);
  to.set_dropped_tx_full_packets(from.dropped_tx_full);
  to.set_kernel_rx_ring_full_packets(from.kernel.rx_ring_full);
  to.set_kernel_fill_ring_empty_packets(from.kernel.fill_ring_empty);
  to.set_kernel_other_packets(from.kernel.other);
  to.set_wakeups(from.wakeups);
  to.set_free_frames(from.frames_free);
  to.set_frames(from.frames_total);
  to.set_held_frames(from.frames_held);
  to.set_huge_pages(from.huge_pages);
  if (from.cpu) to.set_cpu(*from.cpu);
  to.set_originated_packets(from.originated);
  to.set_processed_packets(from.processed);
  to.set_dropped_overload_packets(from.dropped_overload);
  to.set_dropped_handover_packets(from.dropped_handover);
  to.set_lent_packets(from.lent);
  to.set_cpu_seconds(from.cpu_seconds);
  to.set_waiting_packets(from.waiting);
  for (const QueueStatus& queue : from.queues) {
    // Nothing is received there.
    if (queue.port == HG_PORT_COPIER) continue;
    to.set_receive_ring_packets(to.receive_ring_packets() + kReceiveRing);
    pb::QueueStats* message = to.add_queues();
    message->set_interface(InterfaceOf(queue.port, state));
    message->set_queue(queue.queue);
    message->set_zero_copy(queue.zero_copy);
    message->set_multi_buffer(queue.multi_buffer);
    message->set_software_spread(queue.in_software);
    message->set_received_packets(queue.received);
  }
}

const char* VerdictName(uint32_t xdp_action) {
  switch (xdp_action) {
    case XDP_DROP:
      return "drop";
    case XDP_PASS:
      return "pass";
    case XDP_TX:
      return "tx";
    case XDP_REDIRECT:
      return "redirect";
    default:
      return "aborted";
  }
}

void WriteTrace(const TraceResult& from, const State& state, pb::TraceResponse& to) {
  constexpr std::pair<uint32_t, const char*> kStages[] = {
      {HG_STAGE_PARSE, "parse"},     {HG_STAGE_CLASSIFY, "classify"},   {HG_STAGE_POLICE, "police"},
      {HG_STAGE_FORWARD, "forward"}, {HG_STAGE_MULTICAST, "multicast"}, {HG_STAGE_STEER, "steer"}};
  for (const auto& [bit, name] : kStages) {
    if ((from.record.stages & bit) != 0) to.add_stages(name);
  }
  if (from.record.rule_id != 0) {
    state.rules.ForEach([&](const std::shared_ptr<const Rule>& rule) {
      if (rule->id == from.record.rule_id) to.set_rule(rule->name);
    });
  }
  if (from.record.mroute != 0) {
    state.multicast_routes.ForEach([&](const std::shared_ptr<const MulticastRoute>& route) {
      if (route->id == from.record.mroute) to.set_multicast_route(route->name);
    });
  }
  to.set_egress_interface(InterfaceOf(from.record.egress_port, state));
  to.set_verdict(VerdictName(from.xdp_action));
  to.set_reason(ReasonOf(from.record.reason).name);
  to.set_output(from.output.data(), from.output.size());
  to.set_generation(from.record.generation);
  to.set_steps(from.record.steps);
}

}  // namespace

grpc::Status GatewayService::Watch(grpc::ServerContext* context, const pb::WatchRequest* request,
                                   grpc::ServerWriter<pb::Event>* writer) {
  std::vector<int> known;
  for (const auto& [type, number] : kEventTypes) known.push_back(number);
  const Violations violations = CheckValues("types", request->types(), *pb::EventType_descriptor(), known);
  if (!violations.empty()) return Refuse(violations);
  std::set<EventType> types;
  for (const auto& [type, number] : kEventTypes) {
    const auto& wanted = request->types();
    const bool all = wanted.empty() && type != EventType::kSample;
    if (all || std::find(wanted.begin(), wanted.end(), number) != wanted.end()) types.insert(type);
  }
  const auto watcher = events_.Watch(std::move(types));
  // Tells the client that it misses nothing from now on.
  writer->SendInitialMetadata();
  while (!stopping_ && !context->IsCancelled()) {
    const std::optional<Event> event = watcher->Next(kLookUp);
    if (event && !writer->Write(ToProto(*event))) break;
  }
  return grpc::Status::OK;
}

grpc::Status GatewayService::Stats(grpc::ServerContext*, const pb::StatsRequest* request,
                                   pb::StatsResponse* response) {
  const Violations violations = CheckValues("kinds", request->kinds(), *pb::Kind_descriptor(), kCountedKinds);
  if (!violations.empty()) return Refuse(violations);
  const Snapshot state = controller_.desired();
  const absl::StatusOr<headgate::Stats> stats = ReadStats(controller_.dataplane(), *state, FilterOf(*request));
  if (!stats.ok()) return ToGrpc(stats.status());
  Write(*stats, request->nonzero_only(), *response);
  const auto& kinds = request->kinds();
  const bool workers =
      kinds.empty() || std::find(kinds.begin(), kinds.end(), pb::KIND_STEER_TARGET) != kinds.end();
  if (!workers || request->names_size() != 0) return grpc::Status::OK;
  for (const WorkerStatus& worker : facts_.workers()) {
    if (!request->nonzero_only() || worker.received != 0) Write(worker, *state, *response->add_workers());
  }
  return grpc::Status::OK;
}

grpc::Status GatewayService::StreamStats(grpc::ServerContext* context, const pb::StatsRequest* request,
                                         grpc::ServerWriter<pb::StatsResponse>* writer) {
  std::chrono::milliseconds interval = kDefaultInterval;
  if (request->has_interval()) {
    const auto given = DurationWithin(request->interval(), kMinInterval, kMaxInterval);
    if (!given) {
      return ToGrpc(absl::InvalidArgumentError("interval must be 100 ms to 1 h"),
                    {{"interval", "must be 100 ms to 1 h"}});
    }
    interval = *given;
  }
  auto next = std::chrono::steady_clock::now();
  while (!stopping_ && !context->IsCancelled()) {
    pb::StatsResponse response;
    if (grpc::Status status = Stats(context, request, &response); !status.ok()) return status;
    if (!writer->Write(response)) break;
    next += interval;
    while (!stopping_ && !context->IsCancelled() && std::chrono::steady_clock::now() < next) {
      std::this_thread::sleep_until(std::min(next, std::chrono::steady_clock::now() + kLookUp));
    }
  }
  return grpc::Status::OK;
}

grpc::Status GatewayService::Trace(grpc::ServerContext*, const pb::TraceRequest* request,
                                   pb::TraceResponse* response) {
  TraceInput input;
  if (request->packet_case() == pb::TraceRequest::kFrame) {
    input.frame.assign(request->frame().begin(), request->frame().end());
  } else {
    absl::StatusOr<TraceInput> parsed = ParseTraceText(request->description());
    if (!parsed.ok()) return ToGrpc(parsed.status(), {{"description", std::string(parsed.status().message())}});
    input = *std::move(parsed);
  }
  if (!request->interface().empty()) {
    if (!input.interface.empty() && input.interface != request->interface()) {
      const std::string problem =
          absl::StrCat("the description names another interface, \"", input.interface, "\"");
      return ToGrpc(absl::InvalidArgumentError(absl::StrCat("interface: ", problem)), {{"interface", problem}});
    }
    input.interface = request->interface();
  }
  const Snapshot state = controller_.applied();
  const Interface* interface = state->interfaces.Get(input.interface);
  if (!interface) {
    const std::string problem =
        input.interface.empty()
            ? "an ingress interface is needed: end the description with \"in NAME\", or give interface"
            : absl::StrCat("there is no interface \"", input.interface, "\" in the applied configuration");
    return ToGrpc(absl::InvalidArgumentError(problem), {{"interface", problem}});
  }
  if (request->packet_case() != pb::TraceRequest::kFrame) {
    const std::map<std::string, InterfaceState> states = controller_.interfaces();
    const auto found = states.find(interface->name);
    if (found != states.end() && found->second.device) Address(input, found->second.device->mac);
  }
  const absl::StatusOr<TraceResult> result = controller_.dataplane().Trace(interface->id, input.frame);
  if (!result.ok()) return ToGrpc(result.status());
  response->set_frame(input.frame.data(), input.frame.size());
  WriteTrace(*result, *state, *response);
  return grpc::Status::OK;
}

grpc::Status GatewayService::Status(grpc::ServerContext*, const pb::StatusRequest*, pb::StatusResponse* response) {
  const ControllerStatus status = controller_.status();
  response->set_version(HG_VERSION);
  *response->mutable_started() = Stamp(facts_.started);
  response->set_desired_generation(status.desired_generation);
  response->set_applied_generation(status.applied_generation);
  response->set_apply_error(std::string(status.apply_error.message()));
  if (status.unconfirmed) {
    response->set_unconfirmed_generation(status.unconfirmed_generation);
    *response->mutable_confirm_deadline() = Stamp(status.unconfirmed->deadline);
  }
  response->set_drift_repaired(status.drift_repaired);
  if (status.last_drift_check) *response->mutable_last_drift_check() = Stamp(*status.last_drift_check);
  response->set_resident_bytes(ResidentBytes());
  response->set_log_level(LogLevel());
  if (const absl::Status counting = controller_.dataplane().EgressCounting(); !counting.ok()) {
    response->add_warnings(
        absl::StrCat("what devices refuse after a redirect is not counted: ", counting.message()));
  }
  AddWarnings(facts_.slow_path_troubles(), *status.desired, *response);
  for (std::string& trouble : facts_.membership_troubles()) response->add_warnings(std::move(trouble));
  for (const TableInfo& map : facts_.maps()) {
    pb::TableStatus* table = response->add_tables();
    table->set_name(map.name);
    table->set_capacity(map.capacity);
    table->set_bytes(map.bytes);
    for (const auto& [id, used] : status.table_use) {
      if (controller_.dataplane().Info(id).name == map.name) table->set_used(used);
    }
  }
  return grpc::Status::OK;
}

grpc::Status GatewayService::SetLogLevel(grpc::ServerContext*, const pb::SetLogLevelRequest* request,
                                         pb::SetLogLevelResponse* response) {
  const std::string previous = LogLevel();
  if (const absl::Status status = headgate::SetLogLevel(request->level()); !status.ok()) {
    return ToGrpc(status, {{"level", std::string(status.message())}});
  }
  response->set_previous_level(previous);
  Log(spdlog::level::info, "log level changed", {{"from", previous}, {"to", request->level()}});
  return grpc::Status::OK;
}

}  // namespace headgate::api
