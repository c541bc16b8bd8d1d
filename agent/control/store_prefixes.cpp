// SPDX-License-Identifier: Apache-2.0
//
// The prefixes of sets: chunks written with the set, and a log of single edits since.
#include <unordered_map>

#include "agent/base/status.h"
#include "agent/control/store_statement.h"

namespace headgate {
namespace {

constexpr size_t kPrefixesPerChunk = 4096;
// Edits are logged until there are this many for a set, or a quarter of its size; then it is written whole.
constexpr uint64_t kMinLoggedEdits = 1000;

void AppendPrefix(const Prefix& prefix, std::string& out) {
  out.push_back(static_cast<char>(prefix.address.family));
  out.push_back(static_cast<char>(prefix.length));
  for (int i = 0; i < (prefix.address.family == Family::kIpv4 ? 1 : 4); ++i) {
    for (int shift = 24; shift >= 0; shift -= 8)
      out.push_back(static_cast<char>(prefix.address.words[i] >> shift));
  }
}

// Takes one prefix off the front; false when what is there is none.
bool TakePrefix(absl::string_view& in, Prefix& prefix) {
  if (in.size() < 2 || (in[0] != 4 && in[0] != 6)) return false;
  prefix = {};
  prefix.address.family = static_cast<Family>(in[0]);
  prefix.length = static_cast<uint8_t>(in[1]);
  const size_t words = prefix.address.family == Family::kIpv4 ? 1 : 4;
  if (in.size() < 2 + 4 * words || prefix.length > 32 * words) return false;
  for (size_t i = 0; i < 4 * words; ++i) {
    prefix.address.words[i / 4] = prefix.address.words[i / 4] << 8 | static_cast<uint8_t>(in[2 + i]);
  }
  in.remove_prefix(2 + 4 * words);
  return true;
}

}  // namespace

absl::Status Store::WriteChunks(const PrefixSet& set) {
  Statement clear_chunks(*this, "DELETE FROM prefix_chunks WHERE set_id = ?");
  HG_RETURN_IF_ERROR(clear_chunks.Bind(1, set.id).Run());
  Statement clear_edits(*this, "DELETE FROM prefix_edits WHERE set_id = ?");
  HG_RETURN_IF_ERROR(clear_edits.Bind(1, set.id).Run());
  Statement put(*this, "INSERT INTO prefix_chunks (set_id, chunk, body) VALUES (?, ?, ?)");
  std::string body;
  int64_t chunk = 0;
  size_t count = 0;
  absl::Status status;
  const auto flush = [&] {
    status.Update(put.Bind(1, set.id).Bind(2, chunk++).BindBlob(3, body).Run());
    body.clear();
    count = 0;
  };
  set.prefixes.ForEach([&](const Prefix& prefix) {
    AppendPrefix(prefix, body);
    if (++count == kPrefixesPerChunk) flush();
  });
  if (count != 0) flush();
  return status;
}

absl::Status Store::WritePrefixes(const PrefixSet* before, const PrefixSet* after) {
  if (before && (!after || after->id != before->id)) {
    PrefixSet none;
    none.id = before->id;
    HG_RETURN_IF_ERROR(WriteChunks(none));
  }
  if (!after) return absl::OkStatus();
  if (!before || before->id != after->id) return WriteChunks(*after);

  uint64_t edits = 0;
  PrefixMap::ForEachDifference(before->prefixes, after->prefixes, [&](const Prefix*, const Prefix*) { ++edits; });
  if (edits == 0) return absl::OkStatus();
  Statement count(*this, "SELECT COUNT(*) FROM prefix_edits WHERE set_id = ?");
  HG_RETURN_IF_ERROR(count.Bind(1, after->id).Step().status());
  if (edits + static_cast<uint64_t>(count.Int(0)) >
      std::max<uint64_t>(kMinLoggedEdits, after->prefixes.size() / 4)) {
    return WriteChunks(*after);
  }
  Statement log(*this, "INSERT INTO prefix_edits (set_id, added, prefix) VALUES (?, ?, ?)");
  absl::Status status;
  PrefixMap::ForEachDifference(before->prefixes, after->prefixes, [&](const Prefix* gone, const Prefix* come) {
    std::string bytes;
    AppendPrefix(come ? *come : *gone, bytes);
    status.Update(log.Bind(1, after->id).Bind(2, come ? 1 : 0).BindBlob(3, bytes).Run());
  });
  return status;
}

absl::Status Store::LoadPrefixes(const std::string& tables, State& state) {
  std::unordered_map<uint32_t, PrefixSet> sets;
  state.prefix_sets.ForEach([&](const std::shared_ptr<const PrefixSet>& set) { sets.emplace(set->id, *set); });
  const auto garbage = [] {
    return absl::DataLossError("state database: a prefix set's prefixes cannot be read");
  };

  Statement chunks(*this, absl::StrCat("SELECT set_id, body FROM ", tables, "prefix_chunks"));
  while (true) {
    HG_ASSIGN_OR_RETURN(const bool row, chunks.Step());
    if (!row) break;
    const auto set = sets.find(static_cast<uint32_t>(chunks.Int(0)));
    const std::string body = chunks.Bytes(1);
    absl::string_view left = body;
    Prefix prefix;
    while (!left.empty()) {
      if (set == sets.end() || !TakePrefix(left, prefix)) return garbage();
      set->second.prefixes.Put(prefix);
    }
  }
  Statement edits(*this, absl::StrCat("SELECT set_id, added, prefix FROM ", tables, "prefix_edits ORDER BY seq"));
  while (true) {
    HG_ASSIGN_OR_RETURN(const bool row, edits.Step());
    if (!row) break;
    const auto set = sets.find(static_cast<uint32_t>(edits.Int(0)));
    const std::string body = edits.Bytes(2);
    absl::string_view left = body;
    Prefix prefix;
    if (set == sets.end() || !TakePrefix(left, prefix)) return garbage();
    if (edits.Int(1) != 0) {
      set->second.prefixes.Put(prefix);
    } else {
      set->second.prefixes.Erase(prefix);
    }
  }
  for (auto& [id, set] : sets) {
    state.prefix_count += set.prefixes.size();
    state.prefix_sets.Set(std::move(set));
  }
  return absl::OkStatus();
}

}  // namespace headgate
