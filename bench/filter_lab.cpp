// SPDX-License-Identifier: Apache-2.0
#include "bench/filter_lab.h"

#include <absl/strings/str_cat.h>

#include <algorithm>

#include "agent/base/status.h"
#include "bench/headers.h"

namespace headgate::bench {

absl::StatusOr<std::unique_ptr<Lab>> MakeFilterLab() {
  HG_ASSIGN_OR_RETURN(auto lab, Lab::Create({kFilterSenderNs, kFilterNs}));
  HG_RETURN_IF_ERROR(lab->Connect({kFilterSenderNs, kFilterSenderDevice}, {kFilterNs, kFilterDevice}));
  HG_RETURN_IF_ERROR(lab->EnableGro({kFilterNs, kFilterDevice}));
  for (const char* device : {kEmptyDevice, kHundredDevice, kFreshDevice}) {
    HG_RETURN_IF_ERROR(lab->Connect({kFilterSenderNs, absl::StrCat(device, "-")}, {kFilterNs, device}));
  }
  return lab;
}

State MakeFilterState(const std::vector<Rule>& rules) {
  State state;
  state.generation = 1;
  Settings settings;
  settings.default_action = BasicVerdict::kDrop;
  state.settings = std::make_shared<const Settings>(std::move(settings));
  state.interfaces.Set({.name = "in", .device = kFilterDevice, .id = kFilterPort});
  for (const Rule& rule : rules) state.rules.Set(rule);
  return state;
}

absl::StatusOr<MatchCounts> ReadMatchCounts(const BpfDataplane& dataplane, const std::vector<Rule>& rules) {
  uint32_t last = 0;
  for (const Rule& rule : rules) last = std::max(last, rule.id);
  HG_ASSIGN_OR_RETURN(const auto counts, dataplane.ReadCounters(CounterId::kRules, 0, last + 1));
  HG_ASSIGN_OR_RETURN(const auto reasons,
                      dataplane.ReadCounters(CounterId::kPorts, kFilterPort * HG_REASON_SLOTS, HG_REASON_SLOTS));
  MatchCounts matches;
  // Packets are the first field of each.
  for (const Rule& rule : rules) {
    matches.rules.push_back(counts[static_cast<size_t>(rule.id) * dataplane.CounterFields(CounterId::kRules)]);
  }
  matches.unmatched = reasons[HG_REASON_DROP_DEFAULT * dataplane.CounterFields(CounterId::kPorts)];
  return matches;
}

absl::StatusOr<std::vector<Rule>> LoadFilterRules(const std::string& set, const std::string& size) {
  if (size != kHundred) return LoadRuleSet(absl::StrCat(set, "_", size));
  constexpr size_t kRules = 100;
  HG_ASSIGN_OR_RETURN(const std::vector<Rule> thousand, LoadRuleSet(absl::StrCat(set, "_1k")));
  std::vector<Rule> hundred;
  for (size_t i = 0; i < kRules; ++i) hundred.push_back(thousand[i * thousand.size() / kRules]);
  return hundred;
}

}  // namespace headgate::bench
