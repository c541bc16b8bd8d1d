// SPDX-License-Identifier: Apache-2.0
#include "bench/control_rules.h"

#include <absl/container/flat_hash_set.h>
#include <absl/strings/str_cat.h>
#include <linux/bpf.h>
#include <netinet/in.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "agent/api/convert.h"
#include "agent/base/status.h"
#include "bench/frame.h"
#include "bench/headers.h"

namespace headgate::bench {
namespace {

constexpr char kInterface[] = "in";
constexpr uint32_t kFrameBytes = 100;
constexpr size_t kTriesPerRule = 1000, kTriesPerFrame = 1000;

void AddInterface(v1::GatewayConfig& config, const std::string& device) {
  v1::Interface& interface = *config.add_interfaces();
  interface.set_name(kInterface);
  interface.set_device(device);
}

absl::StatusOr<std::vector<uint8_t>> MakeFrame(const testing::Header& header) {
  const FrameSpec spec = {.destination_mac = {2, 0, 0, 0, 0, 1},
                          .source_mac = {2, 0, 0, 0, 0, 2},
                          .source = {header.source, header.family},
                          .destination = {header.destination, header.family},
                          .transport = header.protocol == IPPROTO_TCP ? Transport::kTcp : Transport::kUdp,
                          .source_port = header.source_port,
                          .destination_port = header.destination_port,
                          .size = kFrameBytes};
  HG_ASSIGN_OR_RETURN(const hgb_template frame, BuildTemplate(spec));
  return BuildFrame(spec, frame, 0);
}

Prefix DrawPrefix(std::mt19937_64& random) {
  Prefix prefix;
  const bool is_ipv4 = random() % 4 != 0;
  prefix.address.family = is_ipv4 ? Family::kIpv4 : Family::kIpv6;
  prefix.length = static_cast<uint8_t>(is_ipv4 ? 20 + random() % 13 : 32 + random() % 33);
  for (int i = 0; i < AddressBits(prefix.address.family) / 32; ++i) {
    prefix.address.words[static_cast<size_t>(i)] = static_cast<uint32_t>(random()) & WordMask(prefix.length, i);
  }
  // Unicast: frames from group addresses are dropped for that alone.
  if (is_ipv4) prefix.address.words[0] &= 0x7fffffff;
  if (!is_ipv4) prefix.address.words[0] = (prefix.address.words[0] & 0x1fffffff) | 0x20000000;
  return prefix;
}

absl::StatusOr<std::vector<uint8_t>> FrameFromAddress(const IpAddress& source) {
  testing::Header header{.family = source.family, .source = source.words, .protocol = IPPROTO_UDP};
  header.destination[0] = header.family == Family::kIpv4 ? 0xc6130001 : 0x20010db8;  // 198.19.0.1, 2001:db8::
  return MakeFrame(header);
}

// The addresses of a large set.
class Members {
 public:
  static absl::StatusOr<Members> Of(const v1::PrefixSet& set) {
    Members members;
    for (const std::string& text : set.prefixes()) {
      HG_ASSIGN_OR_RETURN(const Prefix prefix, ParsePrefix(text));
      members.prefixes_.insert(prefix);
    }
    return members;
  }

  bool Contain(const IpAddress& address) const {
    for (int length = 0; length <= AddressBits(address.family); ++length) {
      Prefix prefix{address, static_cast<uint8_t>(length)};
      for (int word = 0; word < 4; ++word) {
        prefix.address.words[static_cast<size_t>(word)] &= WordMask(length, word);
      }
      if (prefixes_.contains(prefix)) return true;
    }
    return false;
  }

