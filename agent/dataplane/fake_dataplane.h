// SPDX-License-Identifier: Apache-2.0
//
// Stand-ins for the kernel, for tests of what is above the seam: one that keeps the tables in memory and holds
// to the contract as BpfDataplane does, and one that passes calls on and fails those it is told to.
#pragma once

#include <absl/container/flat_hash_map.h>

#include <functional>
#include <map>
#include <mutex>
#include <vector>

#include "agent/dataplane/dataplane.h"

namespace headgate {

class FakeDataplane : public Dataplane {
 public:
  // Tables of `capacity` values each.
  explicit FakeDataplane(uint32_t capacity);

  absl::Status Write(TableId table, absl::Span<const uint32_t> indexes, const void* values) override;
  absl::Status Read(TableId table, uint32_t first, uint32_t count, void* values) const override;
  TableInfo Info(TableId table) const override;
  absl::Status Activate(uint32_t root) override;
  std::optional<uint32_t> Active() const override { return active_; }
  absl::Status Quiesce() override { return absl::OkStatus(); }
  absl::Status TakeOver() override { return absl::OkStatus(); }
  absl::StatusOr<Attachment> Attach(uint32_t port, const Device& device, std::optional<DriverMode> mode) override;
  absl::Status Detach(uint32_t port) override;
  std::vector<std::pair<uint32_t, uint32_t>> Bound() const override;
  uint32_t CounterRows(CounterId table) const override;
  uint32_t CounterFields(CounterId table) const override;
  absl::StatusOr<std::vector<uint64_t>> ReadCounters(CounterId table, uint32_t first, uint32_t count) const override;
  absl::Status ClearCounters(CounterId table, absl::Span<const uint32_t> rows) override;
  absl::Status PollSamples(absl::FunctionRef<void(const hg_sample&)> visit, int timeout_ms) override;
  // There is no program to run.
  absl::StatusOr<TraceResult> Trace(uint32_t port, absl::Span<const uint8_t> frame) override;

  // For tests: counts as the program would, and changes a table behind everyone's back.
  void Count(CounterId table, uint32_t row, uint32_t field, uint64_t amount);
  void Scribble(TableId table, uint32_t index);

 private:
  static size_t ValueSize(TableId table);
  std::vector<char>& table(TableId id) { return tables_[static_cast<size_t>(id)]; }
  const std::vector<char>& table(TableId id) const { return tables_[static_cast<size_t>(id)]; }

  uint32_t capacity_;
  std::vector<std::vector<char>> tables_;
  std::vector<std::vector<uint64_t>> counters_;
  std::optional<uint32_t> active_;
  std::map<uint32_t, uint32_t> bound_;
};

class FaultyDataplane : public Dataplane {
 public:
  explicit FaultyDataplane(Dataplane& inner) : inner_(inner) {}

  // Asked before each changing call with its name ("Write", "Attach", ...): a status that is not OK is returned
  // in its place.
  std::function<absl::Status(absl::string_view call)> fault = [](absl::string_view) { return absl::OkStatus(); };

  absl::Status Write(TableId table, absl::Span<const uint32_t> indexes, const void* values) override;
  absl::Status Read(TableId table, uint32_t first, uint32_t count, void* values) const override;
  TableInfo Info(TableId table) const override { return inner_.Info(table); }
  absl::Status Activate(uint32_t root) override;
  std::optional<uint32_t> Active() const override { return inner_.Active(); }
  absl::Status Quiesce() override;
  absl::Status TakeOver() override;
  absl::StatusOr<Attachment> Attach(uint32_t port, const Device& device, std::optional<DriverMode> mode) override;
  absl::Status Detach(uint32_t port) override;
  std::vector<std::pair<uint32_t, uint32_t>> Bound() const override { return inner_.Bound(); }
  uint32_t CounterRows(CounterId table) const override { return inner_.CounterRows(table); }
  uint32_t CounterFields(CounterId table) const override { return inner_.CounterFields(table); }
  absl::StatusOr<std::vector<uint64_t>> ReadCounters(CounterId table, uint32_t first, uint32_t count) const override;
  absl::Status ClearCounters(CounterId table, absl::Span<const uint32_t> rows) override;
  absl::Status PollSamples(absl::FunctionRef<void(const hg_sample&)> visit, int timeout_ms) override;
  absl::StatusOr<TraceResult> Trace(uint32_t port, absl::Span<const uint8_t> frame) override;

 private:
  Dataplane& inner_;
};

}  // namespace headgate
