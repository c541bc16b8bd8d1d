// SPDX-License-Identifier: Apache-2.0
#include "tests/fuzz/api_messages.h"

#include <absl/strings/str_cat.h>

#include <memory>

#include "tests/harness/random_message.h"

namespace headgate::testing {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

constexpr size_t kCorpus = 500;

// Devices of the lab, one that is none, and one that native mode does not suit.
const std::vector<std::string> kDevices = {"g0", "g1", "hgt-none", "lo", ""};
const std::vector<std::string> kTaps = {"hgt-tap0", "hgt-tap1", "a/b", ""};
const std::vector<std::string> kInterfaces = {"in", "out", "g0"};
const std::vector<std::string> kSets = {"s0", "s1"};
const std::vector<std::string> kHops = {"h0", "h1"};
const std::vector<std::string> kTargets = {"t0", "t1"};
const std::vector<std::string> kRoutes = {"m0", "m1", "m2"};
const std::vector<std::string> kGroups = {"239.1.1.1", "239.1.0.0/16", "ff3e::1", "224.0.0.5", "10.0.0.1"};
const std::vector<std::string> kRules = {"r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7"};
const std::vector<std::string> kMacs = {"02:00:00:00:00:01", "02:00:00:00:00:FE", "ff:ff:ff:ff:ff:ff", "",
                                        "01:00:5e:00:00:01"};
const std::vector<std::string> kPorts = {"0", "53", "1-1023", "65535", "0-65535", "80-80", "9000-9099"};

// A message and all below it.
void Collect(Message& message, std::vector<Message*>& nodes) {
  nodes.push_back(&message);
  const Reflection& reflection = *message.GetReflection();
  std::vector<const FieldDescriptor*> fields;
  reflection.ListFields(message, &fields);
  for (const FieldDescriptor* field : fields) {
    if (field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) continue;
    if (!field->is_repeated()) {
      Collect(*reflection.MutableMessage(&message, field), nodes);
      continue;
    }
    for (int i = 0; i < reflection.FieldSize(message, field); ++i) {
      Collect(*reflection.MutableRepeatedMessage(&message, field, i), nodes);
    }
  }
}

}  // namespace

ApiMessages::ApiMessages(std::mt19937_64& random, std::vector<pb::ApplyRequest> corpus)
    : random_(random), corpus_(std::move(corpus)) {}

std::string ApiMessages::Prefix() {
  if (Below(3) == 0) {
    const uint64_t length = Below(129);
    return length < 128 && Below(2) == 0 ? absl::StrCat("2001:db8::/", 32) : absl::StrCat("2001:db8::", Below(3));
  }
  const uint64_t length = Below(33);
  uint32_t address = (10U << 24 | static_cast<uint32_t>(Below(1 << 24)));
  address &= length == 0 ? 0 : ~0U << (32 - length);
  return absl::StrCat(address >> 24, ".", address >> 16 & 255, ".", address >> 8 & 255, ".", address & 255, "/",
                      length);
}

pb::Match ApiMessages::Match() {
  pb::Match match;
  if (Below(3) == 0) match.set_interface(Pick(kInterfaces));
  if (Below(3) == 0) match.set_source(Prefix());
  if (Below(4) == 0) match.set_destination_set(Pick(kSets));
  if (Below(6) == 0) match.set_vlan(static_cast<uint32_t>(Below(4096)));
  if (Below(6) == 0) match.set_dscp(static_cast<uint32_t>(Below(65)));
  if (Below(8) == 0) match.set_packet_length(Pick(kPorts));
  if (Below(8) == 0) match.set_fragment(static_cast<pb::FragmentMatch>(Below(5)));
  switch (Below(4)) {
    case 0:
      match.set_protocol("tcp");
      if (Below(2) == 0) match.set_tcp_flags("syn,!ack");
      [[fallthrough]];
    case 1:
      if (match.protocol().empty()) match.set_protocol("17");
      for (uint64_t n = Below(3); n > 0; --n) match.add_source_ports(Pick(kPorts));
      for (uint64_t n = Below(3); n > 0; --n) match.add_destination_ports(Pick(kPorts));
      break;
    case 2:
      match.set_protocol("icmp");
      match.set_icmp_type(static_cast<uint32_t>(Below(256)));
      if (Below(2) == 0) match.set_icmp_code(0);
      break;
    default:
      break;
  }
  return match;
}

