// SPDX-License-Identifier: Apache-2.0
//
// From messages to the model.
#include <absl/strings/str_cat.h>

#include "agent/api/convert.h"
#include "agent/api/convert_reader.h"
#include "agent/api/field_text.h"

namespace headgate::api {
namespace {

AttachMode Read(pb::AttachMode mode) {
  switch (mode) {
    case pb::ATTACH_MODE_NATIVE:
      return AttachMode::kNative;
    case pb::ATTACH_MODE_GENERIC:
      return AttachMode::kGeneric;
    default:
      return AttachMode::kAuto;
  }
}

FragmentMatch Read(pb::FragmentMatch fragment) {
  switch (fragment) {
    case pb::FRAGMENT_MATCH_NONE:
      return FragmentMatch::kNone;
    case pb::FRAGMENT_MATCH_FIRST:
      return FragmentMatch::kFirst;
    case pb::FRAGMENT_MATCH_LATER:
      return FragmentMatch::kLater;
    case pb::FRAGMENT_MATCH_ANY:
      return FragmentMatch::kAny;
    default:
      return FragmentMatch::kUnspecified;
  }
}

void Read(const pb::Match& from, Match& to, Reader& reader) {
  to.interface = from.interface();
  to.source_set = from.source_set();
  to.destination_set = from.destination_set();
  if (from.has_vlan()) reader.Number("match.vlan", from.vlan(), to.vlan);
  if (from.has_inner_vlan()) reader.Number("match.inner_vlan", from.inner_vlan(), to.inner_vlan);
  if (!from.source().empty()) reader.Take("match.source", ParsePrefix(from.source()), to.source);
  if (!from.destination().empty())
    reader.Take("match.destination", ParsePrefix(from.destination()), to.destination);
  if (!from.protocol().empty()) reader.Take("match.protocol", ParseProtocol(from.protocol()), to.protocol);
  reader.TakeRanges("match.source_ports", from.source_ports(), to.source_ports);
  reader.TakeRanges("match.destination_ports", from.destination_ports(), to.destination_ports);
  if (!from.tcp_flags().empty()) reader.Take("match.tcp_flags", ParseTcpFlags(from.tcp_flags()), to.tcp_flags);
  if (from.has_icmp_type()) reader.Number("match.icmp_type", from.icmp_type(), to.icmp_type);
  if (from.has_icmp_code()) reader.Number("match.icmp_code", from.icmp_code(), to.icmp_code);
  if (from.has_dscp()) reader.Number("match.dscp", from.dscp(), to.dscp);
  CheckEnum("match.fragment", from.fragment(), pb::FragmentMatch_IsValid, reader);
  to.fragment = Read(from.fragment());
  if (!from.packet_length().empty()) {
    reader.Take("match.packet_length", ParseRange(from.packet_length()), to.packet_length);
  }
}

void Read(const pb::Redirect& from, Redirect& to, Reader& reader) {
  to.interface = from.interface();
  if (!from.source_mac().empty()) {
    reader.Take("action.redirect.source_mac", ParseMac(from.source_mac()), to.source_mac);
  }
  if (!from.destination_mac().empty()) {
    reader.Take("action.redirect.destination_mac", ParseMac(from.destination_mac()), to.destination_mac);
  }
}

Verdict ReadVerdict(const pb::Action& from, Reader& reader) {
  switch (from.verdict_case()) {
    case pb::Action::kPass:
      return Pass{};
    case pb::Action::kDrop:
      return Drop{};
    case pb::Action::kTx: {
      CheckEnum("action.tx.swap", from.tx().swap(), pb::TxSwap_IsValid, reader);
      Tx tx;
      if (from.tx().swap() == pb::TX_SWAP_ETHERNET) tx.swap = TxSwap::kEthernet;
      if (from.tx().swap() == pb::TX_SWAP_PORTS) tx.swap = TxSwap::kPorts;
      return tx;
    }
    case pb::Action::kRedirect: {
      Redirect redirect;
      Read(from.redirect(), redirect, reader);
      return redirect;
    }
    case pb::Action::kRoute:
      return Route{};
    case pb::Action::kNextHop:
      return ToNextHop{from.next_hop().name()};
    case pb::Action::kSteer:
      return Steer{from.steer().target()};
    case pb::Action::VERDICT_NOT_SET:
      break;
  }
  return std::monostate{};
}

Action Read(const pb::Action& from, Reader& reader) {
  Action to;
  to.verdict = ReadVerdict(from, reader);
  to.counter = from.count().counter();
  if (from.has_count() && to.counter.empty()) reader.Fail("action.count.counter", "a counter's name is needed");
  if (from.has_rate_limit()) {
    RateLimit limit;
    ReadInto(from.rate_limit(), "action.rate_limit", limit, reader);
    to.rate_limit = limit;
  }
  if (from.has_sample()) {
    to.sample_one_in = from.sample().one_in();
    if (to.sample_one_in == 0) reader.Fail("action.sample.one_in", "must be 1 (every packet) or more");
  }
  return to;
}

void ReadInto(const pb::Interface& from, Interface& to, Reader& reader) {
  to.name = from.name();
  to.device = from.device().empty() ? from.name() : from.device();
  CheckEnum("mode", from.mode(), pb::AttachMode_IsValid, reader);
  to.mode = Read(from.mode());
  if (from.has_querier()) ReadInto(from.querier(), to.querier.emplace(), reader);
}

void ReadInto(const pb::PrefixSet& from, PrefixSet& to, Reader& reader) {
  to.name = from.name();
  for (int i = 0; i < from.prefixes_size(); ++i) {
    Prefix prefix;
    reader.Take(absl::StrCat("prefixes[", i, "]"), ParsePrefix(from.prefixes(i)), prefix);
    to.prefixes.Put(prefix);
  }
}

void ReadInto(const pb::NextHop& from, NextHop& to, Reader& reader) {
  to.name = from.name();
  to.interface = from.interface();
  reader.Take("mac", ParseMac(from.mac()), to.mac);
  if (!from.source_mac().empty()) reader.Take("source_mac", ParseMac(from.source_mac()), to.source_mac);
  if (from.has_vlan()) reader.Number("vlan", from.vlan(), to.vlan);
  to.decrement_ttl = from.decrement_ttl();
}

HandlerSpec Read(const pb::SteerHandler& from, Reader& reader) {
  switch (from.kind_case()) {
    case pb::SteerHandler::kCount:
      return CountHandlerSpec{};
    case pb::SteerHandler::kEcho:
      return EchoHandlerSpec{};
    case pb::SteerHandler::kTap:
      CheckEnum("handler.tap.kind", from.tap().kind(), pb::TapKind_IsValid, reader);
      return TapHandlerSpec{.device = from.tap().device(),
                            .tun = from.tap().kind() == pb::TAP_KIND_TUN,
                            .interface = from.tap().interface()};
    case pb::SteerHandler::kApp:
      return AppHandlerSpec{.group = from.app().group()};
    case pb::SteerHandler::KIND_NOT_SET:
      break;
  }
  reader.Fail("handler", "a handler is needed: count, echo, tap or app");
  return {};
}

Spread Read(pb::Spread from) {
  switch (from) {
    case pb::SPREAD_QUEUE:
      return Spread::kQueue;
    case pb::SPREAD_FLOW:
      return Spread::kFlow;
    case pb::SPREAD_FLOW_SYMMETRIC:
      return Spread::kFlowSymmetric;
    case pb::SPREAD_SOURCE:
      return Spread::kSource;
    case pb::SPREAD_ROUND_ROBIN:
      return Spread::kRoundRobin;
    default:
      return Spread::kAuto;
  }
}

void ReadInto(const pb::SteerTarget& from, SteerTarget& to, Reader& reader) {
  to.name = from.name();
  CheckEnum("fallback", from.fallback(), pb::Fallback_IsValid, reader);
  to.fallback = from.fallback() == pb::FALLBACK_DROP ? BasicVerdict::kDrop : BasicVerdict::kPass;
  CheckEnum("spread", from.spread(), pb::Spread_IsValid, reader);
  to.spread = Read(from.spread());
  if (from.has_handler()) to.handler = Read(from.handler(), reader);
  if (from.has_workers()) to.workers = from.workers().count();
  if (from.has_priority()) to.priority = from.priority();
  if (from.has_handler()) return;
  if (from.has_workers()) reader.Fail("workers", "only a target with a handler has workers");
  if (from.spread() != pb::SPREAD_UNSPECIFIED) reader.Fail("spread", "only a target with a handler has workers");
  if (from.has_priority()) reader.Fail("priority", "only a target with a handler has workers");
}

void ReadInto(const pb::Rule& from, Rule& to, ActionPool& actions, Reader& reader) {
  to.name = from.name();
  to.priority = from.priority();
  Read(from.match(), to.match, reader);
  to.action = actions.Intern(Read(from.action(), reader), from.action());
}

template <typename Message, typename Object, typename... Extra>
void ReadAll(const google::protobuf::RepeatedPtrField<Message>& messages, const std::string& path,
             std::vector<Upsert<Object>>& upserts, Violations& violations, Extra&... extra) {
  upserts.resize(static_cast<size_t>(messages.size()));
  for (int i = 0; i < messages.size(); ++i) {
    Reader reader(absl::StrCat(path, "[", i, "]"), violations);
    Upsert<Object>& upsert = upserts[static_cast<size_t>(i)];
    ReadInto(messages[i], upsert.object, extra..., reader);
    upsert.path = reader.path();
  }
}

std::vector<ManagementAllow> ReadManagement(const pb::Management& from, const std::string& path,
                                            Violations& violations) {
  std::vector<ManagementAllow> allow(static_cast<size_t>(from.allow_size()));
  for (int i = 0; i < from.allow_size(); ++i) {
    const pb::ManagementAllow& message = from.allow(i);
    ManagementAllow& entry = allow[static_cast<size_t>(i)];
    Reader reader(absl::StrCat(path, ".allow[", i, "]"), violations);
    if (!message.source().empty()) reader.Take("source", ParsePrefix(message.source()), entry.source);
    if (!message.protocol().empty()) reader.Take("protocol", ParseProtocol(message.protocol()), entry.protocol);
    reader.TakeRanges("destination_ports", message.destination_ports(), entry.destination_ports);
    entry.interface = message.interface();
  }
  return allow;
}

void ReadObjects(const pb::GatewayConfig& config, const std::string& path, ActionPool& actions, Change& change) {
  ReadAll(config.interfaces(), path + ".interfaces", change.interfaces, change.violations);
  ReadAll(config.prefix_sets(), path + ".prefix_sets", change.prefix_sets, change.violations);
  ReadAll(config.next_hops(), path + ".next_hops", change.next_hops, change.violations);
  ReadAll(config.steer_targets(), path + ".steer_targets", change.steer_targets, change.violations);
  ReadAll(config.multicast_routes(), path + ".multicast_routes", change.multicast_routes, change.violations);
  ReadAll(config.rules(), path + ".rules", change.rules, change.violations, actions);
  if (config.has_management()) {
    change.management_path = path + ".management";
    change.management = ReadManagement(config.management(), change.management_path, change.violations);
  }
  if (!pb::DefaultAction_IsValid(config.default_action())) {
    change.violations.push_back({path + ".default_action", "unknown value"});
  }
  if (config.default_action() != pb::DEFAULT_ACTION_UNSPECIFIED) {
    change.default_action =
        config.default_action() == pb::DEFAULT_ACTION_DROP ? BasicVerdict::kDrop : BasicVerdict::kPass;
  }
}

template <typename Field>
std::vector<std::string> Strings(const Field& field) {
  return {field.begin(), field.end()};
}

// One decoded object, or what was wrong with it first.
template <typename Message, typename Object, typename... Extra>
absl::StatusOr<Object> Decode(absl::string_view body, Extra&... extra) {
  Message message;
  if (!message.ParseFromArray(body.data(), static_cast<int>(body.size()))) {
    return absl::DataLossError("the object is not a message of its kind");
  }
  Violations violations;
  Reader reader("", violations);
  Object object;
  ReadInto(message, object, extra..., reader);
  if (violations.empty()) return object;
  return absl::DataLossError(absl::StrCat(violations[0].field, ": ", violations[0].description));
}

}  // namespace

std::shared_ptr<const Action> ActionPool::Intern(Action action, const pb::Action& message) {
  std::string key = message.SerializeAsString();
  const std::lock_guard lock(mutex_);
  if (actions_.size() >= sweep_at_) {
    absl::erase_if(actions_, [](const auto& entry) { return entry.second.expired(); });
    sweep_at_ = std::max<size_t>(1024, 2 * actions_.size());
  }
  std::weak_ptr<const Action>& pooled = actions_[std::move(key)];
  std::shared_ptr<const Action> shared = pooled.lock();
  if (!shared) {
    shared = std::make_shared<const Action>(std::move(action));
    pooled = shared;
  }
  return shared;
}

Change ReadConfig(const pb::GatewayConfig& config, const std::string& path, ActionPool& actions) {
  Change change;
  change.replace = true;
  ReadObjects(config, path, actions, change);
  return change;
}

Change ReadPatch(const pb::Patch& patch, const std::string& path, ActionPool& actions) {
  Change change;
  ReadObjects(patch.upsert(), path + ".upsert", actions, change);
  change.delete_interfaces = Strings(patch.delete_interfaces());
  change.delete_prefix_sets = Strings(patch.delete_prefix_sets());
  change.delete_next_hops = Strings(patch.delete_next_hops());
  change.delete_steer_targets = Strings(patch.delete_steer_targets());
  change.delete_multicast_routes = Strings(patch.delete_multicast_routes());
  change.delete_rules = Strings(patch.delete_rules());
  for (int i = 0; i < patch.prefix_set_changes_size(); ++i) {
    const pb::PrefixSetChange& message = patch.prefix_set_changes(i);
    Reader reader(absl::StrCat(path, ".prefix_set_changes[", i, "]"), change.violations);
    PrefixSetEdit edit{.name = message.name(), .path = reader.path()};
    const auto read = [&reader](absl::string_view field, const auto& texts, std::vector<Prefix>& out) {
      for (int k = 0; k < texts.size(); ++k) {
        Prefix prefix;
        reader.Take(absl::StrCat(field, "[", k, "]"), ParsePrefix(texts[k]), prefix);
        out.push_back(prefix);
      }
    };
    read("add", message.add(), edit.add);
    read("remove", message.remove(), edit.remove);
    change.prefix_set_edits.push_back(std::move(edit));
  }
  return change;
}

absl::StatusOr<Settings> ProtoCodec::DecodeSettings(absl::string_view body) const {
  pb::Settings message;
  if (!message.ParseFromArray(body.data(), static_cast<int>(body.size()))) {
    return absl::DataLossError("the settings are not a message");
  }
  Violations violations;
  Settings settings;
  settings.default_action =
      message.default_action() == pb::DEFAULT_ACTION_DROP ? BasicVerdict::kDrop : BasicVerdict::kPass;
  settings.management = ReadManagement(message.management(), "management", violations);
  if (violations.empty()) return settings;
  return absl::DataLossError(absl::StrCat(violations[0].field, ": ", violations[0].description));
}

absl::StatusOr<Interface> ProtoCodec::DecodeInterface(absl::string_view body) const {
  return Decode<pb::Interface, Interface>(body);
}
absl::StatusOr<PrefixSet> ProtoCodec::DecodePrefixSet(absl::string_view body) const {
  return Decode<pb::PrefixSet, PrefixSet>(body);
}
absl::StatusOr<NextHop> ProtoCodec::DecodeNextHop(absl::string_view body) const {
  return Decode<pb::NextHop, NextHop>(body);
}
absl::StatusOr<SteerTarget> ProtoCodec::DecodeSteerTarget(absl::string_view body) const {
  return Decode<pb::SteerTarget, SteerTarget>(body);
}
absl::StatusOr<MulticastRoute> ProtoCodec::DecodeMulticastRoute(absl::string_view body) const {
  return Decode<pb::MulticastRoute, MulticastRoute>(body);
}
absl::StatusOr<Rule> ProtoCodec::DecodeRule(absl::string_view body) const {
  return Decode<pb::Rule, Rule>(body, actions_);
}

}  // namespace headgate::api
