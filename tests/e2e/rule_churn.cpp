// SPDX-License-Identifier: Apache-2.0
#include "tests/e2e/rule_churn.h"

#include <absl/strings/str_cat.h>
#include <netinet/in.h>

#include <utility>

#include "agent/api/convert.h"
#include "tests/harness/header_frame.h"

namespace headgate::testing {
namespace {

constexpr uint32_t kFirstSource = 0xc0000201;  // 192.0.2.1
constexpr uint32_t kDestination = 0xc6336401;  // 198.51.100.1
constexpr uint16_t kFirstPort = 10000, kDestinationPort = 20000;
constexpr uint32_t kFlowsPerSource = 256;
// Of so many changes, one is to a rule of a flow.
constexpr uint64_t kFlowShare = 8;
// Of so many headers, one is a flow's.
constexpr uint64_t kFlowHeaders = 32;
constexpr uint16_t kFlowLength = 50;  // of frames of 64 bytes
constexpr int kDraws = 100;

Prefix HostOf(uint32_t address) { return {{{address}, Family::kIpv4}, 32}; }

std::shared_ptr<const Action> RedirectOut(const MacAddress& mark) {
  return std::make_shared<const Action>(
      Action{.verdict = Redirect{.interface = "out", .source_mac = std::nullopt, .destination_mac = mark}});
}

Rule FlowRule(uint32_t flow) {
  const Header header = FlowHeader(flow);
  Rule rule;
  rule.name = FlowRuleName(flow);
  rule.match.source = HostOf(header.source[0]);
  rule.match.destination = HostOf(header.destination[0]);
  rule.match.protocol = header.protocol;
  rule.match.source_ports = {PortRange{header.source_port, header.source_port}};
  rule.action =
      DropsFlow(flow) ? std::make_shared<const Action>(Action{.verdict = Drop{}}) : RedirectOut(MarkOf(flow));
  return rule;
}

Rule AllFlowsRule() {
  Rule rule;
  rule.name = kAllFlows;
  rule.match.destination = HostOf(kDestination);
  rule.match.source = Prefix{{{kFirstSource & 0xffffff00}, Family::kIpv4}, 24};
  rule.match.protocol = IPPROTO_UDP;
  rule.action = RedirectOut(MarkOfAllFlows());
  return rule;
}

// None: it asks for no address.
std::optional<Family> FamilyOf(const Match& match) {
  if (match.source) return match.source->address.family;
  if (match.destination) return match.destination->address.family;
  return std::nullopt;
}

bool MatchesSomeFlow(const Match& match) {
  for (uint32_t flow = 0; flow < kTrafficFlows; ++flow) {
    if (Matches(match, FlowHeader(flow))) return true;
  }
  return false;
}

}  // namespace

std::string FlowRuleName(uint32_t flow) { return absl::StrCat("flow-", flow); }
bool KeepsRule(uint32_t flow) { return flow % 2 == 1; }
bool DropsFlow(uint32_t flow) { return flow % 8 < 2; }

MacAddress MarkOf(uint32_t flow) {
  return {2, 0, 0, 0x0a, static_cast<uint8_t>(flow >> 8), static_cast<uint8_t>(flow)};
}
MacAddress MarkOfAllFlows() { return {2, 0, 0, 0x0b, 0, 0}; }

Header FlowHeader(uint32_t flow) {
  Header header;
  header.source[0] = kFirstSource + flow / kFlowsPerSource;
  header.destination[0] = kDestination;
  header.source_port = static_cast<uint16_t>(kFirstPort + flow % kFlowsPerSource);
  header.destination_port = kDestinationPort;
  header.protocol = IPPROTO_UDP;
  header.length = kFlowLength;
  return header;
}

bool IsUndrawable(const Rule& rule) {
  if (!rule.match.source) return false;
  const Prefix& source = *rule.match.source;
  const uint32_t first = source.address.words[0];
  if (source.address.family == Family::kIpv6) return source.length >= 8 && first >> 24 == 0xff;
  return (source.length >= 4 && first >> 28 == 0xe) || (source.length == 32 && first == 0xffffffff);
}

RuleChurn::RuleChurn(RuleSet set, std::mt19937_64& random) : random_(random), sets_(std::move(set.sets)) {
  for (const PrefixSet& prefixes : sets_) scan_.PutSet(prefixes);
  std::vector<Rule> rules = std::move(set.rules);
  const size_t loaded = rules.size();
  std::erase_if(rules, [](const Rule& rule) { return MatchesSomeFlow(rule.match); });
  std::printf("%zu rules, without %zu that may match flows of the traffic\n", rules.size(), loaded - rules.size());

  // In the order of the set, with room between them and on both sides; 1 is for what comes last.
  const auto count = static_cast<uint32_t>(rules.size());
  for (uint32_t i = 0; i < count; ++i) {
    rules[i].priority = 2 * (count - i) + 1;
    priorities_.push_back(2 * i + 2);
  }
  for (Rule& rule : rules) Put(std::move(rule), set_);
  Rule all = AllFlowsRule();
  all.priority = 1;
  scan_.Put(all);
  kept_.push_back(std::move(all));
  for (uint32_t flow = 0; flow < kTrafficFlows; ++flow) {
    Rule rule = FlowRule(flow);
    rule.priority = TakePriority();
    if (KeepsRule(flow)) {
      scan_.Put(rule);
      kept_.push_back(std::move(rule));
    } else {
      Put(std::move(rule), flows_);
    }
  }
}

std::vector<Rule> RuleChurn::All() const {
  std::vector<Rule> all = kept_;
  for (const Pool* pool : {&set_, &flows_}) all.insert(all.end(), pool->present.begin(), pool->present.end());
  return all;
}

void RuleChurn::Put(Rule rule, Pool& pool) {
  scan_.Put(rule);
  pool.present.push_back(std::move(rule));
}

Rule RuleChurn::Take(std::vector<Rule>& from) {
  std::swap(from[random_() % from.size()], from.back());
  Rule rule = std::move(from.back());
  from.pop_back();
  return rule;
}

Rule RuleChurn::TakeNew(Pool& pool) {
  if (&pool == &flows_ || (!pool.gone.empty() && random_() % 2 == 0)) return Take(pool.gone);
  // The addresses of two rules and the ports of one of them: not drawn at random, which would overlap nothing.
  Rule rule = pool.present[random_() % pool.present.size()];
  Match match;
  do {
    match = rule.match;
    const Match& other = pool.present[random_() % pool.present.size()].match;
    if (FamilyOf(other) != FamilyOf(match)) continue;  // with its own source
    match.source = other.source;
    match.source_set = other.source_set;
  } while (MatchesSomeFlow(match));
  rule.match = std::move(match);
  rule.name = absl::StrCat("new-", made_++);
  return rule;
}

uint32_t RuleChurn::TakePriority() {
  std::swap(priorities_[random_() % priorities_.size()], priorities_.back());
  const uint32_t priority = priorities_.back();
  priorities_.pop_back();
  return priority;
}

headgate::v1::UpdateRequest RuleChurn::Change(Rule& affected) {
  Pool& pool = random_() % kFlowShare == 0 ? flows_ : set_;
  uint64_t kind = random_() % 3;
  // What cannot be done, because all flows' rules are there or all are gone, is done the other way round.
  if (kind == 0 && &pool == &flows_ && pool.gone.empty()) kind = 1;
  if (kind != 0 && pool.present.empty()) kind = 0;

  headgate::v1::UpdateRequest request;
  if (kind == 0) {
    affected = TakeNew(pool);
    affected.priority = TakePriority();
    ++inserted_;
  } else {
    affected = Take(pool.present);
    if (kind == 1) {
      priorities_.push_back(affected.priority);
      scan_.Erase(affected.name);
      request.mutable_patch()->add_delete_rules(affected.name);
      pool.gone.push_back(affected);
      ++deleted_;
      return request;
    }
    // Another one than it has.
    priorities_.push_back(std::exchange(affected.priority, TakePriority()));
    ++moved_;
  }
  api::Write(affected, *request.mutable_patch()->mutable_upsert()->add_rules());
  Put(affected, pool);
  return request;
}

Header RuleChurn::Draw() {
  if (random_() % kFlowHeaders == 0) return FlowHeader(static_cast<uint32_t>(random_() % kTrafficFlows));
  while (true) {
    // As DrawHeader takes them: one, and now and then some fields of another.
    std::vector<Rule> two(2);
    for (Rule& rule : two) rule = WithoutSets(set_.present[random_() % set_.present.size()]);
    if (const Header header = DrawHeader(two, random_); IsUsable(header)) return header;
  }
}

std::optional<Header> RuleChurn::DrawFor(const Rule& rule) {
  for (int draw = 0; draw < kDraws; ++draw) {
    const Header header = DrawHeader({WithoutSets(rule)}, random_);
    if (IsUsable(header)) return header;
  }
  return std::nullopt;
}

Rule RuleChurn::WithoutSets(Rule rule) {
  const auto replace = [this](RareString& name, std::optional<Prefix>& prefix) {
    if (name.empty()) return;
    for (const PrefixSet& set : sets_) {
      if (set.name != name.str()) continue;
      size_t skip = random_() % set.prefixes.size();
      set.prefixes.ForEach([&](const Prefix& one) {
        if (skip-- == 0) prefix = one;
      });
    }
    name = RareString();
  };
  replace(rule.match.source_set, rule.match.source);
  replace(rule.match.destination_set, rule.match.destination);
  return rule;
}

}  // namespace headgate::testing