pb::Action ApiMessages::Action() {
  pb::Action action;
  switch (Below(7)) {
    case 0:
      action.mutable_pass();
      break;
    case 1:
      action.mutable_drop();
      break;
    case 2:
      action.mutable_tx()->set_swap(static_cast<pb::TxSwap>(Below(4)));
      break;
    case 3:
      action.mutable_redirect()->set_interface(Pick(kInterfaces));
      action.mutable_redirect()->set_destination_mac(Pick(kMacs));
      break;
    case 4:
      action.mutable_route();
      break;
    case 5:
      action.mutable_next_hop()->set_name(Pick(kHops));
      break;
    default:
      action.mutable_steer()->set_target(Pick(kTargets));
      break;
  }
  if (Below(4) == 0) action.mutable_count()->set_counter(Pick({"c0", "c1"}));
  if (Below(4) == 0) {
    action.mutable_rate_limit()->set_packets_per_second(1 + Below(1000));
    if (Below(2) == 0) action.mutable_rate_limit()->set_burst(Below(10));
    action.mutable_rate_limit()->set_per(static_cast<pb::RateLimitScope>(Below(3)));
  }
  if (Below(6) == 0) action.mutable_sample()->set_one_in(static_cast<uint32_t>(Below(3)));
  return action;
}

pb::Rule ApiMessages::Rule() {
  pb::Rule rule;
  rule.set_name(Pick(kRules));
  rule.set_priority(static_cast<uint32_t>(1 + Below(50)));
  if (Below(4) != 0) *rule.mutable_match() = Match();
  *rule.mutable_action() = Action();
  return rule;
}

pb::GatewayConfig ApiMessages::Config(uint64_t objects) {
  pb::GatewayConfig config;
  for (; objects > 0; --objects) {
    switch (Below(9)) {
      case 0: {
        pb::Interface& interface = *config.add_interfaces();
        interface.set_name(Pick(kInterfaces));
        interface.set_device(Pick(kDevices));
        interface.set_mode(static_cast<pb::AttachMode>(Below(4)));
        break;
      }
      case 1: {
        pb::PrefixSet& set = *config.add_prefix_sets();
        set.set_name(Pick(kSets));
        for (uint64_t n = Below(20); n > 0; --n) set.add_prefixes(Prefix());
        break;
      }
      case 2: {
        pb::NextHop& hop = *config.add_next_hops();
        hop.set_name(Pick(kHops));
        hop.set_interface(Pick(kInterfaces));
        hop.set_mac(Pick(kMacs));
        if (Below(2) == 0) hop.set_vlan(static_cast<uint32_t>(Below(4096)));
        hop.set_decrement_ttl(Below(2) == 0);
        break;
      }
      case 3: {
        pb::SteerTarget& target = *config.add_steer_targets();
        target.set_name(Pick(kTargets));
        target.set_fallback(static_cast<pb::Fallback>(Below(3)));
        if (Below(3) == 0) target.mutable_handler()->mutable_count();
        if (Below(3) == 0) target.mutable_handler()->mutable_echo();
        if (Below(6) == 0) {
          pb::TapHandler* tap = target.mutable_handler()->mutable_tap();
          tap->set_device(Pick(kTaps));
          tap->set_kind(static_cast<pb::TapKind>(Below(4)));
          if (Below(2) == 0) tap->set_interface(Pick(kInterfaces));
        }
        if (Below(6) == 0) target.mutable_handler()->mutable_app();
        if (Below(4) == 0) target.mutable_workers()->set_count(static_cast<uint32_t>(Below(4)));
        if (Below(4) == 0) target.set_spread(static_cast<pb::Spread>(Below(7)));
        if (Below(4) == 0) target.set_priority(static_cast<uint32_t>(Below(9)));
        break;
      }
      case 5: {
        pb::MulticastRoute& route = *config.add_multicast_routes();
        route.set_name(Pick(kRoutes));
        route.mutable_input()->add_interfaces(Pick(kInterfaces));
        route.mutable_input()->set_group(Pick(kGroups));
        if (Below(4) == 0) route.mutable_input()->set_port(static_cast<uint32_t>(Below(3)));
        if (Below(4) == 0) route.mutable_input()->set_protocol(Below(2) == 0 ? "17" : "esp");
        if (Below(4) == 0) route.mutable_input()->mutable_sources()->add_include(Prefix());
        if (Below(4) == 0) route.mutable_input()->mutable_sources()->add_exclude(Prefix());
        if (Below(4) == 0) {
          route.mutable_sequence()->set_offset(static_cast<uint32_t>(Below(3) * 700));
          route.mutable_sequence()->set_width(1U << Below(5));
          route.mutable_sequence()->set_little_endian(Below(2) == 0);
        }
        if (Below(4) == 0) {
          if (Below(2) == 0) route.mutable_deduplicate()->set_feed(Pick(kRoutes));
          route.mutable_deduplicate()->set_window(static_cast<uint32_t>(Below(3) * 64));
        }
        for (uint64_t n = 1 + Below(2); n > 0; --n) {
          pb::MulticastLeg& leg = *route.add_legs();
          leg.set_interface(Pick(kInterfaces));
          if (Below(4) == 0) leg.set_name(Pick(kRoutes));
          if (Below(4) == 0) leg.set_group(Pick(kGroups));
          if (Below(4) == 0) leg.set_source("egress");
          if (Below(4) == 0) leg.set_port(static_cast<uint32_t>(Below(70000)));
          if (Below(4) == 0) leg.mutable_ttl()->set_set(static_cast<uint32_t>(Below(300)));
          if (Below(4) == 0) leg.set_dscp(static_cast<uint32_t>(Below(65)));
          if (Below(4) == 0) leg.mutable_rate_limit()->set_packets_per_second(Below(1000));
        }
        break;
      }
      case 4:
        config.set_default_action(static_cast<pb::DefaultAction>(Below(3)));
        if (Below(3) == 0) config.mutable_management();
        if (Below(3) == 0) config.mutable_management()->add_allow()->set_source(Prefix());
        break;
      default:
        *config.add_rules() = Rule();
        break;
    }
  }
  return config;
}

