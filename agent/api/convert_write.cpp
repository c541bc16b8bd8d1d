// SPDX-License-Identifier: Apache-2.0
//
// From the model to messages.
#include <algorithm>

#include "agent/api/convert.h"
#include "agent/api/field_text.h"

namespace headgate::api {
namespace {

pb::FragmentMatch ToProto(FragmentMatch fragment) {
  switch (fragment) {
    case FragmentMatch::kNone:
      return pb::FRAGMENT_MATCH_NONE;
    case FragmentMatch::kFirst:
      return pb::FRAGMENT_MATCH_FIRST;
    case FragmentMatch::kLater:
      return pb::FRAGMENT_MATCH_LATER;
    case FragmentMatch::kAny:
      return pb::FRAGMENT_MATCH_ANY;
    case FragmentMatch::kUnspecified:
      break;
  }
  return pb::FRAGMENT_MATCH_UNSPECIFIED;
}

void WriteMatch(const Match& from, pb::Match& to) {
  to.set_interface(from.interface);
  to.set_source_set(from.source_set);
  to.set_destination_set(from.destination_set);
  if (from.vlan) to.set_vlan(*from.vlan);
  if (from.inner_vlan) to.set_inner_vlan(*from.inner_vlan);
  if (from.source) to.set_source(ToString(*from.source));
  if (from.destination) to.set_destination(ToString(*from.destination));
  if (from.protocol) to.set_protocol(ProtocolText(*from.protocol));
  for (const PortRange& range : from.source_ports) to.add_source_ports(RangeText(range));
  for (const PortRange& range : from.destination_ports) to.add_destination_ports(RangeText(range));
  if (from.tcp_flags.mask != 0) to.set_tcp_flags(TcpFlagsText(from.tcp_flags));
  if (from.icmp_type) to.set_icmp_type(*from.icmp_type);
  if (from.icmp_code) to.set_icmp_code(*from.icmp_code);
  if (from.dscp) to.set_dscp(*from.dscp);
  to.set_fragment(ToProto(from.fragment));
  if (from.packet_length) to.set_packet_length(RangeText(*from.packet_length));
}

struct VerdictWriter {
  pb::Action& to;

