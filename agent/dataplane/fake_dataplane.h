// SPDX-License-Identifier: Apache-2.0
//
// Stand-ins for the kernel, for tests of what is above the seam: one that keeps the tables in memory and holds
// to the contract as BpfDataplane does, and one that passes calls on and fails those it is told to. Any function
// may be called from any thread.
#pragma once

#include <cstring>
#include <functional>
#include <map>
#include <mutex>
#include <vector>

#include "agent/dataplane/dataplane.h"

namespace headgate {

class FakeDataplane : public Dataplane {
 public:
  // Tables of `capacity` entries each, but for root records, of which there are HG_ROOTS. Memory is taken as they
  // fill.
  explicit FakeDataplane(uint32_t capacity);

  absl::Status Write(TableId table, absl::Span<const uint32_t> indexes, const void* values) override;
  absl::Status Read(TableId table, uint32_t first, uint32_t count, void* values) const override;
  TableInfo Info(TableId table) const override;
  absl::Status Activate(uint32_t root) override;
  std::optional<uint32_t> Active() const override;
  absl::Status Quiesce() override { return absl::OkStatus(); }
  absl::Status TakeOver() override { return absl::OkStatus(); }
  absl::Status EgressCounting() const override { return absl::OkStatus(); }
  absl::StatusOr<Attachment> Attach(uint32_t port, const Device& device, std::optional<DriverMode> mode) override;
  absl::Status Detach(uint32_t port) override;
  std::vector<std::pair<uint32_t, uint32_t>> Bound() const override;
  absl::StatusOr<Repairs> Sweep() override { return Repairs{}; }
  uint32_t CounterRows(CounterId table) const override;
  uint32_t CounterFields(CounterId table) const override;
  absl::StatusOr<std::vector<uint64_t>> ReadCounters(CounterId table, uint32_t first,
                                                     uint32_t count) const override;
  absl::Status ClearCounters(CounterId table, absl::Span<const uint32_t> rows) override;
  absl::StatusOr<ListenerEntries> Listeners() const override;
  absl::Status UpdateListeners(const ListenerEntries& put, absl::Span<const hg_listener> remove) override;
  absl::Status PollSamples(absl::FunctionRef<void(const hg_sample&)> visit, int timeout_ms) override;
  // There is no program to run.
  absl::StatusOr<TraceResult> Trace(uint32_t port, absl::Span<const uint8_t> frame) override;

  // For tests: counts as the program would, changes a table behind everyone's back, and takes a port's program off
  // its device as another tool might.
  void Count(CounterId table, uint32_t row, uint32_t field, uint64_t amount);
  void Scribble(TableId table, uint32_t index);
  void TakeOff(uint32_t port);

 private:
  struct Port {
    Device device;
    DriverMode mode = DriverMode::kNative;
    bool taken_off = false;
  };

  static size_t ValueSize(TableId table);
  uint32_t Capacity(TableId table) const;

  const uint32_t capacity_;
  mutable std::mutex mutex_;               // guards what follows
  std::vector<std::vector<char>> tables_;  // values written so far; those beyond are zero
  std::vector<std::vector<uint64_t>> counters_;
  uint32_t active_ = 0;
  std::map<uint32_t, Port> ports_;
  struct ListenerLess {
    bool operator()(const hg_listener& a, const hg_listener& b) const {
      return std::memcmp(&a, &b, sizeof(a)) < 0;
    }
  };
  std::map<hg_listener, bool, ListenerLess> listeners_;
};

class FaultyDataplane : public Dataplane {
 public:
  explicit FaultyDataplane(Dataplane& inner) : inner_(inner) {}

  // Asked before each call that can fail, by its name ("Write", "Attach", ...): a status that is not OK is
  // returned in its place. To be set before other threads make calls.
  std::function<absl::Status(absl::string_view call)> fault = [](absl::string_view) { return absl::OkStatus(); };

  absl::Status Write(TableId table, absl::Span<const uint32_t> indexes, const void* values) override;
  absl::Status Read(TableId table, uint32_t first, uint32_t count, void* values) const override;
  TableInfo Info(TableId table) const override { return inner_.Info(table); }
  absl::Status Activate(uint32_t root) override;
  std::optional<uint32_t> Active() const override { return inner_.Active(); }
  absl::Status Quiesce() override;
  absl::Status TakeOver() override;
  absl::Status EgressCounting() const override { return inner_.EgressCounting(); }
  absl::StatusOr<Attachment> Attach(uint32_t port, const Device& device, std::optional<DriverMode> mode) override;
  absl::Status Detach(uint32_t port) override;
  std::vector<std::pair<uint32_t, uint32_t>> Bound() const override { return inner_.Bound(); }
  absl::StatusOr<Repairs> Sweep() override;
  uint32_t CounterRows(CounterId table) const override { return inner_.CounterRows(table); }
  uint32_t CounterFields(CounterId table) const override { return inner_.CounterFields(table); }
  absl::StatusOr<std::vector<uint64_t>> ReadCounters(CounterId table, uint32_t first,
                                                     uint32_t count) const override;
  absl::Status ClearCounters(CounterId table, absl::Span<const uint32_t> rows) override;
  absl::StatusOr<ListenerEntries> Listeners() const override;
  absl::Status UpdateListeners(const ListenerEntries& put, absl::Span<const hg_listener> remove) override;
  absl::Status PollSamples(absl::FunctionRef<void(const hg_sample&)> visit, int timeout_ms) override;
  absl::StatusOr<TraceResult> Trace(uint32_t port, absl::Span<const uint8_t> frame) override;

 private:
  Dataplane& inner_;
};

}  // namespace headgate
