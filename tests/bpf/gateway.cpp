// SPDX-License-Identifier: Apache-2.0
#include "tests/bpf/gateway.h"

#include <absl/strings/str_cat.h>
#include <linux/bpf.h>

#include <algorithm>
#include <cstddef>
#include <optional>
#include <stdexcept>

#include "agent/api/text.h"

namespace headgate::testing {
namespace {

// What a traced frame may be long.
constexpr size_t kMinTrace = 14;
constexpr size_t kMaxTrace = 3520;

}  // namespace

std::string VerdictName(uint32_t verdict) {
  static const char* const kNames[] = {"aborted", "drop", "pass", "tx", "redirect"};
  return verdict < std::size(kNames) ? kNames[verdict] : absl::StrCat("XDP action ", verdict);
}

uint32_t VerdictOf(const std::string& reason) {
  enum { PASS = XDP_PASS, FORWARD = XDP_REDIRECT, DROP = XDP_DROP, MALFORMED = XDP_DROP };
  if (reason == "forward_tx") return XDP_TX;
#define HG_VERDICT(e, name, class, text) \
  if (reason == name) return class;
  HG_REASONS(HG_VERDICT)
#undef HG_VERDICT
  return XDP_ABORTED;
}

Gateway::Gateway(const std::string& name, std::vector<std::string> interfaces, TableSizes sizes)
    : limits_{sizes.max_entries, sizes.max_prefixes}, ids_(sizes.max_entries), program_(name, sizes) {
  // One by one, so that the first is port 1, to which Program binds the ingress device.
  for (std::string& interface : interfaces) {
    interfaces_.push_back(std::move(interface));
    Configure("");
  }
}

void Gateway::Configure(const std::string& yaml) {
  std::string document = "interfaces:\n";
  for (const std::string& interface : interfaces_) {
    absl::StrAppend(&document, "  - {name: ", interface, ", device: ", interface, "}\n");
  }
  absl::StrAppend(&document, yaml);
  v1::GatewayConfig config;
  if (const absl::Status status = ParseYaml(document, "yaml", config); !status.ok()) {
    throw std::runtime_error(absl::StrCat(status.message(), "\n", document));
  }
  Apply(api::ReadConfig(config, "config", actions_));
}

void Gateway::Apply(Change change) {
  const ChangeResult result = BuildState(state_, std::move(change), limits_, ids_, false);
  if (!result.state) {
    std::string errors(result.status.message());
    for (const Violation& violation : result.violations) {
      absl::StrAppend(&errors, violation.field, ": ", violation.description, "\n");
    }
    throw std::runtime_error(errors);
  }
  program_.Apply(*result.state);
  // As the controller does it: an id comes back with nothing of its past.
  ForEachRetiredId(*state_, *result.state, [this](Kind kind, uint32_t id) {
    absl::Status cleared;
    if (kind == Kind::kRule) cleared = program_.dataplane().ClearCounters(CounterId::kRules, {&id, 1});
    if (kind == Kind::kCounter) cleared = program_.dataplane().ClearCounters(CounterId::kNamed, {&id, 1});
    if (kind == Kind::kMulticastRoute) cleared = program_.dataplane().ClearCounters(CounterId::kMroutes, {&id, 1});
    if (kind == Kind::kMulticastLeg) cleared = program_.dataplane().ClearCounters(CounterId::kLegs, {&id, 1});
    if (kind == Kind::kMulticastFeed) cleared = program_.dataplane().ClearCounters(CounterId::kFeeds, {&id, 1});
    EXPECT_TRUE(cleared.ok()) << cleared;
    ids_.of(kind).Free(id);
  });
  state_ = result.state;
}

void Gateway::Bind(const std::string& interface, uint32_t ifindex, const std::string& mac) {
  program_.BindPort(Port(interface), ifindex, mac);
}

hg_rule_count Gateway::RuleCount(const std::string& rule) const {
  const auto row = *program_.dataplane().ReadCounters(CounterId::kRules, state_->rules.Get(rule)->id, 1);
  return {row[0], row[1], row[2]};
}

Count Gateway::NamedCount(const std::string& counter) const {
  const auto row = *program_.dataplane().ReadCounters(CounterId::kNamed, state_->counters.Get(counter)->id, 1);
  return {row[0], row[1]};
}

Count Gateway::RouteCount(const std::string& multicast_route) const {
  const auto row = *program_.dataplane().ReadCounters(CounterId::kMroutes,
                                                      state_->multicast_routes.Get(multicast_route)->id, 1);
  return {row[0], row[1]};
}

std::map<std::string, uint64_t> Gateway::Offered() const {
  constexpr size_t kOffered = offsetof(hg_leg_count, offered) / sizeof(uint64_t);
  std::map<std::string, uint64_t> offered;
  state_->multicast_legs.ForEach([&](const auto& leg) {
    offered[leg->name] = (*program_.dataplane().ReadCounters(CounterId::kLegs, leg->id, 1))[kOffered];
  });
  return offered;
}

Gateway::Multicast Gateway::CountMulticast() const {
  Multicast counts{.routes = {}, .offered = Offered()};
  state_->multicast_routes.ForEach(
      [&](const auto& route) { counts.routes[route->name] = RouteCount(route->name); });
  return counts;
}

void Gateway::CheckMulticast(const Multicast& before, size_t length, Outcome& outcome) const {
  const Multicast after = CountMulticast();
  for (const auto& [name, count] : after.routes) {
    const Count& former = before.routes.at(name);
    if (count == former) continue;
    EXPECT_EQ(count, (Count{former.packets + 1, former.bytes + length})) << name;
    EXPECT_TRUE(outcome.route.empty()) << "counted by route " << outcome.route << " and by route " << name;
    outcome.route = name;
  }
  for (const auto& [key, packets] : after.offered) {
    const bool copied = outcome.reason == "forward_multicast" && key.starts_with(outcome.route + "/");
    EXPECT_EQ(packets, before.offered.at(key) + (copied ? 1 : 0)) << "offered to leg " << key;
  }
}

std::map<std::string, Count> Gateway::Reasons() const {
  std::map<std::string, Count> reasons;
  const auto rows = *program_.dataplane().ReadCounters(CounterId::kPorts, Port(interfaces_[0]) * HG_REASON_SLOTS,
                                                       HG_REASON_SLOTS);
  for (uint32_t reason = 0; reason < HG_REASON_SLOTS; ++reason) {
    const Count count{rows[2 * reason], rows[2 * reason + 1]};
    if (!(count == Count{})) reasons[ReasonName(reason)] = count;
  }
  return reasons;
}

Outcome Gateway::Run(const Bytes& frame) {
  std::map<std::string, hg_rule_count> rules;
  std::map<std::string, Count> counters;
  state_->rules.ForEach([&](const auto& rule) { rules[rule->name] = RuleCount(rule->name); });
  state_->counters.ForEach([&](const auto& counter) { counters[counter->name] = NamedCount(counter->name); });
  const auto reasons = Reasons();
  const Multicast multicast = CountMulticast();
  std::optional<TraceResult> trace;
  if (frame.size() >= kMinTrace && frame.size() <= kMaxTrace) {
    trace = Trace(frame);
    EXPECT_TRUE(Reasons() == reasons) << "a traced packet was counted";
    EXPECT_TRUE(CountMulticast() == multicast) << "a traced packet was counted by a multicast route or leg";
  }

  RunResult run = program_.Run(frame, Port(interfaces_[0]));
  Outcome outcome{.verdict = run.verdict,
                  .reason = run.reason,
                  .output = std::move(run.output),
                  .metadata = std::move(run.metadata)};
  EXPECT_EQ(VerdictName(outcome.verdict), VerdictName(VerdictOf(outcome.reason))) << outcome.reason;
  if (outcome.verdict == XDP_PASS) {
    EXPECT_EQ(outcome.output, frame) << "passed, but changed";
  }
  for (const auto& [name, before] : rules) {
    const hg_rule_count after = RuleCount(name);
    if (after.packets == before.packets && after.bytes == before.bytes && after.limited == before.limited)
      continue;
    EXPECT_EQ(after.packets, before.packets + 1) << name;
    EXPECT_EQ(after.bytes, before.bytes + frame.size()) << name;
    EXPECT_TRUE(outcome.rule.empty()) << "counted by rule " << outcome.rule << " and by rule " << name;
    outcome.rule = name;
    outcome.limited = after.limited != before.limited;
  }
  for (const auto& [name, before] : counters) {
    const Count after = NamedCount(name);
    if (after == before) continue;
    EXPECT_EQ(after.bytes - before.bytes, frame.size() * (after.packets - before.packets)) << name;
    outcome.counters[name] = after.packets - before.packets;
  }
  CheckMulticast(multicast, frame.size(), outcome);
  EXPECT_EQ(outcome.limited, outcome.reason == "drop_rate_limit");
  if (trace) {
    EXPECT_EQ(VerdictName(trace->xdp_action), VerdictName(outcome.verdict)) << "by trace";
    EXPECT_EQ(ReasonName(trace->record.reason), outcome.reason) << "by trace";
    EXPECT_EQ(trace->record.rule_id, outcome.rule.empty() ? 0 : state_->rules.Get(outcome.rule)->id) << "by trace";
    if (outcome.rule.empty() && outcome.reason != "pass_management") {
      EXPECT_EQ(trace->record.action, 0U) << "of no rule, by trace";
    }
    EXPECT_EQ(trace->record.mroute, outcome.route.empty() ? 0 : state_->multicast_routes.Get(outcome.route)->id)
        << "by trace";
    EXPECT_EQ(trace->output, outcome.output) << "by trace";
  }
  return outcome;
}

std::array<uint32_t, HG_WORDS> Gateway::Key(const Bytes& frame) {
  const TraceResult trace = Trace(frame);
  std::array<uint32_t, HG_WORDS> key;
  std::copy(std::begin(trace.record.key), std::end(trace.record.key), key.begin());
  return key;
}

TraceResult Gateway::Trace(const Bytes& frame) {
  const auto result = program_.dataplane().Trace(Port(interfaces_[0]), frame);
  if (!result.ok()) throw std::runtime_error(result.status().ToString());
  return *result;
}

}  // namespace headgate::testing
