// SPDX-License-Identifier: Apache-2.0
//
// The kinds of objects as people type and read them.
#pragma once

#include <absl/strings/string_view.h>

#include <optional>
#include <string>
#include <vector>

#include "headgate/v1/gateway.pb.h"

namespace headgate::cli {

// "prefix-set"; with count other than 1 "prefix-sets".
std::string KindName(v1::Kind kind, uint64_t count = 1);

// Singular, plural or short ("rule", "rules", "r"), with '-' or '_'.
std::optional<v1::Kind> ParseKind(absl::string_view text);

// What has counters, likewise, by the kind that StatsRequest has for it: "workers" are KIND_STEER_TARGET's.
std::optional<v1::Kind> ParseCounted(absl::string_view text);
std::string CountedName(v1::Kind kind, uint64_t count = 1);
const std::vector<v1::Kind>& CountedKinds();

// The object's own kind and name; that of settings is empty.
v1::Kind KindOf(const v1::Object& object);
std::string NameOf(const v1::Object& object);

// The kinds of a configuration, in the order they are shown in.
const std::vector<v1::Kind>& ConfigurationKinds();

}  // namespace headgate::cli
