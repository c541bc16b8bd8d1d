// SPDX-License-Identifier: Apache-2.0
#include "bench/replace_rules.h"

#include <absl/strings/str_cat.h>
#include <netinet/in.h>

#include <algorithm>
#include <utility>

#include "agent/api/convert.h"
#include "agent/base/status.h"
#include "bench/headers.h"
#include "bench/running_agent.h"
#include "tests/harness/classbench.h"

namespace headgate::bench {
namespace {

v1::GatewayConfig RedirectAll(const ReplacePath& path) {
  v1::GatewayConfig config;
  for (const auto& [name, device] : {std::pair("in", path.in), std::pair("out", path.out)}) {
    v1::Interface& interface = *config.add_interfaces();
    interface.set_name(name);
    interface.set_device(device);
    interface.set_mode(v1::ATTACH_MODE_NATIVE);
  }
  v1::Rule& rule = *config.add_rules();
  rule.set_name("redirect");
  rule.set_priority(1);
  rule.mutable_match()->set_interface("in");
  v1::Redirect& redirect = *rule.mutable_action()->mutable_redirect();
  redirect.set_interface("out");
  redirect.set_source_mac(path.source_mac);
  redirect.set_destination_mac(path.destination_mac);
  return config;
}

void ExchangeEnds(v1::Rule& rule) {
  rule.set_name(absl::StrCat("exchanged-", rule.name()));
  v1::Match& match = *rule.mutable_match();
  match.mutable_source()->swap(*match.mutable_destination());
  match.mutable_source_ports()->Swap(match.mutable_destination_ports());
}

v1::GatewayConfig WithRules(v1::GatewayConfig config, const std::vector<Rule>& rules, bool exchanged) {
  for (const Rule& rule : rules) {
    v1::Rule& added = *config.add_rules();
    api::Write(rule, added);
    added.set_priority(rule.priority + 1);
    if (exchanged) ExchangeEnds(added);
  }
  return config;
}

// In either direction.
void RemoveMatching(std::vector<Rule>& rules, const FrameSpec& frames) {
  std::vector<testing::Header> headers;
  for (uint32_t flow = 0; flow < frames.flows; ++flow) {
    testing::Header header{.source = frames.source.words,
                           .destination = frames.destination.words,
                           .source_port = static_cast<uint16_t>(frames.source_port + flow),
                           .destination_port = frames.destination_port,
                           .protocol = IPPROTO_UDP};
    headers.push_back(header);
    std::swap(header.source, header.destination);
    std::swap(header.source_port, header.destination_port);
    headers.push_back(header);
  }
  std::erase_if(rules, [&](const Rule& rule) {
    return std::any_of(headers.begin(), headers.end(),
                       [&](const testing::Header& header) { return testing::Matches(rule.match, header); });
  });
}

}  // namespace

FrameSpec ReplaceFrames(uint32_t flows) {
  return {.destination_mac = {2, 0, 0, 0, 0, 1},
          .source_mac = {2, 0, 0, 0, 0, 2},
          .source = {{0xc6120001}, Family::kIpv4},       // 198.18.0.1 (RFC 2544)
          .destination = {{0xc6130001}, Family::kIpv4},  // 198.19.0.1
          .flows = flows};
}

absl::StatusOr<ReplaceCycle> MakeReplaceCycle(const std::string& rule_set, const ReplacePath& path,
                                              const FrameSpec& frames) {
  HG_ASSIGN_OR_RETURN(std::vector<Rule> rules, LoadRuleSet(rule_set));
  RemoveMatching(rules, frames);
  ReplaceCycle cycle{.rules = rules.size()};
  const v1::GatewayConfig bare = RedirectAll(path);
  cycle.requests.push_back(ApplyUntilInForce(WithRules(bare, rules, false)));
  cycle.requests.push_back(ApplyUntilInForce(WithRules(bare, rules, true)));
  cycle.requests.push_back(ApplyUntilInForce(bare));
  return cycle;
}

}  // namespace headgate::bench