pb::ApplyRequest ApiMessages::Sensible() {
  pb::ApplyRequest request;
  if (Below(8) == 0 && !corpus_.empty()) {
    // A document of many parts hangs together only when somebody wrote it.
    request = corpus_[Below(corpus_.size())];
  } else {
    pb::Patch& patch = *request.mutable_patch();
    *patch.mutable_upsert() = Config(Below(4));
    if (Below(3) == 0) patch.add_delete_rules(Pick(kRules));
    if (Below(8) == 0) patch.add_delete_interfaces(Pick(kInterfaces));
    if (Below(8) == 0) patch.add_delete_prefix_sets(Pick(kSets));
    if (Below(8) == 0) patch.add_delete_next_hops(Pick(kHops));
    if (Below(8) == 0) patch.add_delete_steer_targets(Pick(kTargets));
    if (Below(8) == 0) patch.add_delete_multicast_routes(Pick(kRoutes));
    if (Below(4) == 0) {
      pb::PrefixSetChange& change = *patch.add_prefix_set_changes();
      change.set_name(Pick(kSets));
      for (uint64_t n = Below(30); n > 0; --n) change.add_add(Prefix());
      for (uint64_t n = Below(30); n > 0; --n) change.add_remove(Prefix());
    }
  }
  request.set_wait_applied(Below(2) == 0);
  request.set_dry_run(Below(8) == 0);
  if (Below(10) == 0) request.mutable_confirm_timeout()->set_seconds(static_cast<int64_t>(600 + Below(3200)));
  return request;
}

pb::ApplyRequest ApiMessages::Next() {
  const uint64_t choice = Below(10);
  if (choice < 5) return Sensible();
  pb::ApplyRequest request;
  if (choice == 5) {
    RandomMessage(random_).Fill(request);
    return request;
  }
  request = choice < 8 ? Sensible() : corpus_[Below(corpus_.size())];
  Mutate(request);
  return request;
}

void ApiMessages::Keep(const pb::ApplyRequest& request) {
  if (corpus_.size() < kCorpus) {
    corpus_.push_back(request);
  } else {
    corpus_[Below(corpus_.size())] = request;
  }
}

void ApiMessages::Mutate(Message& message) {
  for (uint64_t n = 1 + Below(4); n > 0; --n) {
    std::vector<Message*> nodes;
    Collect(message, nodes);
    Message& node = *nodes[Below(nodes.size())];
    const google::protobuf::Descriptor& type = *node.GetDescriptor();
    if (type.field_count() == 0) continue;
    const FieldDescriptor* field = type.field(static_cast<int>(Below(static_cast<uint64_t>(type.field_count()))));
    const Reflection& reflection = *node.GetReflection();
    const int size = field->is_repeated() ? reflection.FieldSize(node, field) : 0;
    switch (Below(4)) {
      case 0:
        reflection.ClearField(&node, field);
        break;
      case 1:
        if (size > 1)
          reflection.SwapElements(&node, field, 0, static_cast<int>(Below(static_cast<uint64_t>(size))));
        if (size > 0 && Below(2) == 0) reflection.RemoveLast(&node, field);
        break;
      default: {
        // The one field of a random message.
        const std::unique_ptr<Message> other(node.New());
        RandomMessage(random_).Fill(*other);
        for (int i = 0; i < type.field_count(); ++i) {
          if (type.field(i) != field) reflection.ClearField(other.get(), type.field(i));
        }
        if (Below(2) == 0) reflection.ClearField(&node, field);
        node.MergeFrom(*other);
        break;
      }
    }
  }
}

void ApiMessages::Damage(std::string& bytes) {
  for (uint64_t n = 1 + Below(8); n > 0 && !bytes.empty(); --n) {
    const size_t at = Below(bytes.size());
    switch (Below(4)) {
      case 0:
        bytes[at] = static_cast<char>(Below(256));
        break;
      case 1:
        bytes[at] = static_cast<char>(bytes[at] ^ 1 << Below(8));
        break;
      case 2:
        bytes.erase(at, 1 + Below(8));
        break;
      default:
        bytes.insert(at, bytes.substr(Below(bytes.size()), Below(40)));
        break;
    }
  }
}

}  // namespace headgate::testing
