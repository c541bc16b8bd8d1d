// SPDX-License-Identifier: Apache-2.0
//
// Objects: a table by kind and name, and a log of what changed since. A change to one of many objects is a row at
// the end of the log, beside those of the changes before and after it; in the table it would be a page of its own,
// written twice.
#include <absl/strings/str_cat.h>

#include <algorithm>

#include "agent/base/status.h"
#include "agent/control/store_statement.h"

namespace headgate {
namespace {

// Changes are logged until there are this many, or a quarter of the rules; then the table takes them in.
constexpr uint64_t kMinLoggedChanges = 64;

}  // namespace

// The last change to each object counts. One without a body is a deletion.
absl::Status Store::FoldLog() {
  HG_RETURN_IF_ERROR(
      Execute("INSERT OR REPLACE INTO objects (kind, name, id, body) SELECT kind, name, id, body FROM "
              "(SELECT kind, name, id, body, MAX(seq) FROM object_log GROUP BY kind, name)"));
  HG_RETURN_IF_ERROR(
      Execute("DELETE FROM objects WHERE body IS NULL AND (kind, name) IN "
              "(SELECT kind, name FROM object_log WHERE body IS NULL)"));
  return Execute("DELETE FROM object_log");
}

absl::Status Store::WriteDifferences(const State& before, const State& after) {
  uint64_t changes = 0;
  ForEachDifference(before, after, [&changes](auto&&...) { ++changes; });
  // Rows are numbered from 1, and go all at once.
  Statement last(*this, "SELECT IFNULL(MAX(seq), 0) FROM object_log");
  HG_RETURN_IF_ERROR(last.Step().status());
  const uint64_t limit = std::max<uint64_t>(kMinLoggedChanges, after.rules.size() / 4);
  if (static_cast<uint64_t>(last.Int(0)) + changes > limit) HG_RETURN_IF_ERROR(FoldLog());
  HG_RETURN_IF_ERROR(WriteObjects(before, after, changes <= limit));
  return SetNote("generation", absl::StrCat(after.generation));
}

absl::Status Store::WriteObjects(const State& before, const State& after, bool log) {
  Statement put(*this, log ? "INSERT INTO object_log (kind, name, id, body) VALUES (?, ?, ?, ?)"
                           : "INSERT OR REPLACE INTO objects (kind, name, id, body) VALUES (?, ?, ?, ?)");
  Statement erase(*this, log ? "INSERT INTO object_log (kind, name) VALUES (?, ?)"
                             : "DELETE FROM objects WHERE kind = ? AND name = ?");
  absl::Status status;
  ForEachDifference(before, after, [&](Kind kind, const std::string& name, const auto* old, const auto* now) {
    if (!status.ok()) return;
    using Object = std::remove_cv_t<std::remove_pointer_t<decltype(now)>>;
    if constexpr (std::is_same_v<Object, PrefixSet>) status.Update(WritePrefixes(old, now));
    put.Bind(1, static_cast<int64_t>(kind)).BindText(2, name);
    if (!now) {
      status.Update(erase.Bind(1, static_cast<int64_t>(kind)).BindText(2, name).Run());
    } else if constexpr (std::is_same_v<Object, Counter> || std::is_same_v<Object, MulticastLegId> ||
                         std::is_same_v<Object, MulticastFeedId>) {
      status.Update(put.Bind(3, now->id).BindBlob(4, "").Run());
    } else if constexpr (std::is_same_v<Object, Settings>) {
      status.Update(put.Bind(3, 0).BindBlob(4, codec_.Encode(*now)).Run());
    } else {
      const std::string body = codec_.Encode(*now);
      status.Update(put.Bind(3, now->id).BindBlob(4, body).Run());
    }
  });
  return status;
}

// From rows of kind, name, id and body.
absl::Status Store::ReadObject(Statement& row, State& state) const {
  const std::string name = row.Bytes(1), body = row.Bytes(3);
  const auto id = static_cast<uint32_t>(row.Int(2));
  const bool deleted = row.IsNull(3);
  const auto set = [&](auto decode, auto State::*table) -> absl::Status {
    if (deleted) {
      (state.*table).Erase(absl::string_view(name));
      return absl::OkStatus();
    }
    auto object = (codec_.*decode)(body);
    HG_RETURN_IF_ERROR(object.status());
    if (object->name != name) return absl::DataLossError(absl::StrCat("is stored as \"", object->name, "\""));
    object->id = id;
    (state.*table).Set(*std::move(object));
    return absl::OkStatus();
  };
  switch (static_cast<Kind>(row.Int(0))) {
    case Kind::kSettings: {
      HG_ASSIGN_OR_RETURN(Settings settings, codec_.DecodeSettings(body));
      state.settings = std::make_shared<const Settings>(std::move(settings));
      return absl::OkStatus();
    }
    case Kind::kInterface:
      return set(&ObjectCodec::DecodeInterface, &State::interfaces);
    case Kind::kPrefixSet:
      return set(&ObjectCodec::DecodePrefixSet, &State::prefix_sets);
    case Kind::kNextHop:
      return set(&ObjectCodec::DecodeNextHop, &State::next_hops);
    case Kind::kSteerTarget:
      return set(&ObjectCodec::DecodeSteerTarget, &State::steer_targets);
    case Kind::kCounter:
      state.counters.Erase(absl::string_view(name));
      if (!deleted) state.counters.Set(Counter{name, id, 0});
      return absl::OkStatus();
    case Kind::kRule:
      return set(&ObjectCodec::DecodeRule, &State::rules);
    case Kind::kMulticastRoute:
      return set(&ObjectCodec::DecodeMulticastRoute, &State::multicast_routes);
    case Kind::kMulticastLeg:
      state.multicast_legs.Erase(absl::string_view(name));
      if (!deleted) state.multicast_legs.Set(MulticastLegId{name, id});
      return absl::OkStatus();
    case Kind::kMulticastFeed:
      state.multicast_feeds.Erase(absl::string_view(name));
      if (!deleted) state.multicast_feeds.Set(MulticastFeedId{name, id});
      return absl::OkStatus();
  }
  return absl::OkStatus();
}

absl::Status Store::LoadObjects(const std::string& tables, State& state) {
  for (const char* from : {"objects ORDER BY kind, id", "object_log ORDER BY seq"}) {
    Statement select(*this, absl::StrCat("SELECT kind, name, id, body FROM ", tables, from));
    while (true) {
      HG_ASSIGN_OR_RETURN(const bool row, select.Step());
      if (!row) break;
      HG_RETURN_IF_ERROR(Annotate(ReadObject(select, state), "state database: ", select.Bytes(1)));
    }
  }
  return absl::OkStatus();
}

}  // namespace headgate
