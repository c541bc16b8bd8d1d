// SPDX-License-Identifier: Apache-2.0
#include "agent/dataplane/fake_dataplane.h"

#include <absl/strings/str_cat.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <thread>

#include "agent/base/status.h"

namespace headgate {
namespace {

constexpr const char* kTableNames[kTables] = {"hg_roots",   "hg_nodes",    "hg_slots",   "hg_rules",
                                              "hg_matches", "hg_prefixes", "hg_actions", "hg_next_hops",
                                              "hg_targets", "hg_mroutes",  "hg_legs",    "hg_fanouts"};
constexpr uint32_t kFields[kCounterTables] = {2, 3, 2, 3, 1, 2, 1, 12, 12, sizeof(hg_feed) / 8};

}  // namespace

FakeDataplane::FakeDataplane(uint32_t capacity) : capacity_(capacity), tables_(kTables) {
  for (size_t i = 0; i < kCounterTables; ++i) {
    const auto id = static_cast<CounterId>(i);
    counters_.emplace_back(static_cast<size_t>(CounterRows(id)) * CounterFields(id));
  }
}

size_t FakeDataplane::ValueSize(TableId table) {
  static constexpr size_t kSizes[kTables] = {
      sizeof(hg_root),        sizeof(hg_node_page),   sizeof(hg_slot_page), sizeof(hg_rule_page),
      sizeof(hg_match_page),  sizeof(hg_prefix_page), sizeof(hg_action),    sizeof(hg_next_hop_page),
      sizeof(hg_target_page), sizeof(hg_mroute_page), sizeof(hg_leg_page),  sizeof(hg_fanout)};
  return kSizes[static_cast<size_t>(table)];
}

uint32_t FakeDataplane::Capacity(TableId table) const {
  static constexpr uint32_t kPerValue[kTables] = {1,
                                                  HG_NODES_PER_PAGE,
                                                  HG_SLOTS_PER_PAGE,
                                                  HG_RULES_PER_PAGE,
                                                  HG_MATCHES_PER_PAGE,
                                                  HG_PREFIXES_PER_PAGE,
                                                  1,
                                                  1,
                                                  1,
                                                  1,
                                                  1,
                                                  1};
  if (table == TableId::kRoots) return HG_ROOTS;
  const uint32_t per_value = kPerValue[static_cast<size_t>(table)];
  return (capacity_ + per_value - 1) / per_value;
}

absl::Status FakeDataplane::Write(TableId id, absl::Span<const uint32_t> indexes, const void* values) {
  const std::lock_guard lock(mutex_);
  const size_t size = ValueSize(id);
  std::vector<char>& table = tables_[static_cast<size_t>(id)];
  for (const uint32_t index : indexes) {
    if (index >= Capacity(id)) return absl::OutOfRangeError(absl::StrCat(Info(id).name, ": no value ", index));
  }
  for (size_t i = 0; i < indexes.size(); ++i) {
    if (table.size() < (indexes[i] + 1) * size) table.resize((indexes[i] + 1) * size);
    std::memcpy(&table[indexes[i] * size], static_cast<const char*>(values) + i * size, size);
  }
  return absl::OkStatus();
}

absl::Status FakeDataplane::Read(TableId id, uint32_t first, uint32_t count, void* values) const {
  if (first > Capacity(id) || count > Capacity(id) - first) {
    return absl::OutOfRangeError(absl::StrCat(Info(id).name, ": no values ", first, " to ", first + count - 1));
  }
  const std::lock_guard lock(mutex_);
  const std::vector<char>& table = tables_[static_cast<size_t>(id)];
  const size_t from = std::min(first * ValueSize(id), table.size());
  const size_t held = std::min(count * ValueSize(id), table.size() - from);
  if (held != 0) std::memcpy(values, &table[from], held);
  if (held != count * ValueSize(id))
    std::memset(static_cast<char*>(values) + held, 0, count * ValueSize(id) - held);
  return absl::OkStatus();
}

TableInfo FakeDataplane::Info(TableId id) const {
  const auto size = static_cast<uint32_t>(ValueSize(id));
  return {kTableNames[static_cast<size_t>(id)], Capacity(id), size, static_cast<uint64_t>(Capacity(id)) * size};
}

absl::Status FakeDataplane::Activate(uint32_t root) {
  const std::lock_guard lock(mutex_);
  active_ = root;
  return absl::OkStatus();
}

std::optional<uint32_t> FakeDataplane::Active() const {
  const std::lock_guard lock(mutex_);
  return active_ == 0 ? std::nullopt : std::optional<uint32_t>(active_);
}

absl::StatusOr<Attachment> FakeDataplane::Attach(uint32_t port, const Device& device,
                                                 std::optional<DriverMode> mode) {
  if (port == 0 || port >= HG_PORTS) return absl::OutOfRangeError(absl::StrCat("no port ", port));
  const std::lock_guard lock(mutex_);
  for (auto& [other, former] : ports_) {
    if (other == port || former.device.ifindex != device.ifindex) continue;
    if (ports_.contains(port)) {
      std::swap(ports_[port], former);
    } else {
      ports_.erase(other);
    }
    break;
  }
  Port& bound = ports_[port];
  Attachment result{.mode = mode.value_or(DriverMode::kNative)};
  if (bound.taken_off && bound.device == device) result.repaired = 1;
  bound = {device, result.mode, false};
  return result;
}

absl::Status FakeDataplane::Detach(uint32_t port) {
  if (port == 0 || port >= HG_PORTS) return absl::OutOfRangeError(absl::StrCat("no port ", port));
  const std::lock_guard lock(mutex_);
  ports_.erase(port);
  return absl::OkStatus();
}

std::vector<std::pair<uint32_t, uint32_t>> FakeDataplane::Bound() const {
  const std::lock_guard lock(mutex_);
  std::vector<std::pair<uint32_t, uint32_t>> bound;
  for (const auto& [port, held] : ports_) bound.emplace_back(port, held.device.ifindex);
  return bound;
}

uint32_t FakeDataplane::CounterRows(CounterId id) const {
  const uint32_t rows[kCounterTables] = {HG_PORTS * HG_REASON_SLOTS,
                                         capacity_,
                                         HG_COUNTERS,
                                         HG_PORTS,
                                         1,
                                         HG_MROUTES,
                                         HG_MROUTES,
                                         HG_LEGS,
                                         HG_LEGS,
                                         HG_MROUTES};
  return rows[static_cast<size_t>(id)];
}
uint32_t FakeDataplane::CounterFields(CounterId id) const { return kFields[static_cast<size_t>(id)]; }

absl::StatusOr<std::vector<uint64_t>> FakeDataplane::ReadCounters(CounterId id, uint32_t first,
                                                                  uint32_t count) const {
  if (first > CounterRows(id) || count > CounterRows(id) - first) {
    return absl::OutOfRangeError(absl::StrCat("no counter rows ", first, " to ", first + count - 1));
  }
  const std::lock_guard lock(mutex_);
  const auto& rows = counters_[static_cast<size_t>(id)];
  const auto begin = rows.begin() + static_cast<ptrdiff_t>(first) * CounterFields(id);
  return std::vector<uint64_t>(begin, begin + static_cast<ptrdiff_t>(count) * CounterFields(id));
}

absl::Status FakeDataplane::ClearCounters(CounterId id, absl::Span<const uint32_t> rows) {
  const std::lock_guard lock(mutex_);
  const uint32_t fields = CounterFields(id);
  for (const uint32_t row : rows) {
    if (row >= CounterRows(id)) return absl::OutOfRangeError(absl::StrCat("no counter row ", row));
  }
  for (const uint32_t row : rows) {
    std::fill_n(&counters_[static_cast<size_t>(id)][static_cast<size_t>(row) * fields], fields, 0);
  }
  return absl::OkStatus();
}

absl::StatusOr<ListenerEntries> FakeDataplane::Listeners() const {
  const std::lock_guard lock(mutex_);
  return ListenerEntries(listeners_.begin(), listeners_.end());
}

absl::Status FakeDataplane::UpdateListeners(const ListenerEntries& put, absl::Span<const hg_listener> remove) {
  const std::lock_guard lock(mutex_);
  bool full = false;
  for (const auto& [listener, wanted] : put) {
    if (listeners_.size() >= HG_LISTENERS && !listeners_.contains(listener)) {
      full = true;
    } else {
      listeners_[listener] = wanted;
    }
  }
  for (const hg_listener& listener : remove) listeners_.erase(listener);
  if (!full) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat("hg_listeners: all ", HG_LISTENERS, " entries are taken"));
}

