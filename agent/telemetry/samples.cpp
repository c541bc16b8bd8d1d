// SPDX-License-Identifier: Apache-2.0
#include "agent/telemetry/samples.h"

#include <absl/container/flat_hash_map.h>

#include <algorithm>
#include <optional>

#include "agent/base/log.h"
#include "agent/control/stats.h"

namespace headgate {
namespace {

constexpr int kPollMs = 200;

// Names by id, of one state; made anew when the state has changed.
class Names {
 public:
  void Update(const Snapshot& state) {
    if (state->generation == generation_) return;
    generation_ = state->generation;
    rules_.clear();
    interfaces_.clear();
    state->rules.ForEach([this](const auto& rule) {
      if (rule->action->sample_one_in != 0) rules_[rule->id] = rule->name;
    });
    state->interfaces.ForEach([this](const auto& interface) { interfaces_[interface->id] = interface->name; });
  }
  std::string Rule(uint32_t id) const { return Find(rules_, id); }
  std::string Interface(uint32_t id) const { return Find(interfaces_, id); }

 private:
  using Map = absl::flat_hash_map<uint32_t, std::string>;
  static std::string Find(const Map& map, uint32_t id) {
    const auto found = map.find(id);
    return found == map.end() ? std::string() : found->second;
  }
  std::optional<uint64_t> generation_;
  Map rules_, interfaces_;
};

}  // namespace

SamplePump::SamplePump(Dataplane& dataplane, const Controller& controller, EventBus& events)
    : thread_([&dataplane, &controller, &events](const std::stop_token& stop) {
        Names names;
        while (!stop.stop_requested()) {
          const absl::Status status = dataplane.PollSamples(
              [&](const hg_sample& sample) {
                names.Update(controller.applied());
                PacketSample packet;
                packet.rule = names.Rule(sample.rule_id);
                packet.interface = names.Interface(sample.port);
                packet.reason = ReasonOf(sample.reason).name;
                packet.length = sample.length;
                packet.data.assign(sample.data,
                                   sample.data + std::min<uint32_t>(sample.captured, HG_SAMPLE_BYTES));
                events.Publish({.type = EventType::kSample, .sample = std::move(packet)});
              },
              kPollMs);
          if (!status.ok()) {
            Log(spdlog::level::err, "samples end", {{"reason", status}});
            return;
          }
        }
      }) {}

}  // namespace headgate
