// SPDX-License-Identifier: Apache-2.0
#include "agent/dataplane/bpf_dataplane.h"

#include <absl/strings/str_cat.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <set>
#include <string>

#include "agent/base/log.h"
#include "agent/base/status.h"
#include "agent/dataplane/bpf_util.h"
#include "agent/dataplane/egress.h"
#include "headgate_bpf.skel.h"

namespace headgate {
namespace {

constexpr size_t kMaxTraceFrame = 3520;  // what one page of a test run holds
constexpr size_t kTraceSlack = 64;       // for a tag that is pushed
constexpr uint32_t kLoopbackIfindex = 1;

// A read in batches that begins or ends beyond the map says nothing of it.
absl::Status CheckRange(uint32_t first, uint32_t count, uint32_t size, absl::string_view what) {
  if (first <= size && count <= size - first) return absl::OkStatus();
  return absl::OutOfRangeError(absl::StrCat(what, ": ", count, " values from ", first, " on, of ", size));
}

bool IsPerCpu(const bpf_map* map) { return bpf_map__type(map) == BPF_MAP_TYPE_PERCPU_ARRAY; }

}  // namespace

BpfDataplane::BpfDataplane(std::unique_ptr<Loader> loader)
    : loader_(std::move(loader)),
      fanouts_(*loader_, [this](uint32_t port) { return ports_.RunLegs(port); }),
      ports_(*loader_, [this](uint32_t port) { return fanouts_.Follow(port); }) {}

BpfDataplane::~BpfDataplane() {
  ring_buffer__free(samples_);
  if (active_ != nullptr) munmap(active_, static_cast<size_t>(getpagesize()));
}

absl::StatusOr<std::unique_ptr<BpfDataplane>> BpfDataplane::Open(const LoadOptions& options) {
  HG_ASSIGN_OR_RETURN(std::unique_ptr<Loader> loader, Loader::Load(options));
  std::unique_ptr<BpfDataplane> dataplane(new BpfDataplane(std::move(loader)));
  HG_RETURN_IF_ERROR(dataplane->Setup());
  return dataplane;
}

absl::Status BpfDataplane::Setup() {
  const auto& maps = loader_->skeleton().maps;
  void* memory = mmap(nullptr, static_cast<size_t>(getpagesize()), PROT_READ | PROT_WRITE, MAP_SHARED,
                      bpf_map__fd(maps.hg_active), 0);
  if (memory == MAP_FAILED) return ErrnoStatus("map hg_active into memory");
  active_ = static_cast<hg_active*>(memory);
  serial_ = active_->serial;

  // Updating a map of maps waits until no program uses the old inner map, which is any program that began
  // before (kernel/bpf/syscall.c, maybe_wait_bpf_programs): the one call made for this purpose.
  quiesce_inner_ =
      Fd(bpf_map_create(BPF_MAP_TYPE_ARRAY, "hg_quiesce_in", sizeof(uint32_t), sizeof(uint32_t), 1, nullptr));
  LIBBPF_OPTS(bpf_map_create_opts, outer, .inner_map_fd = static_cast<uint32_t>(quiesce_inner_.get()));
  quiesce_outer_ =
      Fd(bpf_map_create(BPF_MAP_TYPE_ARRAY_OF_MAPS, "hg_quiesce", sizeof(uint32_t), sizeof(uint32_t), 1, &outer));
  if (!quiesce_inner_ || !quiesce_outer_) return ErrnoStatus("create the maps to wait for packets by");

  samples_ = ring_buffer__new(
      bpf_map__fd(maps.hg_samples),
      [](void* self, void* data, size_t size) {
        auto* visitor = static_cast<BpfDataplane*>(self)->sample_visitor_;
        if (visitor != nullptr && size >= sizeof(hg_sample)) (*visitor)(*static_cast<const hg_sample*>(data));
        return 0;
      },
      this, nullptr);
  if (samples_ == nullptr) return ErrnoStatus("open the ring of samples");
  return ports_.Restore();
}

const bpf_map* BpfDataplane::MapOf(TableId table) const {
  const auto& maps = loader_->skeleton().maps;
  const bpf_map* const tables[kTables] = {maps.hg_roots,   maps.hg_nodes,    maps.hg_slots,   maps.hg_rules,
                                          maps.hg_matches, maps.hg_prefixes, maps.hg_actions, maps.hg_next_hops,
                                          maps.hg_targets, maps.hg_mroutes,  maps.hg_legs,    maps.hg_fanouts};
  return tables[static_cast<size_t>(table)];
}

const bpf_map* BpfDataplane::MapOf(CounterId table) const {
  const auto& maps = loader_->skeleton().maps;
  const bpf_map* const tables[kCounterTables] = {
      maps.hg_port_stats,   maps.hg_rule_stats,  maps.hg_counters,  maps.hg_egress_stats, maps.hg_samples_lost,
      maps.hg_mroute_stats, maps.hg_mroute_last, maps.hg_leg_stats, maps.hg_worker_legs,  maps.hg_feeds};
  return tables[static_cast<size_t>(table)];
}

absl::Status BpfDataplane::Write(TableId table, absl::Span<const uint32_t> indexes, const void* values) {
  const TableInfo info = Info(table);
  for (const uint32_t index : indexes) HG_RETURN_IF_ERROR(CheckRange(index, 1, info.capacity, info.name));
  absl::Status status = Annotate(WriteArray(bpf_map__fd(MapOf(table)), indexes, values), info.name);
  if (table == TableId::kFanouts) status.Update(WriteFanouts(indexes, static_cast<const hg_fanout*>(values)));
  Stamp(std::nullopt);  // what packets found in a table before it was repaired is not to be remembered
  return status;
}

absl::Status BpfDataplane::WriteFanouts(absl::Span<const uint32_t> indexes, const hg_fanout* values) {
  for (size_t i = 0; i < indexes.size(); ++i) HG_RETURN_IF_ERROR(fanouts_.Set(indexes[i], values[i]));
  return absl::OkStatus();
}

absl::Status BpfDataplane::Read(TableId table, uint32_t first, uint32_t count, void* values) const {
  const TableInfo info = Info(table);
  HG_RETURN_IF_ERROR(CheckRange(first, count, info.capacity, info.name));
  return Annotate(ReadArray(bpf_map__fd(MapOf(table)), first, count, values), info.name);
}

TableInfo BpfDataplane::Info(TableId table) const {
  const bpf_map* map = MapOf(table);
  const uint32_t capacity = bpf_map__max_entries(map), size = bpf_map__value_size(map);
  return {bpf_map__name(map), capacity, size, static_cast<uint64_t>(capacity) * ((size + 7) / 8 * 8)};
}

std::vector<TableInfo> BpfDataplane::AllMaps() const {
  std::vector<TableInfo> all;
  const int cpus = libbpf_num_possible_cpus();
  const bpf_map* map = nullptr;
  bpf_object__for_each_map(map, loader_->skeleton().obj) {
    if (bpf_map__is_internal(map)) continue;
    const uint32_t capacity = bpf_map__max_entries(map), size = bpf_map__value_size(map);
    uint64_t bytes =
        static_cast<uint64_t>(capacity) * ((size + 7) / 8 * 8) * (IsPerCpu(map) ? std::max(cpus, 1) : 1);
    if (bpf_map__type(map) == BPF_MAP_TYPE_RINGBUF) bytes = capacity;
    all.push_back({bpf_map__name(map), capacity, size, bytes});
  }
  return all;
}

// One store: a packet sees the old root or the new, and what it remembered of flows goes with the old serial.
void BpfDataplane::Stamp(std::optional<uint32_t> root) {
  hg_active next{};
  // Not from the map, where somebody may put it back to what it was.
  const uint32_t serial = serial_.fetch_add(1, std::memory_order_relaxed) + 1;
  const std::atomic_ref<uint64_t> stamp(*reinterpret_cast<uint64_t*>(active_));
  uint64_t old = stamp.load(std::memory_order_relaxed), fresh = 0;
  do {
    std::memcpy(&next, &old, sizeof(old));
    next.root = root.value_or(next.root);
    next.serial = serial;
    std::memcpy(&fresh, &next, sizeof(fresh));
  } while (!stamp.compare_exchange_weak(old, fresh, std::memory_order_release, std::memory_order_relaxed));
}

absl::Status BpfDataplane::Activate(uint32_t root) {
  std::atomic_ref<uint32_t>(active_->abi).store(HG_ABI_VERSION, std::memory_order_relaxed);
  Stamp(root);  // the system calls that wrote the tables came before
  return absl::OkStatus();
}

std::optional<uint32_t> BpfDataplane::Active() const {
  if (active_->abi != HG_ABI_VERSION) return std::nullopt;
  const uint64_t stamp =
      std::atomic_ref<uint64_t>(*reinterpret_cast<uint64_t*>(active_)).load(std::memory_order_acquire);
  hg_active active{};
  std::memcpy(&active, &stamp, sizeof(stamp));
  // An earlier serial would bring back what packets remembered under it.
  if (active.serial != serial_.load(std::memory_order_relaxed)) return std::nullopt;
  return active.root == 0 ? std::nullopt : std::optional<uint32_t>(active.root);
}

absl::Status BpfDataplane::Quiesce() {
  const uint32_t zero = 0, inner = static_cast<uint32_t>(quiesce_inner_.get());
  if (bpf_map_update_elem(quiesce_outer_.get(), &zero, &inner, BPF_ANY) != 0) {
    return ErrnoStatus("wait for packets in flight");
  }
  return absl::OkStatus();
}

int BpfDataplane::sockets_map() const { return bpf_map__fd(loader_->skeleton().maps.hg_xsks); }
int BpfDataplane::queues_map() const { return bpf_map__fd(loader_->skeleton().maps.hg_queues); }
int BpfDataplane::worker_legs_map() const { return bpf_map__fd(loader_->skeleton().maps.hg_worker_legs); }
int BpfDataplane::leg_limiters_map() const { return bpf_map__fd(loader_->skeleton().maps.hg_leg_limiters); }
BpfDataplane::CopierFds BpfDataplane::copier() const {
  const headgate_bpf& skeleton = loader_->skeleton();
  return {.bundles = bpf_map__fd(skeleton.maps.hg_bundles),
          .bundle_maps = bpf_map__fd(skeleton.maps.hg_bundle_maps),
          .ingress = bpf_program__fd(skeleton.progs.headgate_copier),
          .egress = bpf_program__fd(skeleton.progs.headgate_bundled)};
}
int BpfDataplane::target_states_map() const { return bpf_map__fd(loader_->skeleton().maps.hg_target_state); }

absl::Status BpfDataplane::TakeOver() {
  HG_RETURN_IF_ERROR(ports_.TakeOver());
  HG_RETURN_IF_ERROR(fanouts_.Restore());
  HG_RETURN_IF_ERROR(Quiesce());
  HG_RETURN_IF_ERROR(loader_->Pin());
  egress_counting_ = AttachEgressCounters(*loader_, [this] { return Quiesce(); });
  if (!egress_counting_.ok()) Log(spdlog::level::err, "egress is not counted", {{"reason", egress_counting_}});
  return absl::OkStatus();
}

absl::StatusOr<Attachment> BpfDataplane::Attach(uint32_t port, const Device& device,
                                                std::optional<DriverMode> mode) {
  if (port == 0 || port >= HG_PORTS) return absl::OutOfRangeError(absl::StrCat("no port ", port));
  return ports_.Attach(port, device, mode);
}

absl::Status BpfDataplane::Detach(uint32_t port) {
  if (port == 0 || port >= HG_PORTS) return absl::OutOfRangeError(absl::StrCat("no port ", port));
  return ports_.Detach(port);
}

absl::StatusOr<Repairs> BpfDataplane::Sweep() {
  Repairs repairs;
  HG_RETURN_IF_ERROR(ports_.Sweep(repairs));
  HG_RETURN_IF_ERROR(fanouts_.Sweep(repairs));
  HG_RETURN_IF_ERROR(loader_->RepairPins(repairs));
  if (egress_counting_.ok()) HG_RETURN_IF_ERROR(RepairEgressCounters(*loader_, repairs));
  return repairs;
}

uint32_t BpfDataplane::CounterRows(CounterId table) const {
  if (table == CounterId::kRules) {
    return RuleCounters::RowsOf(bpf_map__max_entries(loader_->skeleton().maps.hg_rule_base));
  }
  return bpf_map__max_entries(MapOf(table));
}

RuleCounters BpfDataplane::rule_counters() const {
  const auto& maps = loader_->skeleton().maps;
  return {bpf_map__fd(maps.hg_rule_recent), bpf_map__fd(maps.hg_rule_stats), bpf_map__fd(maps.hg_rule_base)};
}

uint32_t BpfDataplane::CounterFields(CounterId table) const {
  static constexpr uint32_t kFields[kCounterTables] = {sizeof(hg_count) / sizeof(uint64_t),
                                                       sizeof(hg_rule_count) / sizeof(uint64_t),
                                                       sizeof(hg_count) / sizeof(uint64_t),
                                                       sizeof(hg_egress) / sizeof(uint64_t),
                                                       1,
                                                       sizeof(hg_count) / sizeof(uint64_t),
                                                       sizeof(hg_mroute_last) / sizeof(uint64_t),
                                                       sizeof(hg_leg_count) / sizeof(uint64_t),
                                                       sizeof(hg_leg_count) / sizeof(uint64_t),
                                                       sizeof(hg_feed) / sizeof(uint64_t)};
  return kFields[static_cast<size_t>(table)];
}

absl::StatusOr<std::vector<uint64_t>> BpfDataplane::ReadCounters(CounterId table, uint32_t first,
                                                                 uint32_t count) const {
  const uint32_t fields = CounterFields(table);
  HG_RETURN_IF_ERROR(CheckRange(first, count, CounterRows(table), "counters"));
  if (table == CounterId::kRules) return rule_counters().Read(first, count);
  const int map = bpf_map__fd(MapOf(table));
  if (IsPerCpu(MapOf(table))) return ReadPerCpuFields(map, first, count, fields);
  std::vector<uint64_t> values(static_cast<size_t>(count) * fields);
  HG_RETURN_IF_ERROR(ReadArray(map, first, count, values.data()));
  return values;
}

absl::Status BpfDataplane::ClearCounters(CounterId table, absl::Span<const uint32_t> rows) {
  for (const uint32_t row : rows) HG_RETURN_IF_ERROR(CheckRange(row, 1, CounterRows(table), "counters"));
  if (table != CounterId::kRules) {
    const int map = bpf_map__fd(MapOf(table));
    if (IsPerCpu(MapOf(table))) return ClearPerCpu(map, rows, CounterFields(table));
    const std::vector<uint64_t> zeros(rows.size() * CounterFields(table));
    return WriteArray(map, rows, zeros.data());
  }
  HG_RETURN_IF_ERROR(rule_counters().Clear(rows));
  // A bucket of zero is full.
  const std::vector<uint64_t> limiters(rows.size());
  return WriteArray(bpf_map__fd(loader_->skeleton().maps.hg_limiters), rows, limiters.data());
}

absl::StatusOr<ListenerEntries> BpfDataplane::Listeners() const {
  const int map = bpf_map__fd(loader_->skeleton().maps.hg_listeners);
  ListenerEntries entries;
  hg_listener key{};
  // One that is taken out meanwhile has the walk begin anew.
  std::set<std::string> seen;
  for (const void* before = nullptr; bpf_map_get_next_key(map, before, &key) == 0; before = &key) {
    uint32_t wanted = 0;
    if (!seen.emplace(reinterpret_cast<const char*>(&key), sizeof(key)).second) continue;
    if (bpf_map_lookup_elem(map, &key, &wanted) == 0) entries.emplace_back(key, wanted != 0);
  }
  if (errno != ENOENT) return ErrnoStatus("read hg_listeners");
  return entries;
}

absl::Status BpfDataplane::UpdateListeners(const ListenerEntries& put, absl::Span<const hg_listener> remove) {
  const int map = bpf_map__fd(loader_->skeleton().maps.hg_listeners);
  bool full = false;
  for (const auto& [listener, is_wanted] : put) {
    const uint32_t wanted = is_wanted ? 1 : 0;
    if (bpf_map_update_elem(map, &listener, &wanted, BPF_ANY) == 0) continue;
    if (errno != E2BIG) return ErrnoStatus("write hg_listeners");
    full = true;
  }
  for (const hg_listener& listener : remove) {
    if (bpf_map_delete_elem(map, &listener) != 0 && errno != ENOENT) return ErrnoStatus("clear hg_listeners");
  }
  if (!full) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat("hg_listeners: all ", HG_LISTENERS, " entries are taken"));
}