absl::Status FakeDataplane::PollSamples(absl::FunctionRef<void(const hg_sample&)>, int timeout_ms) {
  // Nothing comes: keep the caller's pace.
  std::this_thread::sleep_for(std::chrono::milliseconds(timeout_ms));
  return absl::OkStatus();
}

absl::StatusOr<TraceResult> FakeDataplane::Trace(uint32_t, absl::Span<const uint8_t>) {
  return absl::UnimplementedError("the fake data plane has no program to run");
}

void FakeDataplane::Count(CounterId id, uint32_t row, uint32_t field, uint64_t amount) {
  const std::lock_guard lock(mutex_);
  counters_[static_cast<size_t>(id)][static_cast<size_t>(row) * CounterFields(id) + field] += amount;
}

void FakeDataplane::Scribble(TableId id, uint32_t index) {
  const std::vector<char> garbage(ValueSize(id), static_cast<char>(0xa5));
  (void)Write(id, absl::MakeConstSpan(&index, 1), garbage.data());
}

void FakeDataplane::TakeOff(uint32_t port) {
  const std::lock_guard lock(mutex_);
  const auto found = ports_.find(port);
  if (found != ports_.end()) found->second.taken_off = true;
}

absl::Status FaultyDataplane::Write(TableId table, absl::Span<const uint32_t> indexes, const void* values) {
  HG_RETURN_IF_ERROR(fault("Write"));
  return inner_.Write(table, indexes, values);
}
absl::Status FaultyDataplane::Read(TableId table, uint32_t first, uint32_t count, void* values) const {
  HG_RETURN_IF_ERROR(fault("Read"));
  return inner_.Read(table, first, count, values);
}
absl::Status FaultyDataplane::Activate(uint32_t root) {
  HG_RETURN_IF_ERROR(fault("Activate"));
  return inner_.Activate(root);
}
absl::Status FaultyDataplane::Quiesce() {
  HG_RETURN_IF_ERROR(fault("Quiesce"));
  return inner_.Quiesce();
}
absl::Status FaultyDataplane::TakeOver() {
  HG_RETURN_IF_ERROR(fault("TakeOver"));
  return inner_.TakeOver();
}
absl::StatusOr<Attachment> FaultyDataplane::Attach(uint32_t port, const Device& device,
                                                   std::optional<DriverMode> mode) {
  HG_RETURN_IF_ERROR(fault("Attach"));
  return inner_.Attach(port, device, mode);
}
absl::Status FaultyDataplane::Detach(uint32_t port) {
  HG_RETURN_IF_ERROR(fault("Detach"));
  return inner_.Detach(port);
}

