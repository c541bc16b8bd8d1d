// SPDX-License-Identifier: Apache-2.0
#include "tests/harness/model.h"

#include <absl/strings/str_cat.h>

#include <set>
#include <stdexcept>

#include "agent/api/text.h"

namespace headgate::testing {
namespace {

template <typename Message>
Message Parse(const std::string& yaml) {
  Message message;
  const absl::Status status = ParseYaml(yaml, "test", message);
  if (!status.ok()) throw std::invalid_argument(std::string(status.message()));
  return message;
}

template <typename Message, typename Object>
std::string TextOf(const Object& object) {
  Message message;
  api::Write(object, message);
  return message.ShortDebugString();
}

}  // namespace

api::ActionPool& Actions() {
  static api::ActionPool pool;
  return pool;
}

Change Config(const std::string& yaml) {
  return api::ReadConfig(Parse<v1::GatewayConfig>(yaml), "config", Actions());
}

Change Patch(const std::string& yaml) { return api::ReadPatch(Parse<v1::Patch>(yaml), "patch", Actions()); }

std::string Describe(const State& state, bool ids) {
  std::set<std::string> lines;
  const auto add = [&](const char* kind, const auto& object, const std::string& text) {
    lines.insert(absl::StrCat(kind, " ", ids ? absl::StrCat("#", object.id, " ") : "", text));
  };
  state.interfaces.ForEach([&](const auto& o) { add("interface", *o, TextOf<v1::Interface>(*o)); });
  state.prefix_sets.ForEach([&](const auto& o) { add("prefix set", *o, TextOf<v1::PrefixSet>(*o)); });
  state.next_hops.ForEach([&](const auto& o) { add("next hop", *o, TextOf<v1::NextHop>(*o)); });
  state.steer_targets.ForEach([&](const auto& o) { add("steer target", *o, TextOf<v1::SteerTarget>(*o)); });
  state.multicast_routes.ForEach(
      [&](const auto& o) { add("multicast route", *o, TextOf<v1::MulticastRoute>(*o)); });
  state.multicast_legs.ForEach([&](const auto& o) { add("multicast leg", *o, o->name); });
  state.multicast_feeds.ForEach([&](const auto& o) { add("multicast feed", *o, o->name); });
  state.rules.ForEach([&](const auto& o) { add("rule", *o, TextOf<v1::Rule>(*o)); });
  state.counters.ForEach([&](const auto& o) { add("counter", *o, absl::StrCat(o->name, " x", o->references)); });
  state.priorities.ForEach(
      [&](const auto& rule) { lines.insert(absl::StrCat("priority ", rule->priority, ": ", rule->name)); });
  std::string text = absl::StrCat("settings ", TextOf<v1::Settings>(*state.settings), "\nprefixes ",
                                  state.prefix_count, ", entries ", state.entry_count, "\n");
  for (const std::string& line : lines) absl::StrAppend(&text, line, "\n");
  return text;
}

std::string Describe(const Violations& violations) {
  std::string text;
  for (const Violation& violation : violations) {
    absl::StrAppend(&text, violation.field, ": ", violation.description, "\n");
  }
  return text;
}

ChangeResult Desired::Apply(Change change) {
  ChangeResult result = BuildState(state_, std::move(change), limits_, ids_, false);
  if (!result.state) return result;
  ForEachRetiredId(*state_, *result.state, [this](Kind kind, uint32_t id) { ids_.of(kind).Free(id); });
  state_ = result.state;
  return result;
}

const Snapshot& Desired::Must(Change change) {
  const ChangeResult result = Apply(std::move(change));
  if (!result.state) throw std::invalid_argument(Describe(result.violations) + result.status.ToString());
  return state_;
}

}  // namespace headgate::testing
