// SPDX-License-Identifier: Apache-2.0
#include "agent/control/compiler.h"

#include <absl/strings/str_cat.h>

#include <algorithm>
#include <cstring>

#include "agent/base/status.h"

namespace headgate {
namespace {

// Values written or read in one call, which bounds the buffer.
constexpr uint32_t kBatch = 4096;

// What makes a table larger: they are sized by the options of headgated.
const char* RemedyFor(TableId table) {
  switch (table) {
    case TableId::kRules:
    case TableId::kMatches:
    case TableId::kActions:
      return ": start headgated with a higher --max-rules";
    case TableId::kPrefixes:
      return ": start headgated with a higher --max-prefixes";
    case TableId::kNodes:
    case TableId::kSlots:
      return ": start headgated with a higher --max-rules, or --max-prefixes where prefix sets need them";
    case TableId::kRoots:
    case TableId::kNextHops:
    case TableId::kTargets:
    case TableId::kMroutes:
    case TableId::kLegs:
    case TableId::kFanouts:
      break;
  }
  return "";
}

}  // namespace

template <typename Self, typename F>
void Compiler::ForEachArena(Self& self, F&& visit) {
  visit(TableId::kRoots, self.roots_);
  visit(TableId::kNodes, self.trees_.nodes);
  visit(TableId::kSlots, self.trees_.slots);
  visit(TableId::kRules, self.rules_.rules);
  visit(TableId::kMatches, self.rules_.matches);
  visit(TableId::kPrefixes, self.prefixes_.prefixes);
  visit(TableId::kActions, self.actions_.cells);
  visit(TableId::kNextHops, self.next_hops_.cells);
  visit(TableId::kTargets, self.targets_.cells);
  visit(TableId::kMroutes, self.multicast_.routes.cells);
  visit(TableId::kLegs, self.multicast_.legs.cells);
  visit(TableId::kFanouts, self.multicast_.fanouts.cells);
}

std::array<Compiler::Use, kTables> Compiler::Uses() const {
  std::array<Use, kTables> uses;
  ForEachArena(*this, [&uses](TableId id, const auto& arena) {
    uses[static_cast<size_t>(id)] = {arena.used(), (arena.used() + arena.kPerPage - 1) / arena.kPerPage,
                                     arena.listed()};
  });
  return uses;
}

bool Compiler::Crowded(const Dataplane& dataplane) const {
  const std::array<Use, kTables> uses = Uses();
  for (size_t table = 0; table < kTables; ++table) {
    // Half of each table is for what is in force, the other half for what comes next.
    if (uses[table].values > dataplane.Info(static_cast<TableId>(table)).capacity / 2) return true;
  }
  return false;
}

void Compiler::WriteRoot(const State& state) {
  hg_root root{};
  root.generation = state.generation;
  root.rule_tree = rules_.roots().main();
  root.src_set_slots = rules_.roots().source_slots();
  root.dst_set_slots = rules_.roots().destination_slots();
  root.mroute_tree = rules_.roots().multicast();
  root.set_tree4 = prefixes_.root4();
  root.set_tree6 = prefixes_.root6();
  root.default_verdict = state.settings->default_action == BasicVerdict::kPass ? HG_VERDICT_PASS : HG_VERDICT_DROP;
  if (rules_.asks_source_sets()) root.flags |= HG_ROOT_SRC_SETS;
  if (rules_.asks_destination_sets()) root.flags |= HG_ROOT_DST_SETS;
  std::copy(targets_.directory().begin(), targets_.directory().end(), root.target_page);
  std::copy(next_hops_.directory().begin(), next_hops_.directory().end(), root.next_hop_page);
  std::copy(multicast_.routes.directory().begin(), multicast_.routes.directory().end(), root.mroute_page);
  std::copy(multicast_.legs.directory().begin(), multicast_.legs.directory().end(), root.leg_page);
  const uint32_t fresh = roots_.Allocate(0);
  ForEachArena(*this, [&root](TableId id, auto& arena) { root.extent[static_cast<size_t>(id)] = arena.pages(); });
  roots_.Write(fresh) = root;
  if (root_ != 0) roots_.Release(root_, 0);
  root_ = fresh;
}

void Compiler::Compile(const State& next) {
  Table<NextHop>::ForEachDifference(compiled_.next_hops, next.next_hops, [&](const auto* old, const auto* now) {
    if (old && (!now || (*now)->id != (*old)->id)) next_hops_.Clear((*old)->id);
    if (now) next_hops_.Set((*now)->id, CompileNextHop(**now, next));
  });
  Table<SteerTarget>::ForEachDifference(compiled_.steer_targets, next.steer_targets,
                                        [&](const auto* old, const auto* now) {
                                          if (old && (!now || (*now)->id != (*old)->id))
                                            targets_.Clear((*old)->id);
                                          if (now) targets_.Set((*now)->id, CompileTarget(**now));
                                        });
  multicast_.Apply(compiled_, next);
  prefixes_.Apply(compiled_, next);
  rules_.Apply(compiled_, next);
  WriteRoot(next);
  compiled_ = next;
}

template <typename Arena>
absl::Status Compiler::Load(const Dataplane& dataplane, TableId table, uint32_t values, Arena& arena) {
  std::vector<typename Arena::CellType> cells(static_cast<size_t>(values) * Arena::kPerPage);
  HG_RETURN_IF_ERROR(dataplane.Read(table, 0, values, cells.data()));
  arena.Load(std::move(cells));
  return absl::OkStatus();
}

absl::StatusOr<uint64_t> Compiler::Adopt(const Dataplane& dataplane, const State& next) {
  const std::optional<uint32_t> active = dataplane.Active();
  if (!active) return absl::NotFoundError("no generation is in force");
  const absl::Status garbage =
      absl::DataLossError("the tables in force are not a generation of this agent's making");
  // The root record first: it says how much of the other tables there is.
  HG_RETURN_IF_ERROR(Load(dataplane, TableId::kRoots, dataplane.Info(TableId::kRoots).capacity, roots_));
  if (*active == 0 || *active >= roots_.size() || !roots_.CanClaim(*active, 0)) return garbage;
  roots_.Claim(*active, 0);
  root_ = *active;
  const hg_root root = roots_[root_];
  absl::Status status;
  ForEachArena(*this, [&](TableId id, auto& arena) {
    const uint32_t extent = root.extent[static_cast<size_t>(id)];
    if (id == TableId::kRoots || !status.ok()) return;
    status = extent <= dataplane.Info(id).capacity ? Load(dataplane, id, extent, arena) : garbage;
  });
  HG_RETURN_IF_ERROR(status);
  // A rule's id is the number of a row of counters.
  if (!rules_.Adopt(root, dataplane.CounterRows(CounterId::kRules)) ||
      !prefixes_.Adopt(root.set_tree4, root.set_tree6) || !next_hops_.Adopt(root.next_hop_page) ||
      !targets_.Adopt(root.target_page) || !multicast_.Adopt(root)) {
    return garbage;
  }

  uint64_t differences = prefixes_.Reconcile(next) + rules_.Reconcile(next);
  absl::flat_hash_map<uint32_t, hg_next_hop> hops;
  next.next_hops.ForEach(
      [&](const std::shared_ptr<const NextHop>& hop) { hops[hop->id] = CompileNextHop(*hop, next); });
  absl::flat_hash_map<uint32_t, hg_target> targets;
  next.steer_targets.ForEach(
      [&](const std::shared_ptr<const SteerTarget>& target) { targets[target->id] = CompileTarget(*target); });
  differences += next_hops_.Reconcile(hops) + targets_.Reconcile(targets) + multicast_.Reconcile(next);
  WriteRoot(next);
  compiled_ = next;
  return differences;
}

void Compiler::KeepClear(const Dataplane& dataplane) {
  const std::optional<uint32_t> active = dataplane.Active();
  hg_root root{};
  if (!active || !dataplane.Read(TableId::kRoots, *active, 1, &root).ok()) return;
  ForEachArena(*this, [&](TableId id, auto& arena) {
    const uint32_t pages = std::min(root.extent[static_cast<size_t>(id)], dataplane.Info(id).capacity);
    if (id == TableId::kRoots) {
      arena.KeepClear(*active, *active + 1);
    } else {
      arena.KeepClear(0, pages * arena.kPerPage);
    }
  });
}

absl::Status Compiler::CheckRoom(const Dataplane& dataplane) const {
  absl::Status status;
  ForEachArena(*this, [&](TableId id, const auto& arena) {
    const std::vector<uint32_t>& pages = arena.dirty_pages();
    const auto last = std::max_element(pages.begin(), pages.end());
    const TableInfo info = dataplane.Info(id);
    if (!status.ok() || last == pages.end() || *last < info.capacity) return;
    status = absl::ResourceExhaustedError(
        absl::StrCat("table ", info.name, ": ", (*last + 1) * arena.kPerPage,
                     " entries are needed, with those in force, and there is room for ",
                     info.capacity * arena.kPerPage, RemedyFor(id)));
  });
  return status;
}

absl::Status Compiler::Flush(Dataplane& dataplane) {
  absl::Status status = CheckRoom(dataplane);
  ForEachArena(*this, [&](TableId id, auto& arena) {
    if (!status.ok()) return;
    const TableInfo info = dataplane.Info(id);
    std::vector<uint32_t> pages = arena.dirty_pages();
    std::sort(pages.begin(), pages.end());
    std::vector<char> buffer;
    for (size_t from = 0; from < pages.size() && status.ok(); from += kBatch) {
      const size_t count = std::min<size_t>(kBatch, pages.size() - from);
      buffer.resize(count * info.value_size);
      for (size_t i = 0; i < count; ++i) {
        std::memcpy(&buffer[i * info.value_size], arena.page(pages[from + i]), info.value_size);
      }
      status = dataplane.Write(id, absl::MakeConstSpan(pages).subspan(from, count), buffer.data());
    }
  });
  HG_RETURN_IF_ERROR(status);
  ForEachArena(*this, [](TableId, auto& arena) { arena.Flushed(); });
  return absl::OkStatus();
}

void Compiler::Published(uint64_t epoch) {
  ForEachArena(*this, [epoch](TableId, auto& arena) { arena.Publish(epoch); });
}

void Compiler::Reclaim(uint64_t epoch) {
  ForEachArena(*this, [epoch](TableId, auto& arena) { arena.Reclaim(epoch); });
}

absl::StatusOr<Repairs> Compiler::Repair(Dataplane& dataplane) {
  Repairs repaired;
  absl::Status status;
  ForEachArena(*this, [&](TableId id, auto& arena) {
    if (!status.ok()) return;
    const TableInfo info = dataplane.Info(id);
    std::vector<char> buffer;
    const uint32_t pages = std::min(arena.pages(), info.capacity);
    for (uint32_t first = 0; first < pages && status.ok(); first += kBatch) {
      const uint32_t count = std::min(kBatch, pages - first);
      buffer.resize(static_cast<size_t>(count) * info.value_size);
      status = dataplane.Read(id, first, count, buffer.data());
      if (!status.ok()) break;
      for (uint32_t i = 0; i < count; ++i) {
        if (std::memcmp(&buffer[i * info.value_size], arena.page(first + i), info.value_size) == 0) continue;
        arena.MarkDirty(first + i);
        ++repaired[info.name];
      }
    }
  });
  HG_RETURN_IF_ERROR(status);
  if (!repaired.empty()) HG_RETURN_IF_ERROR(Flush(dataplane));
  return repaired;
}

}  // namespace headgate
