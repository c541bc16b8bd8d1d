// SPDX-License-Identifier: Apache-2.0
//
// The data plane in the kernel.
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <mutex>

#include "agent/base/fd.h"
#include "agent/dataplane/attach.h"
#include "agent/dataplane/dataplane.h"
#include "agent/dataplane/fanouts.h"
#include "agent/dataplane/loader.h"
#include "agent/dataplane/rule_counters.h"

struct bpf_map;
struct ring_buffer;

namespace headgate {

class BpfDataplane : public Dataplane {
 public:
  static absl::StatusOr<std::unique_ptr<BpfDataplane>> Open(const LoadOptions& options);
  ~BpfDataplane() override;

  absl::Status Write(TableId table, absl::Span<const uint32_t> indexes, const void* values) override;
  absl::Status Read(TableId table, uint32_t first, uint32_t count, void* values) const override;
  TableInfo Info(TableId table) const override;
  absl::Status Activate(uint32_t root) override;
  std::optional<uint32_t> Active() const override;
  absl::Status Quiesce() override;
  absl::Status TakeOver() override;
  absl::Status EgressCounting() const override { return egress_counting_; }
  absl::StatusOr<Attachment> Attach(uint32_t port, const Device& device, std::optional<DriverMode> mode) override;
  absl::Status Detach(uint32_t port) override;
  std::vector<std::pair<uint32_t, uint32_t>> Bound() const override { return ports_.Bound(); }
  absl::StatusOr<Repairs> Sweep() override;
  uint32_t CounterRows(CounterId table) const override;
  uint32_t CounterFields(CounterId table) const override;
  absl::StatusOr<std::vector<uint64_t>> ReadCounters(CounterId table, uint32_t first,
                                                     uint32_t count) const override;
  absl::Status ClearCounters(CounterId table, absl::Span<const uint32_t> rows) override;
  absl::StatusOr<ListenerEntries> Listeners() const override;
  absl::Status UpdateListeners(const ListenerEntries& put, absl::Span<const hg_listener> remove) override;
  absl::Status PollSamples(absl::FunctionRef<void(const hg_sample&)> visit, int timeout_ms) override;
  absl::StatusOr<TraceResult> Trace(uint32_t port, absl::Span<const uint8_t> frame) override;

  // File descriptors of hg_xsks, hg_queues and hg_target_state, for the slow path.
  int sockets_map() const;
  int queues_map() const;
  int target_states_map() const;
  int worker_legs_map() const;
  int leg_limiters_map() const;
  // Those of bpf/copier.bpf.c: hg_bundles, hg_bundle_maps, headgate_copier and headgate_bundled.
  struct CopierFds {
    int bundles = -1, bundle_maps = -1, ingress = -1, egress = -1;
  };
  CopierFds copier() const;

  // The bytes of kernel memory of all maps of the object, by map name.
  std::vector<TableInfo> AllMaps() const;

 private:
  // Makes a root active, or the same one again after a change of its tables.
  void Stamp(std::optional<uint32_t> root);
  explicit BpfDataplane(std::unique_ptr<Loader> loader);
  absl::Status Setup();
  absl::Status WriteFanouts(absl::Span<const uint32_t> indexes, const hg_fanout* values);
  const bpf_map* MapOf(TableId table) const;
  const bpf_map* MapOf(CounterId table) const;
  RuleCounters rule_counters() const;

  std::unique_ptr<Loader> loader_;
  Fanouts fanouts_;
  Ports ports_;
  hg_active* active_ = nullptr;       // the map's memory
  std::atomic<uint32_t> serial_ = 0;  // of the last stamp
  Fd quiesce_inner_, quiesce_outer_;
  absl::Status egress_counting_;
  ring_buffer* samples_ = nullptr;
  absl::FunctionRef<void(const hg_sample&)>* sample_visitor_ = nullptr;
  std::mutex trace_mutex_;  // hg_traces has one record
};

}  // namespace headgate