absl::StatusOr<Repairs> FaultyDataplane::Sweep() {
  HG_RETURN_IF_ERROR(fault("Sweep"));
  return inner_.Sweep();
}
absl::StatusOr<std::vector<uint64_t>> FaultyDataplane::ReadCounters(CounterId table, uint32_t first,
                                                                    uint32_t count) const {
  HG_RETURN_IF_ERROR(fault("ReadCounters"));
  return inner_.ReadCounters(table, first, count);
}
absl::Status FaultyDataplane::ClearCounters(CounterId table, absl::Span<const uint32_t> rows) {
  HG_RETURN_IF_ERROR(fault("ClearCounters"));
  return inner_.ClearCounters(table, rows);
}
absl::StatusOr<ListenerEntries> FaultyDataplane::Listeners() const {
  HG_RETURN_IF_ERROR(fault("Listeners"));
  return inner_.Listeners();
}
absl::Status FaultyDataplane::UpdateListeners(const ListenerEntries& put, absl::Span<const hg_listener> remove) {
  HG_RETURN_IF_ERROR(fault("UpdateListeners"));
  return inner_.UpdateListeners(put, remove);
}
absl::Status FaultyDataplane::PollSamples(absl::FunctionRef<void(const hg_sample&)> visit, int timeout_ms) {
  return inner_.PollSamples(visit, timeout_ms);
}
absl::StatusOr<TraceResult> FaultyDataplane::Trace(uint32_t port, absl::Span<const uint8_t> frame) {
  return inner_.Trace(port, frame);
}

}  // namespace headgate