absl::Status BpfDataplane::PollSamples(absl::FunctionRef<void(const hg_sample&)> visit, int timeout_ms) {
  sample_visitor_ = &visit;
  const int result = ring_buffer__poll(samples_, timeout_ms);
  sample_visitor_ = nullptr;
  if (result < 0 && result != -EINTR) return ErrnoStatusOf(result, "read samples");
  return absl::OkStatus();
}

absl::StatusOr<TraceResult> BpfDataplane::Trace(uint32_t port, absl::Span<const uint8_t> frame) {
  if (frame.size() < 14 || frame.size() > kMaxTraceFrame) {
    return absl::InvalidArgumentError(
        absl::StrCat("a frame of ", frame.size(), " bytes: traced frames are 14 to ", kMaxTraceFrame));
  }
  const std::lock_guard lock(trace_mutex_);
  const auto& skeleton = loader_->skeleton();
  const int traces = bpf_map__fd(skeleton.maps.hg_traces);
  const uint32_t zero = 0;
  TraceResult result;
  result.record.ingress_port = port;
  if (bpf_map_update_elem(traces, &zero, &result.record, BPF_ANY) != 0) return ErrnoStatus("write hg_traces");

  hg_port bound{};
  bpf_map_lookup_elem(bpf_map__fd(skeleton.maps.hg_ports), &port, &bound);
  xdp_md context{};
  context.data_end = static_cast<uint32_t>(frame.size());
  context.ingress_ifindex = bound.ifindex != 0 ? bound.ifindex : kLoopbackIfindex;
  result.output.resize(frame.size() + kTraceSlack);
  LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = frame.data(), .data_out = result.output.data(),
              .data_size_in = static_cast<uint32_t>(frame.size()),
              .data_size_out = static_cast<uint32_t>(result.output.size()), .ctx_in = &context,
              .ctx_size_in = sizeof(context), .repeat = 1);
  if (bpf_prog_test_run_opts(bpf_program__fd(skeleton.progs.headgate_trace), &options) != 0) {
    return ErrnoStatus("run the frame as if from ifindex ", context.ingress_ifindex);
  }
  result.output.resize(options.data_size_out);
  result.xdp_action = options.retval;
  if (bpf_map_lookup_elem(traces, &zero, &result.record) != 0) return ErrnoStatus("read hg_traces");
  return result;
}

}  // namespace headgate