 private:
  absl::flat_hash_set<Prefix> prefixes_;
};

}  // namespace

absl::StatusOr<RuleSet> RuleSet::Load(const std::string& name) {
  HG_ASSIGN_OR_RETURN(std::vector<Rule> rules, LoadRuleSet(name));
  for (size_t i = 0; i < rules.size(); ++i) rules[i].id = static_cast<uint32_t>(i);
  RuleSet set(std::move(rules));
  set.Reset();
  return set;
}

void RuleSet::Reset() {
  rules_ = ChangingRules(loaded_);
  scan_ = std::make_unique<testing::LinearScan>(loaded_);
  deleted_.reset();
}

v1::GatewayConfig RuleSet::Config(const std::string& device) const {
  v1::GatewayConfig config;
  AddInterface(config, device);
  for (const Rule& rule : loaded_) api::Write(rule, *config.add_rules());
  return config;
}

absl::StatusOr<std::vector<ShownHeader>> RuleSet::DrawShown(size_t count, std::mt19937_64& random) const {
  std::vector<ShownHeader> shown;
  absl::flat_hash_set<size_t> drawn;
  for (size_t tries = 0; shown.size() < count; ++tries) {
    if (tries == count * kTriesPerRule) {
      return absl::InvalidArgumentError(
          absl::StrCat("the rule set has too few UDP and TCP rules for ", count, " changes"));
    }
    const testing::Header header = testing::DrawHeader(loaded_, random);
    if ((header.protocol != IPPROTO_UDP && header.protocol != IPPROTO_TCP) || !MaySend(header)) continue;
    const std::optional<size_t> index = Find(header);
    if (!index || !drawn.insert(*index).second) continue;
    HG_ASSIGN_OR_RETURN(std::vector<uint8_t> frame, MakeFrame(header));
    shown.push_back({header, std::move(frame)});
  }
  return shown;
}

std::optional<size_t> RuleSet::Find(const testing::Header& header) const {
  const Rule* rule = scan_->Find(header);
  return rule != nullptr ? std::optional<size_t>(rule->id) : std::nullopt;
}

uint32_t RuleSet::VerdictOf(const testing::Header& header) const {
  const Rule* rule = scan_->Find(header);
  return rule != nullptr && std::holds_alternative<Drop>(rule->action->verdict) ? XDP_DROP : XDP_PASS;
}

void RuleSet::Refresh(size_t index) {
  if (rules_.IsDeleted(index)) {
    scan_->Erase(rules_.rule(index).name);
  } else {
    scan_->Put(rules_.rule(index));
  }
}

v1::UpdateRequest RuleSet::Request(ChangeKind kind, size_t index) const {
  v1::UpdateRequest request;
  if (kind == ChangeKind::kDelete) {
    request.mutable_patch()->add_delete_rules(rules_.rule(index).name);
  } else {
    api::Write(rules_.rule(index), *request.mutable_patch()->mutable_upsert()->add_rules());
  }
  return request;
}

std::optional<v1::UpdateRequest> RuleSet::TurnRound(ChangeKind kind, const testing::Header& header) {
  const uint32_t before = VerdictOf(header);
  const std::optional<size_t> found = kind == ChangeKind::kInsert ? deleted_ : Find(header);
  if (!found) return std::nullopt;
  const size_t index = *found;
  const Rule was = rules_.rule(index);
  switch (kind) {
    case ChangeKind::kEdit:
      rules_.Edit(index);
      break;
    case ChangeKind::kDelete:
      rules_.Delete(index);
      break;
    case ChangeKind::kInsert:
      rules_.Insert(index);
      break;
    case ChangeKind::kMove: {
      scan_->Erase(was.name);
      const Rule* next = scan_->Find(header);
      const uint32_t priority = next != nullptr ? rules_.FreePriorityBelow(next->priority) : 0;
      Refresh(index);
      if (priority == 0) return std::nullopt;
      rules_.Move(index, priority);
      break;
    }
  }
  Refresh(index);
  if (VerdictOf(header) != before) {
    if (kind == ChangeKind::kDelete) deleted_ = index;
    if (kind == ChangeKind::kInsert) deleted_.reset();
    return Request(kind, index);
  }
  // As if it had not been.
  if (kind == ChangeKind::kDelete) rules_.Insert(index);
  if (kind == ChangeKind::kInsert) rules_.Delete(index);
  if (kind == ChangeKind::kMove) rules_.Move(index, was.priority);
  Refresh(index);
  return std::nullopt;
}

RuleSet::Updates RuleSet::DrawUpdates(size_t away, size_t count, std::mt19937_64& random) {
  RandomChanges changes(rules_, random);
  Updates updates;
  const auto add = [this](const RandomChanges::Change& change, std::vector<v1::UpdateRequest>& requests) {
    Refresh(change.index);
    requests.push_back(Request(change.kind, change.index));
  };
  updates.requests.reserve(count);
  for (size_t i = 0; i < away; ++i) add(changes.Delete(), updates.before);
  for (size_t i = 0; i < count; ++i) add(changes.Next(), updates.requests);
  return updates;
}

v1::GatewayConfig LargeSetConfig(const std::string& device, size_t count, std::mt19937_64& random) {
  v1::GatewayConfig config;
  AddInterface(config, device);
  v1::PrefixSet& set = *config.add_prefix_sets();
  set.set_name("large");
  absl::flat_hash_set<Prefix> drawn;
  while (drawn.size() < count) {
    const Prefix prefix = DrawPrefix(random);
    if (drawn.insert(prefix).second) set.add_prefixes(ToString(prefix));
  }
  v1::Rule& rule = *config.add_rules();
  rule.set_name("drop-large");
  rule.set_priority(1);
  rule.mutable_match()->set_source_set("large");
  rule.mutable_action()->mutable_drop();
  return config;
}

v1::GatewayConfig HalfReplaced(const v1::GatewayConfig& config, std::mt19937_64& random) {
  v1::GatewayConfig replaced = config;
  v1::PrefixSet& set = *replaced.mutable_prefix_sets(0);
  absl::flat_hash_set<std::string> drawn(set.prefixes().begin(), set.prefixes().end());
  for (int i = 0; i < set.prefixes_size(); i += 2) {
    std::string text;
    do text = ToString(DrawPrefix(random));
    while (!drawn.insert(text).second);
    set.set_prefixes(i, std::move(text));
  }
  return replaced;
}

absl::StatusOr<std::vector<JudgedFrame>> JudgeBySets(const v1::GatewayConfig& before,
                                                     const v1::GatewayConfig& after, size_t count,
                                                     std::mt19937_64& random) {
  HG_ASSIGN_OR_RETURN(const Members old_members, Members::Of(before.prefix_sets(0)));
  HG_ASSIGN_OR_RETURN(const Members new_members, Members::Of(after.prefix_sets(0)));
  std::vector<JudgedFrame> frames;
  for (const bool in_old : {false, true}) {
    for (const bool in_new : {false, true}) {
      for (size_t found = 0, tries = 0; found < count;) {
        IpAddress address = DrawPrefix(random).address;
        // One drawn at random is in neither, mostly.
        if (in_old || in_new) {
          const v1::PrefixSet& set = (in_old ? before : after).prefix_sets(0);
          const auto index = static_cast<int>(random() % static_cast<uint64_t>(set.prefixes_size()));
          HG_ASSIGN_OR_RETURN(const Prefix prefix, ParsePrefix(set.prefixes(index)));
          address = prefix.address;
        }
        if (++tries == kTriesPerFrame * count) {
          return absl::InvalidArgumentError("the large set has too few prefixes: hardly any is in one set alone");
        }
        if (old_members.Contain(address) != in_old || new_members.Contain(address) != in_new) continue;
        HG_ASSIGN_OR_RETURN(std::vector<uint8_t> frame, FrameFromAddress(address));
        frames.push_back({std::move(frame), in_old ? XDP_DROP : XDP_PASS, in_new ? XDP_DROP : XDP_PASS});
        ++found;
      }
    }
  }
  std::shuffle(frames.begin(), frames.end(), random);
  return frames;
}

absl::StatusOr<std::vector<uint8_t>> FrameFrom(const v1::PrefixSet& set, int index) {
  HG_ASSIGN_OR_RETURN(const Prefix prefix, ParsePrefix(set.prefixes(index)));
  return FrameFromAddress(prefix.address);
}

}  // namespace headgate::bench
