// SPDX-License-Identifier: Apache-2.0
#include "tests/fuzz/api_model.h"

#include <absl/strings/ascii.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>
#include <absl/strings/str_split.h>
#include <arpa/inet.h>

namespace headgate::testing {

// ---- values -------------------------------------------------------------------------------------------------

namespace {

std::string Number(const std::string& text) { return absl::StrCat(std::stoul(text)); }

std::string Range(const std::string& text) {
  const std::vector<std::string> ends = absl::StrSplit(text, '-');
  const std::string first = Number(ends.front()), last = Number(ends.back());
  return first == last ? first : first + "-" + last;
}

template <typename Field>
void Ranges(Field& field) {
  for (std::string& text : field) text = Range(text);
}

std::string Protocol(const std::string& text) {
  static const std::map<std::string, std::string> kNames = {
      {"1", "icmp"}, {"2", "igmp"}, {"4", "ipip"}, {"6", "tcp"},     {"17", "udp"},   {"33", "dccp"},
      {"47", "gre"}, {"50", "esp"}, {"51", "ah"},  {"58", "icmpv6"}, {"132", "sctp"}, {"136", "udplite"}};
  if (text.empty() || !absl::ascii_isdigit(static_cast<unsigned char>(text[0]))) return text;
  const auto found = kNames.find(Number(text));
  return found == kNames.end() ? Number(text) : found->second;
}

std::string TcpFlags(const std::string& text) {
  std::map<std::string, std::string> given;
  for (const auto& part : absl::StrSplit(text, ',', absl::SkipEmpty())) {
    const std::string flag(absl::StripAsciiWhitespace(part));
    given[flag[0] == '!' ? flag.substr(1) : flag] = flag;
  }
  std::vector<std::string> ordered;
  for (const char* flag : {"fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr"}) {
    if (given.contains(flag)) ordered.push_back(given[flag]);
  }
  return absl::StrJoin(ordered, ",");
}

std::string Mac(const std::string& text) { return absl::AsciiStrToLower(text); }

ApiModel::Prefix ReadPrefix(const std::string& text) {
  const std::vector<std::string> parts = absl::StrSplit(text, '/');
  char bytes[16] = {};
  const bool v4 = inet_pton(AF_INET, parts[0].c_str(), bytes) == 1;
  if (!v4) inet_pton(AF_INET6, parts[0].c_str(), bytes);
  const int length = parts.size() > 1 ? std::stoi(parts[1]) : v4 ? 32 : 128;
  return {v4 ? 4 : 6, std::string(bytes, v4 ? 4 : 16), length};
}

std::string PrefixText(const ApiModel::Prefix& prefix) {
  const auto& [family, bytes, length] = prefix;
  char text[INET6_ADDRSTRLEN];
  inet_ntop(family == 4 ? AF_INET : AF_INET6, bytes.data(), text, sizeof(text));
  return absl::StrCat(text, "/", length);
}

pb::Match Canonical(pb::Match match) {
  for (auto* prefix : {match.mutable_source(), match.mutable_destination()}) {
    if (!prefix->empty()) *prefix = PrefixText(ReadPrefix(*prefix));
  }
  match.set_protocol(Protocol(match.protocol()));
  Ranges(*match.mutable_source_ports());
  Ranges(*match.mutable_destination_ports());
  match.set_tcp_flags(TcpFlags(match.tcp_flags()));
  if (!match.packet_length().empty()) match.set_packet_length(Range(match.packet_length()));
  return match;
}

pb::Management Canonical(pb::Management management) {
  for (pb::ManagementAllow& allow : *management.mutable_allow()) {
    if (!allow.source().empty()) allow.set_source(PrefixText(ReadPrefix(allow.source())));
    allow.set_protocol(Protocol(allow.protocol()));
    Ranges(*allow.mutable_destination_ports());
  }
  return management;
}

pb::Rule Canonical(pb::Rule rule) {
  if (rule.has_match()) *rule.mutable_match() = Canonical(rule.match());
  if (rule.match().ByteSizeLong() == 0) rule.clear_match();
  pb::Action& action = *rule.mutable_action();
  if (action.has_tx() && action.tx().swap() == pb::TX_SWAP_IP) action.mutable_tx()->clear_swap();
  if (action.has_redirect()) {
    pb::Redirect& redirect = *action.mutable_redirect();
    redirect.set_source_mac(Mac(redirect.source_mac()));
    redirect.set_destination_mac(Mac(redirect.destination_mac()));
  }
  if (action.rate_limit().per() == pb::RATE_LIMIT_SCOPE_GLOBAL) action.mutable_rate_limit()->clear_per();
  return rule;
}

pb::Interface Canonical(pb::Interface interface) {
  if (interface.device().empty()) interface.set_device(interface.name());
  if (interface.mode() == pb::ATTACH_MODE_UNSPECIFIED) interface.set_mode(pb::ATTACH_MODE_AUTO);
  if (interface.has_querier()) {
    pb::Querier& querier = *interface.mutable_querier();
    if (querier.interval_seconds() == 0) querier.set_interval_seconds(125);
    if (querier.response_milliseconds() == 0) querier.set_response_milliseconds(10000);
    if (querier.last_listener_milliseconds() == 0) querier.set_last_listener_milliseconds(1000);
    if (querier.robustness() == 0) querier.set_robustness(2);
  }
  return interface;
}

pb::NextHop Canonical(pb::NextHop hop) {
  hop.set_mac(Mac(hop.mac()));
  hop.set_source_mac(Mac(hop.source_mac()));
  return hop;
}

pb::SteerTarget Canonical(pb::SteerTarget target) {
  if (target.fallback() == pb::FALLBACK_UNSPECIFIED) target.set_fallback(pb::FALLBACK_PASS);
  if (target.has_handler() && !target.has_workers()) target.mutable_workers()->set_count(1);
  if (target.has_handler() && !target.has_priority()) target.set_priority(7);
  if (target.handler().has_tap() && target.handler().tap().kind() == pb::TAP_KIND_UNSPECIFIED) {
    target.mutable_handler()->mutable_tap()->set_kind(pb::TAP_KIND_TAP);
  }
  return target;
}

pb::MulticastRoute Canonical(pb::MulticastRoute route) {
  pb::MulticastInput& input = *route.mutable_input();
  input.set_group(PrefixText(ReadPrefix(input.group())));
  input.set_protocol(input.protocol().empty() ? "udp" : Protocol(input.protocol()));
  for (auto* prefixes : {input.mutable_sources()->mutable_include(), input.mutable_sources()->mutable_exclude()}) {
    for (std::string& prefix : *prefixes) prefix = PrefixText(ReadPrefix(prefix));
  }
  if (input.sources().ByteSizeLong() == 0) input.clear_sources();
  for (pb::MulticastLeg& leg : *route.mutable_legs()) {
    if (leg.name().empty()) leg.set_name(leg.interface());
    if (leg.ttl().ByteSizeLong() == 0) leg.clear_ttl();
    if (leg.rate_limit().per() == pb::RATE_LIMIT_SCOPE_GLOBAL) leg.mutable_rate_limit()->clear_per();
  }
  return route;
}

template <typename Messages>
void Put(const Messages& messages, std::map<std::string, std::string>& objects) {
  for (const auto& message : messages) objects[message.name()] = Canonical(message).ShortDebugString();
}

template <typename Names, typename Objects>
void Delete(const Names& names, Objects& objects) {
  for (const std::string& name : names) objects.erase(name);
}

void AddLine(const std::string& kind, const std::string& name, const std::string& content,
             std::set<std::string>& lines) {
  lines.insert(absl::StrCat(kind, " ", name, ": ", content));
}

std::string SettingsText(pb::DefaultAction action, const pb::Management& management) {
  return absl::StrCat(pb::DefaultAction_Name(action), " ", management.ShortDebugString());
}

}  // namespace

// ---- changes ------------------------------------------------------------------------------------------------

void ApiModel::Upsert(const pb::GatewayConfig& config) {
  Put(config.interfaces(), interfaces_);
  Put(config.next_hops(), next_hops_);
  Put(config.steer_targets(), steer_targets_);
  Put(config.multicast_routes(), multicast_routes_);
  Put(config.rules(), rules_);
  for (const pb::PrefixSet& set : config.prefix_sets()) {
    std::set<Prefix>& prefixes = prefix_sets_[set.name()];
    prefixes.clear();
    for (const std::string& prefix : set.prefixes()) prefixes.insert(ReadPrefix(prefix));
  }
  if (config.default_action() != pb::DEFAULT_ACTION_UNSPECIFIED) default_action_ = config.default_action();
  if (config.has_management()) management_ = Canonical(config.management());
}

void ApiModel::Apply(const pb::ApplyRequest& request) {
  if (request.has_config()) {
    *this = ApiModel();
    Upsert(request.config());
    return;
  }
  const pb::Patch& patch = request.patch();
  Delete(patch.delete_interfaces(), interfaces_);
  Delete(patch.delete_prefix_sets(), prefix_sets_);
  Delete(patch.delete_rules(), rules_);
  Delete(patch.delete_next_hops(), next_hops_);
  Delete(patch.delete_steer_targets(), steer_targets_);
  Delete(patch.delete_multicast_routes(), multicast_routes_);
  Upsert(patch.upsert());
  for (const pb::PrefixSetChange& change : patch.prefix_set_changes()) {
    std::set<Prefix>& prefixes = prefix_sets_[change.name()];
    for (const std::string& prefix : change.add()) prefixes.insert(ReadPrefix(prefix));
    for (const std::string& prefix : change.remove()) prefixes.erase(ReadPrefix(prefix));
  }
}

// ---- text ---------------------------------------------------------------------------------------------------

std::string ApiModel::Text() const {
  std::set<std::string> lines;
  for (const auto& [name, content] : interfaces_) AddLine("interface", name, content, lines);
  for (const auto& [name, content] : next_hops_) AddLine("next_hop", name, content, lines);
  for (const auto& [name, content] : steer_targets_) AddLine("steer_target", name, content, lines);
  for (const auto& [name, content] : multicast_routes_) AddLine("multicast_route", name, content, lines);
  for (const auto& [name, content] : rules_) AddLine("rule", name, content, lines);
  for (const auto& [name, prefixes] : prefix_sets_) {
    std::vector<std::string> texts;
    for (const Prefix& prefix : prefixes) texts.push_back(PrefixText(prefix));
    AddLine("prefix_set", name, absl::StrJoin(texts, " "), lines);
  }
  AddLine("settings", "", SettingsText(default_action_, management_), lines);
  return absl::StrJoin(lines, "\n");
}

std::string ApiModel::TextOf(const std::vector<pb::Object>& objects) {
  std::set<std::string> lines;
  for (const pb::Object& object : objects) {
    switch (object.object_case()) {
      case pb::Object::kInterface:
        AddLine("interface", object.interface().name(), object.interface().ShortDebugString(), lines);
        break;
      case pb::Object::kNextHop:
        AddLine("next_hop", object.next_hop().name(), object.next_hop().ShortDebugString(), lines);
        break;
      case pb::Object::kSteerTarget:
        AddLine("steer_target", object.steer_target().name(), object.steer_target().ShortDebugString(), lines);
        break;
      case pb::Object::kMulticastRoute:
        AddLine("multicast_route", object.multicast_route().name(), object.multicast_route().ShortDebugString(),
                lines);
        break;
      case pb::Object::kRule:
        AddLine("rule", object.rule().name(), object.rule().ShortDebugString(), lines);
        break;
      case pb::Object::kPrefixSet:
        AddLine("prefix_set", object.prefix_set().name(), absl::StrJoin(object.prefix_set().prefixes(), " "),
                lines);
        break;
      case pb::Object::kSettings:
        AddLine("settings", "", SettingsText(object.settings().default_action(), object.settings().management()),
                lines);
        break;
      case pb::Object::OBJECT_NOT_SET:
        AddLine("nothing", "", "", lines);
        break;
    }
  }
  return absl::StrJoin(lines, "\n");
}

}  // namespace headgate::testing
