// SPDX-License-Identifier: Apache-2.0
#include "bench/filter_lab.h"

#include <absl/strings/str_cat.h>

#include "agent/base/status.h"
#include "bench/headers.h"

namespace headgate::bench {

absl::StatusOr<std::unique_ptr<Lab>> MakeFilterLab() {
  HG_ASSIGN_OR_RETURN(auto lab, Lab::Create({kFilterSenderNs, kFilterNs}));
  HG_RETURN_IF_ERROR(lab->Connect({kFilterSenderNs, kFilterSenderDevice}, {kFilterNs, kFilterDevice}));
  HG_RETURN_IF_ERROR(lab->EnableGro({kFilterNs, kFilterDevice}));
  HG_RETURN_IF_ERROR(lab->Connect({kFilterSenderNs, "hgb-idle"}, {kFilterNs, kEmptyDevice}));
  return lab;
}

State MakeFilterState(const testing::SetRules& rules) {
  State state = rules.MakeState();
  state.generation = 1;
  Settings settings;
  settings.default_action = BasicVerdict::kDrop;
  state.settings = std::make_shared<const Settings>(std::move(settings));
  state.interfaces.Set({.name = "in", .device = kFilterDevice, .id = kFilterPort});
  return state;
}

absl::StatusOr<std::vector<Rule>> LoadFilterRules(const std::string& set, const std::string& size) {
  if (size != "100") return LoadRuleSet(absl::StrCat(set, "_", size));
  constexpr size_t kRules = 100;
  HG_ASSIGN_OR_RETURN(const std::vector<Rule> thousand, LoadRuleSet(absl::StrCat(set, "_1k")));
  std::vector<Rule> hundred;
  for (size_t i = 0; i < kRules; ++i) hundred.push_back(thousand[i * thousand.size() / kRules]);
  return hundred;
}

absl::StatusOr<testing::SetRules> LoadSetRules(const std::string& set, const std::string& size) {
  constexpr size_t kMixedSets = 32, kPortsSets = 50;
  constexpr unsigned kPercent = 25;
  // The same rules in every run.
  std::mt19937_64 random(1);  // NOLINT(cert-msc51-cpp)
  HG_ASSIGN_OR_RETURN(std::vector<Rule> rules, LoadFilterRules("acl1", size));
  if (set == kMixedSet)
    return testing::NameSets(std::move(rules), kMixedSets, kPercent, testing::SetOverlap::kDealt, random);
  if (set == kPortsSet) return testing::MakeSetPortRules(rules.size(), kPortsSets, random);
  return testing::SetRules{.sets = {}, .rules = rules, .drawn = rules};
}

}  // namespace headgate::bench
