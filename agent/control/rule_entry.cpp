// SPDX-License-Identifier: Apache-2.0
#include "agent/control/rule_entry.h"

#include <netinet/in.h>

#include <algorithm>
#include <bit>

namespace headgate {
namespace {

constexpr uint32_t kProtocolMask = 0xffU << HG_PROTO_SHIFT;

struct Bits16 {
  uint32_t value = 0;
  uint32_t mask = 0;
};

// The leading bits that all numbers of a 16-bit range share.
Bits16 CommonPrefix(uint32_t first, uint32_t last) {
  const uint32_t mask = 0xffffU & ~((1U << std::bit_width(first ^ last)) - 1);
  return {first & mask, mask};
}

void SetPrefix(const std::optional<Prefix>& prefix, std::array<uint32_t, 4>& value,
               std::array<uint32_t, 4>& mask) {
  if (!prefix) return;
  const int words = prefix->address.family == Family::kIpv6 ? 4 : 1;
  for (int i = 0; i < words; ++i) {
    mask[i] = WordMask(prefix->length, i);
    value[i] = prefix->address.words[i] & mask[i];
  }
}

// Of HG_WORD_PROTO.
void RequireProto(RuleEntry& entry, uint32_t mask, uint32_t value) {
  entry.proto_mask |= mask;
  entry.proto |= value;
}

void RequireFragment(RuleEntry& entry, FragmentMatch fragment) {
  switch (fragment) {
    case FragmentMatch::kUnspecified:
      return;
    case FragmentMatch::kNone:
      return RequireProto(entry, HG_KIND_FRAGMENT, 0);
    case FragmentMatch::kFirst:
      return RequireProto(entry, HG_KIND_FRAGMENT | HG_KIND_LATER, HG_KIND_FRAGMENT);
    case FragmentMatch::kLater:
      return RequireProto(entry, HG_KIND_LATER, HG_KIND_LATER);
    case FragmentMatch::kAny:
      return RequireProto(entry, HG_KIND_FRAGMENT, HG_KIND_FRAGMENT);
  }
}

// Fields of the IP header, which are zero in the key of other frames.
void RequireIpHeader(RuleEntry& entry, const Match& match) {
  if (match.protocol) {
    RequireProto(entry, kProtocolMask, static_cast<uint32_t>(*match.protocol) << HG_PROTO_SHIFT);
  }
  if (match.dscp) {
    RequireProto(entry, 0x3fU << HG_DSCP_SHIFT, static_cast<uint32_t>(*match.dscp) << HG_DSCP_SHIFT);
  }
  RequireFragment(entry, match.fragment);
  if (match.protocol || match.dscp || match.fragment != FragmentMatch::kUnspecified) {
    RequireProto(entry, HG_KIND_IP, HG_KIND_IP);
  }
}

bool NamesProtocol(const Match& match) {
  return match.protocol && (*match.protocol == IPPROTO_ICMPV6 || *match.protocol == IPPROTO_IGMP);
}

// All of the rule but its ports.
RuleEntry CompileAllButPorts(const Match& match, const State& state) {
  RuleEntry entry;
  SetPrefix(match.source, entry.src, entry.src_mask);
  SetPrefix(match.destination, entry.dst, entry.dst_mask);
  for (const auto& prefix : {match.source, match.destination}) {
    if (!prefix) continue;
    const bool ipv6 = prefix->address.family == Family::kIpv6;
    RequireProto(entry, ipv6 ? HG_KIND_IPV6 : HG_KIND_IPV4, ipv6 ? HG_KIND_IPV6 : HG_KIND_IPV4);
  }
  RequireIpHeader(entry, match);
  RequireProto(entry, static_cast<uint32_t>(match.tcp_flags.mask) << HG_TCP_FLAGS_SHIFT,
               static_cast<uint32_t>(match.tcp_flags.value) << HG_TCP_FLAGS_SHIFT);
  // Without its L4 header, a fragment has no flags to be clear.
  if (match.tcp_flags.mask != 0) RequireProto(entry, HG_KIND_PORTS, HG_KIND_PORTS);
  if (match.icmp_type) {
    const uint32_t type = *match.icmp_type;
    entry.dport_min = static_cast<uint16_t>(type << 8 | match.icmp_code.value_or(0));
    entry.dport_max = static_cast<uint16_t>(type << 8 | match.icmp_code.value_or(0xff));
    RequireProto(entry, HG_KIND_ICMP, HG_KIND_ICMP);
  }
  if (!match.interface.empty()) entry.port = static_cast<uint16_t>(state.interfaces.Get(match.interface)->id);
  if (match.vlan) entry.vlan = *match.vlan;
  if (match.inner_vlan) entry.inner_vlan = *match.inner_vlan;
  if (match.packet_length) {
    entry.length_min = match.packet_length->first;
    entry.length_max = match.packet_length->last;
  }
  if (!match.source_set.empty()) {
    entry.src_set = static_cast<uint16_t>(state.prefix_sets.Get(match.source_set)->id + 1);
  }
  if (!match.destination_set.empty()) {
    entry.dst_set = static_cast<uint16_t>(state.prefix_sets.Get(match.destination_set)->id + 1);
  }
  if (NamesProtocol(match)) entry.flags |= HG_RULE_NAMED;
  return entry;
}

// One copy of the entry for each pair of port ranges.
std::vector<RuleEntry> Expand(const RuleEntry& entry, const PortRanges& sources, const PortRanges& destinations) {
  std::vector<RuleEntry> entries = {entry};
  if (sources.empty() && destinations.empty()) return entries;
  entries.clear();
  const PortRanges any = {PortRange{}};
  for (const PortRange& source : sources.empty() ? any : sources) {
    for (const PortRange& destination : destinations.empty() ? any : destinations) {
      RuleEntry copy = entry;
      copy.sport_min = source.first;
      copy.sport_max = source.last;
      copy.dport_min = destination.first;
      copy.dport_max = destination.last;
      RequireProto(copy, HG_KIND_PORTS, HG_KIND_PORTS);
      entries.push_back(copy);
    }
  }
  return entries;
}

}  // namespace

std::vector<RuleEntry> CompileMatch(const Match& match, const State& state) {
  return Expand(CompileAllButPorts(match, state), match.source_ports, match.destination_ports);
}

std::vector<RuleEntry> CompileRule(const Rule& rule, const State& state) {
  std::vector<RuleEntry> entries = CompileMatch(rule.match, state);
  for (RuleEntry& entry : entries) {
    entry.prio = rule.priority;
    entry.id = rule.id;
  }
  return entries;
}

std::vector<RuleEntry> CompileManagement(const ManagementAllow& allow, const State& state) {
  Match match;
  match.source = allow.source;
  match.protocol = allow.protocol;
  match.interface = allow.interface;
  RuleEntry entry = CompileAllButPorts(match, state);
  entry.prio = HG_PRIO_MGMT;
  entry.flags |= HG_RULE_MGMT;
  return Expand(entry, {}, allow.destination_ports);
}

Ternary<HG_WORDS_USED> KeyOf(const RuleEntry& entry) {
  Ternary<HG_WORDS_USED> key;
  const auto set = [&key](unsigned word, uint32_t value, uint32_t mask) {
    key.value[word] = value & mask;
    key.mask[word] = mask;
  };
  for (unsigned i = 0; i < 4; ++i) {
    set(HG_WORD_SRC + i, entry.src[i], entry.src_mask[i]);
    set(HG_WORD_DST + i, entry.dst[i], entry.dst_mask[i]);
  }
  const Bits16 sport = CommonPrefix(entry.sport_min, entry.sport_max);
  const Bits16 dport = CommonPrefix(entry.dport_min, entry.dport_max);
  set(HG_WORD_PORTS, sport.value << 16 | dport.value, sport.mask << 16 | dport.mask);
  set(HG_WORD_PROTO, entry.proto, entry.proto_mask);
  set(HG_WORD_INGRESS, static_cast<uint32_t>(entry.port) << 16 | entry.vlan,
      (entry.port != 0 ? 0xffff0000U : 0) | (entry.vlan != HG_VLAN_ANY ? 0xffffU : 0));
  const Bits16 length = CommonPrefix(entry.length_min, entry.length_max);
  set(HG_WORD_EXTRA, static_cast<uint32_t>(entry.inner_vlan) << 16 | length.value,
      (entry.inner_vlan != HG_VLAN_ANY ? 0xffff0000U : 0) | length.mask);
  return key;
}

std::optional<hg_match> MatchOf(const RuleEntry& entry) {
  const auto beyond_ipv4 = [](const std::array<uint32_t, 4>& mask) { return (mask[1] | mask[2] | mask[3]) != 0; };
  const uint32_t protocol = entry.proto_mask & kProtocolMask, kinds = entry.proto_mask & 0xff;
  const bool plain_proto = (protocol == 0 || protocol == kProtocolMask) &&
                           (entry.proto_mask & ~(kProtocolMask | HG_RULE_KINDS)) == 0 &&
                           kinds == (entry.proto & 0xff);
  const bool scoped = entry.port != 0 || entry.vlan != HG_VLAN_ANY || entry.inner_vlan != HG_VLAN_ANY ||
                      entry.length_min != 0 || entry.length_max != 0xffff || entry.src_set != 0 ||
                      entry.dst_set != 0;
  if (plain_proto && !scoped && !beyond_ipv4(entry.src_mask) && !beyond_ipv4(entry.dst_mask)) return std::nullopt;
  hg_match match{};
  std::copy(entry.src.begin(), entry.src.end(), match.src);
  std::copy(entry.src_mask.begin(), entry.src_mask.end(), match.src_mask);
  std::copy(entry.dst.begin() + 1, entry.dst.end(), match.dst_low);
  std::copy(entry.dst_mask.begin() + 1, entry.dst_mask.end(), match.dst_low_mask);
  match.proto = entry.proto;
  match.proto_mask = entry.proto_mask;
  match.port = entry.port;
  match.vlan = entry.vlan;
  match.inner_vlan = entry.inner_vlan;
  match.length_min = entry.length_min;
  match.length_max = entry.length_max;
  match.src_set = entry.src_set;
  match.dst_set = entry.dst_set;
  return match;
}

hg_rule Pack(const RuleEntry& entry, uint32_t match) {
  const bool any_protocol = (entry.proto_mask & kProtocolMask) != kProtocolMask;
  hg_rule rule{};
  rule.src = match != 0 ? match : entry.src[0];
  rule.dst = entry.dst[0];
  rule.sport_min = entry.sport_min;
  rule.sport_max = entry.sport_max;
  rule.dport_min = entry.dport_min;
  rule.dport_max = entry.dport_max;
  rule.prio = entry.prio;
  rule.id = entry.id;
  rule.src_shift = match != 0 ? 32 : static_cast<uint8_t>(std::countr_zero(entry.src_mask[0]));
  rule.dst_shift = static_cast<uint8_t>(std::countr_zero(entry.dst_mask[0]));
  rule.protocol = any_protocol ? 0 : static_cast<uint8_t>(entry.proto >> HG_PROTO_SHIFT);
  rule.flags = static_cast<uint8_t>(entry.flags | (match != 0 ? HG_RULE_MATCH : 0) |
                                    (any_protocol ? HG_RULE_ANY_PROTOCOL : 0) |
                                    (entry.proto_mask & entry.proto & HG_RULE_KINDS));
  return rule;
}

RuleEntry Unpack(const hg_rule& rule, const hg_match* match) {
  const auto mask = [](uint8_t shift) { return shift >= 32 ? 0 : 0xffffffffU << shift; };
  RuleEntry entry;
  entry.dst_mask[0] = mask(rule.dst_shift);
  entry.dst[0] = rule.dst;
  entry.sport_min = rule.sport_min;
  entry.sport_max = rule.sport_max;
  entry.dport_min = rule.dport_min;
  entry.dport_max = rule.dport_max;
  entry.prio = rule.prio;
  entry.id = rule.id;
  entry.flags = rule.flags & (HG_RULE_NAMED | HG_RULE_MGMT);
  if (!match) {
    entry.src_mask[0] = mask(rule.src_shift);
    entry.src[0] = rule.src;
    const uint32_t kinds = rule.flags & HG_RULE_KINDS;
    entry.proto_mask = ((rule.flags & HG_RULE_ANY_PROTOCOL) != 0 ? 0 : kProtocolMask) | kinds;
    entry.proto = static_cast<uint32_t>(rule.protocol) << HG_PROTO_SHIFT | kinds;
    return entry;
  }
  std::copy_n(match->src, 4, entry.src.begin());
  std::copy_n(match->src_mask, 4, entry.src_mask.begin());
  std::copy_n(match->dst_low, 3, entry.dst.begin() + 1);
  std::copy_n(match->dst_low_mask, 3, entry.dst_mask.begin() + 1);
  entry.proto = match->proto;
  entry.proto_mask = match->proto_mask;
  entry.port = match->port;
  entry.vlan = match->vlan;
  entry.inner_vlan = match->inner_vlan;
  entry.length_min = match->length_min;
  entry.length_max = match->length_max;
  entry.src_set = match->src_set;
  entry.dst_set = match->dst_set;
  return entry;
}

}  // namespace headgate
