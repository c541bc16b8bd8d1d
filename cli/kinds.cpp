// SPDX-License-Identifier: Apache-2.0
#include "cli/kinds.h"

#include <absl/strings/ascii.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_replace.h>

#include <algorithm>

namespace headgate::cli {
namespace {

struct Names {
  v1::Kind kind;
  const char* singular;
  const char* plural;
  const char* brief;
};

constexpr Names kNames[] = {
    {v1::KIND_INTERFACE, "interface", "interfaces", "if"},
    {v1::KIND_PREFIX_SET, "prefix-set", "prefix-sets", "ps"},
    {v1::KIND_RULE, "rule", "rules", "r"},
    {v1::KIND_NEXT_HOP, "next-hop", "next-hops", "nh"},
    {v1::KIND_STEER_TARGET, "steer-target", "steer-targets", "st"},
    {v1::KIND_SETTINGS, "settings", "settings", "setting"},
    {v1::KIND_MULTICAST_ROUTE, "multicast-route", "multicast-routes", "mroute"},
    {v1::KIND_COUNTER, "counter", "counters", "c"},
};

}  // namespace

std::string KindName(v1::Kind kind, uint64_t count) {
  for (const Names& names : kNames) {
    if (names.kind == kind) return count == 1 ? names.singular : names.plural;
  }
  return absl::StrCat("kind-", static_cast<int>(kind));
}

std::optional<v1::Kind> ParseKind(absl::string_view text) {
  const std::string wanted = absl::StrReplaceAll(absl::AsciiStrToLower(text), {{"_", "-"}});
  for (const Names& names : kNames) {
    if (wanted == names.singular || wanted == names.plural || wanted == names.brief) return names.kind;
  }
  return std::nullopt;
}

std::optional<v1::Kind> ParseCounted(absl::string_view text) {
  const std::string wanted = absl::AsciiStrToLower(text);
  if (wanted == "worker" || wanted == "workers") return v1::KIND_STEER_TARGET;
  const std::optional<v1::Kind> kind = ParseKind(text);
  // By its workers' name alone: a target has no counters of its own.
  if (!kind || kind == v1::KIND_STEER_TARGET) return std::nullopt;
  const std::vector<v1::Kind>& counted = CountedKinds();
  return std::find(counted.begin(), counted.end(), *kind) == counted.end() ? std::nullopt : kind;
}

std::string CountedName(v1::Kind kind, uint64_t count) {
  if (kind == v1::KIND_STEER_TARGET) return count == 1 ? "worker" : "workers";
  return KindName(kind, count);
}

const std::vector<v1::Kind>& CountedKinds() {
  static const std::vector<v1::Kind> kinds = {v1::KIND_INTERFACE, v1::KIND_RULE, v1::KIND_COUNTER,
                                              v1::KIND_MULTICAST_ROUTE, v1::KIND_STEER_TARGET};
  return kinds;
}

v1::Kind KindOf(const v1::Object& object) {
  switch (object.object_case()) {
    case v1::Object::kInterface:
      return v1::KIND_INTERFACE;
    case v1::Object::kPrefixSet:
      return v1::KIND_PREFIX_SET;
    case v1::Object::kRule:
      return v1::KIND_RULE;
    case v1::Object::kNextHop:
      return v1::KIND_NEXT_HOP;
    case v1::Object::kSteerTarget:
      return v1::KIND_STEER_TARGET;
    case v1::Object::kMulticastRoute:
      return v1::KIND_MULTICAST_ROUTE;
    case v1::Object::kSettings:
      return v1::KIND_SETTINGS;
    case v1::Object::OBJECT_NOT_SET:
      return v1::KIND_UNSPECIFIED;
  }
  return v1::KIND_UNSPECIFIED;
}

std::string NameOf(const v1::Object& object) {
  switch (object.object_case()) {
    case v1::Object::kInterface:
      return object.interface().name();
    case v1::Object::kPrefixSet:
      return object.prefix_set().name();
    case v1::Object::kRule:
      return object.rule().name();
    case v1::Object::kNextHop:
      return object.next_hop().name();
    case v1::Object::kSteerTarget:
      return object.steer_target().name();
    case v1::Object::kMulticastRoute:
      return object.multicast_route().name();
    default:
      return "";
  }
}

const std::vector<v1::Kind>& ConfigurationKinds() {
  static const std::vector<v1::Kind> kinds = {v1::KIND_SETTINGS,       v1::KIND_INTERFACE, v1::KIND_RULE,
                                              v1::KIND_PREFIX_SET,     v1::KIND_NEXT_HOP,  v1::KIND_STEER_TARGET,
                                              v1::KIND_MULTICAST_ROUTE};
  return kinds;
}

}  // namespace headgate::cli
