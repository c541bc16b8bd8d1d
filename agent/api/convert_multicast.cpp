// SPDX-License-Identifier: Apache-2.0
//
// Multicast routes, between messages and the model.
#include <algorithm>

#include "agent/api/convert.h"
#include "agent/api/convert_reader.h"
#include "agent/api/field_text.h"

namespace headgate::api {
namespace {

constexpr char kEgress[] = "egress";

// A number of which 0 says that it is not given.
template <typename Narrow>
void Optional(absl::string_view field, uint32_t value, Narrow& to, Reader& reader) {
  std::optional<Narrow> number;
  reader.Number(field, value, number);
  to = number.value_or(0);
}

void Read(const pb::MulticastInput& from, MulticastInput& to, Reader& reader) {
  to.interfaces.assign(from.interfaces().begin(), from.interfaces().end());
  reader.Take("input.group", ParsePrefix(from.group()), to.group);
  const auto read = [&reader](const char* field, const auto& texts, std::vector<Prefix>& out) {
    for (int i = 0; i < texts.size(); ++i) {
      Prefix prefix;
      reader.Take(absl::StrCat("input.sources.", field, "[", i, "]"), ParsePrefix(texts[i]), prefix);
      out.push_back(prefix);
    }
  };
  read("include", from.sources().include(), to.include);
  read("exclude", from.sources().exclude(), to.exclude);
  Optional("input.port", from.port(), to.port, reader);
  if (from.has_vlan()) reader.Number("input.vlan", from.vlan(), to.vlan);
  if (!from.protocol().empty()) reader.Take("input.protocol", ParseProtocol(from.protocol()), to.protocol);
}

void Read(const pb::MulticastLeg& from, const std::string& path, MulticastLeg& to, Reader& reader) {
  to.interface = from.interface();
  to.name = from.name();
  if (to.name.empty()) {
    to.name = from.interface().empty() ? from.unicast() : from.interface();
    // Names have no colons.
    std::replace(to.name.begin(), to.name.end(), ':', '-');
  }
  if (!from.group().empty()) reader.Take(path + ".group", ParseAddress(from.group()), to.group);
  if (!from.unicast().empty()) reader.Take(path + ".unicast", ParseAddress(from.unicast()), to.unicast);
  if (!from.mac().empty()) reader.Take(path + ".mac", ParseMac(from.mac()), to.mac);
  Optional(path + ".port", from.port(), to.port, reader);
  if (from.source() == kEgress) {
    to.source = EgressAddress{};
  } else if (!from.source().empty()) {
    IpAddress address;
    reader.Take(path + ".source", ParseAddress(from.source()), address);
    to.source = address;
  }
  Optional(path + ".source_port", from.source_port(), to.source_port, reader);
  Optional(path + ".ttl.set", from.ttl().set(), to.ttl, reader);
  Optional(path + ".ttl.threshold", from.ttl().threshold(), to.ttl_threshold, reader);
  if (from.has_dscp()) reader.Number(path + ".dscp", from.dscp(), to.dscp);
  if (from.has_vlan()) reader.Number(path + ".vlan", from.vlan(), to.vlan);
  if (from.has_rate_limit()) {
    RateLimit limit;
    ReadInto(from.rate_limit(), path + ".rate_limit", limit, reader);
    to.rate_limit = limit;
  }
  to.on_join = from.on_join();
}

void ReadFeed(const pb::MulticastRoute& from, MulticastRoute& to, Reader& reader) {
  if (from.has_sequence()) {
    to.sequence.emplace().little_endian = from.sequence().little_endian();
    Optional("sequence.offset", from.sequence().offset(), to.sequence->offset, reader);
    Optional("sequence.width", from.sequence().width(), to.sequence->width, reader);
  }
  if (from.has_deduplicate()) {
    to.deduplicate.emplace().feed = from.deduplicate().feed();
    Optional("deduplicate.window", from.deduplicate().window(), to.deduplicate->window, reader);
  }
}

void WriteFeed(const MulticastRoute& from, pb::MulticastRoute& to) {
  if (from.sequence) {
    to.mutable_sequence()->set_offset(from.sequence->offset);
    to.mutable_sequence()->set_width(from.sequence->width);
    to.mutable_sequence()->set_little_endian(from.sequence->little_endian);
  }
  if (from.deduplicate) {
    to.mutable_deduplicate()->set_feed(from.deduplicate->feed);
    to.mutable_deduplicate()->set_window(from.deduplicate->window);
  }
}

}  // namespace

// What is not given keeps its default.
void ReadInto(const pb::Querier& from, Querier& to, Reader& reader) {
  to.disabled = from.disabled();
  if (from.interval_seconds() != 0) to.interval_seconds = from.interval_seconds();
  if (from.response_milliseconds() != 0) to.response_ms = from.response_milliseconds();
  if (from.last_listener_milliseconds() != 0) to.last_listener_ms = from.last_listener_milliseconds();
  std::optional<uint8_t> robustness;
  reader.Number("querier.robustness", from.robustness(), robustness);
  if (robustness.value_or(0) != 0) to.robustness = *robustness;
}

void Write(const Querier& from, pb::Querier& to) {
  to.set_disabled(from.disabled);
  to.set_interval_seconds(from.interval_seconds);
  to.set_response_milliseconds(from.response_ms);
  to.set_last_listener_milliseconds(from.last_listener_ms);
  to.set_robustness(from.robustness);
}

void ReadInto(const pb::MulticastRoute& from, MulticastRoute& to, Reader& reader) {
  to.name = from.name();
  Read(from.input(), to.input, reader);
  to.legs.resize(static_cast<size_t>(from.legs_size()));
  for (int i = 0; i < from.legs_size(); ++i) {
    Read(from.legs(i), absl::StrCat("legs[", i, "]"), to.legs[static_cast<size_t>(i)], reader);
  }
  ReadFeed(from, to, reader);
}

void ReadInto(const pb::RateLimit& from, absl::string_view field, RateLimit& to, Reader& reader) {
  CheckEnum(absl::StrCat(field, ".per"), from.per(), pb::RateLimitScope_IsValid, reader);
  to = {.packets_per_second = from.packets_per_second(),
        .bits_per_second = from.bits_per_second(),
        .burst = from.burst(),
        .per_source = from.per() == pb::RATE_LIMIT_SCOPE_SOURCE};
}

void Write(const RateLimit& from, pb::RateLimit& to) {
  to.set_packets_per_second(from.packets_per_second);
  to.set_bits_per_second(from.bits_per_second);
  to.set_burst(from.burst);
  if (from.per_source) to.set_per(pb::RATE_LIMIT_SCOPE_SOURCE);
}

void Write(const MulticastRoute& from, pb::MulticastRoute& to) {
  to.set_name(from.name);
  pb::MulticastInput* input = to.mutable_input();
  for (const std::string& interface : from.input.interfaces) input->add_interfaces(interface);
  input->set_group(ToString(from.input.group));
  for (const Prefix& prefix : from.input.include) input->mutable_sources()->add_include(ToString(prefix));
  for (const Prefix& prefix : from.input.exclude) input->mutable_sources()->add_exclude(ToString(prefix));
  input->set_port(from.input.port);
  if (from.input.vlan) input->set_vlan(*from.input.vlan);
  input->set_protocol(ProtocolText(from.input.protocol));
  for (const MulticastLeg& leg : from.legs) {
    pb::MulticastLeg* message = to.add_legs();
    message->set_name(leg.name);
    message->set_interface(leg.interface);
    if (leg.group) message->set_group(ToString(*leg.group));
    if (leg.unicast) message->set_unicast(ToString(*leg.unicast));
    if (leg.mac) message->set_mac(ToString(*leg.mac));
    message->set_port(leg.port);
    if (std::holds_alternative<EgressAddress>(leg.source)) message->set_source(kEgress);
    if (const auto* address = std::get_if<IpAddress>(&leg.source)) message->set_source(ToString(*address));
    message->set_source_port(leg.source_port);
    if (leg.ttl != 0) message->mutable_ttl()->set_set(leg.ttl);
    if (leg.ttl_threshold != 0) message->mutable_ttl()->set_threshold(leg.ttl_threshold);
    if (leg.dscp) message->set_dscp(*leg.dscp);
    if (leg.vlan) message->set_vlan(*leg.vlan);
    if (leg.rate_limit) Write(*leg.rate_limit, *message->mutable_rate_limit());
    message->set_on_join(leg.on_join);
  }
  WriteFeed(from, to);
}

}  // namespace headgate::api