  void operator()(std::monostate) const {}
  void operator()(const Pass&) const { to.mutable_pass(); }
  void operator()(const Drop&) const { to.mutable_drop(); }
  void operator()(const Tx& tx) const {
    // The default is left out, as a user would.
    pb::Tx* message = to.mutable_tx();
    if (tx.swap == TxSwap::kEthernet) message->set_swap(pb::TX_SWAP_ETHERNET);
    if (tx.swap == TxSwap::kPorts) message->set_swap(pb::TX_SWAP_PORTS);
  }
  void operator()(const Redirect& redirect) const {
    pb::Redirect* message = to.mutable_redirect();
    message->set_interface(redirect.interface);
    if (redirect.source_mac) message->set_source_mac(ToString(*redirect.source_mac));
    if (redirect.destination_mac) message->set_destination_mac(ToString(*redirect.destination_mac));
  }
  void operator()(const Route&) const { to.mutable_route(); }
  void operator()(const ToNextHop& hop) const { to.mutable_next_hop()->set_name(hop.name); }
  void operator()(const Steer& steer) const { to.mutable_steer()->set_target(steer.target); }
};

void WriteAction(const Action& from, pb::Action& to) {
  std::visit(VerdictWriter{to}, from.verdict);
  if (!from.counter.empty()) to.mutable_count()->set_counter(from.counter);
  if (from.rate_limit) Write(*from.rate_limit, *to.mutable_rate_limit());
  if (from.sample_one_in != 0) to.mutable_sample()->set_one_in(from.sample_one_in);
}

template <typename Message, typename Object>
std::string Serialised(const Object& object) {
  Message message;
  Write(object, message);
  return message.SerializeAsString();
}

}  // namespace

void Write(const Interface& from, pb::Interface& to) {
  to.set_name(from.name);
  to.set_device(from.device);
  to.set_mode(from.mode == AttachMode::kNative    ? pb::ATTACH_MODE_NATIVE
              : from.mode == AttachMode::kGeneric ? pb::ATTACH_MODE_GENERIC
                                                  : pb::ATTACH_MODE_AUTO);
  if (from.querier) Write(*from.querier, *to.mutable_querier());
}

void Write(const PrefixSet& from, pb::PrefixSet& to) {
  to.set_name(from.name);
  std::vector<Prefix> prefixes;
  prefixes.reserve(from.prefixes.size());
  from.prefixes.ForEach([&](const Prefix& prefix) { prefixes.push_back(prefix); });
  std::sort(prefixes.begin(), prefixes.end(), [](const Prefix& a, const Prefix& b) {
    return std::tie(a.address.family, a.address.words, a.length) <
           std::tie(b.address.family, b.address.words, b.length);
  });
  to.mutable_prefixes()->Reserve(static_cast<int>(prefixes.size()));
  for (const Prefix& prefix : prefixes) to.add_prefixes(ToString(prefix));
}

void Write(const NextHop& from, pb::NextHop& to) {
  to.set_name(from.name);
  to.set_interface(from.interface);
  to.set_mac(ToString(from.mac));
  if (from.source_mac) to.set_source_mac(ToString(*from.source_mac));
  if (from.vlan) to.set_vlan(*from.vlan);
  to.set_decrement_ttl(from.decrement_ttl);
}

struct HandlerWriter {
  pb::SteerTarget& to;
  void operator()(std::monostate) const {}
  void operator()(const CountHandlerSpec&) const { to.mutable_handler()->mutable_count(); }
  void operator()(const EchoHandlerSpec&) const { to.mutable_handler()->mutable_echo(); }
  void operator()(const TapHandlerSpec& tap) const {
    pb::TapHandler* message = to.mutable_handler()->mutable_tap();
    message->set_device(tap.device);
    message->set_kind(tap.tun ? pb::TAP_KIND_TUN : pb::TAP_KIND_TAP);
    message->set_interface(tap.interface);
  }
  void operator()(const AppHandlerSpec& app) const { to.mutable_handler()->mutable_app()->set_group(app.group); }
};

pb::Spread ToProto(Spread spread) {
  switch (spread) {
    case Spread::kAuto:
      return pb::SPREAD_UNSPECIFIED;
    case Spread::kQueue:
      return pb::SPREAD_QUEUE;
    case Spread::kFlow:
      return pb::SPREAD_FLOW;
    case Spread::kFlowSymmetric:
      return pb::SPREAD_FLOW_SYMMETRIC;
    case Spread::kSource:
      return pb::SPREAD_SOURCE;
    case Spread::kRoundRobin:
      return pb::SPREAD_ROUND_ROBIN;
  }
  return pb::SPREAD_UNSPECIFIED;
}

void Write(const SteerTarget& from, pb::SteerTarget& to) {
  to.set_name(from.name);
  to.set_fallback(from.fallback == BasicVerdict::kDrop ? pb::FALLBACK_DROP : pb::FALLBACK_PASS);
  std::visit(HandlerWriter{to}, from.handler);
  if (!to.has_handler()) return;
  to.mutable_workers()->set_count(from.workers);
  to.set_spread(ToProto(from.spread));
  to.set_priority(from.priority);
}

void Write(const Rule& from, pb::Rule& to) {
  to.set_name(from.name);
  to.set_priority(from.priority);
  if (!(from.match == Match{})) WriteMatch(from.match, *to.mutable_match());
  WriteAction(*from.action, *to.mutable_action());
}

void Write(const Settings& from, pb::Settings& to) {
  to.set_default_action(from.default_action == BasicVerdict::kDrop ? pb::DEFAULT_ACTION_DROP
                                                                   : pb::DEFAULT_ACTION_PASS);
  for (const ManagementAllow& allow : from.management) {
    pb::ManagementAllow* message = to.mutable_management()->add_allow();
    if (allow.source) message->set_source(ToString(*allow.source));
    if (allow.protocol) message->set_protocol(ProtocolText(*allow.protocol));
    for (const PortRange& range : allow.destination_ports) message->add_destination_ports(RangeText(range));
    message->set_interface(allow.interface);
  }
}

pb::Kind ToProto(Kind kind) {
  switch (kind) {
    case Kind::kSettings:
      return pb::KIND_SETTINGS;
    case Kind::kInterface:
      return pb::KIND_INTERFACE;
    case Kind::kPrefixSet:
      return pb::KIND_PREFIX_SET;
    case Kind::kNextHop:
      return pb::KIND_NEXT_HOP;
    case Kind::kSteerTarget:
      return pb::KIND_STEER_TARGET;
    case Kind::kCounter:
      return pb::KIND_COUNTER;
    case Kind::kRule:
      return pb::KIND_RULE;
    case Kind::kMulticastRoute:
      return pb::KIND_MULTICAST_ROUTE;
    case Kind::kMulticastLeg:
    case Kind::kMulticastFeed:
      break;
  }
  return pb::KIND_UNSPECIFIED;
}

std::optional<Kind> FromProto(pb::Kind kind) {
  for (const Kind known : kAllKinds) {
    if (ToProto(known) == kind) return known;
  }
  return std::nullopt;
}

std::string ProtoCodec::Encode(const Settings& settings) const { return Serialised<pb::Settings>(settings); }
std::string ProtoCodec::Encode(const Interface& interface) const { return Serialised<pb::Interface>(interface); }
std::string ProtoCodec::Encode(const PrefixSet& set) const {
  // The prefixes are kept apart.
  pb::PrefixSet message;
  message.set_name(set.name);
  return message.SerializeAsString();
}
std::string ProtoCodec::Encode(const NextHop& hop) const { return Serialised<pb::NextHop>(hop); }
std::string ProtoCodec::Encode(const SteerTarget& target) const { return Serialised<pb::SteerTarget>(target); }
std::string ProtoCodec::Encode(const MulticastRoute& route) const { return Serialised<pb::MulticastRoute>(route); }
std::string ProtoCodec::Encode(const Rule& rule) const { return Serialised<pb::Rule>(rule); }

}  // namespace headgate::api
