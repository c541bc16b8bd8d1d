// SPDX-License-Identifier: Apache-2.0
//
// The seam between the agent and the kernel: arrays of cells that one word puts in force, ports that devices are
// bound to, counters, and a way to run one packet. Everything above it is tested on FakeDataplane; one contract
// suite holds both to the same behaviour.
//
// What is numbered beyond its table's end, or is no port, is OUT_OF_RANGE; then nothing is changed.
//
// Threads: one thread calls the functions that change something. Those marked (any thread) may be called at the
// same time.
#pragma once

#include <absl/functional/function_ref.h>
#include <absl/status/statusor.h>
#include <absl/types/span.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "agent/dataplane/device.h"
#include "bpf/hg_abi.h"

namespace headgate {

// The arrays that a generation is made of. Values are the structs of hg_abi.h.
enum class TableId : uint8_t {
  kRoots,
  kNodes,
  kSlots,
  kRules,
  kMatches,
  kPrefixes,
  kActions,
  kNextHops,
  kTargets,
  kMroutes,
  kLegs,
  kFanouts
};
inline constexpr size_t kTables = HG_TABLES;

// The counter arrays; each row is the struct's u64 fields, summed over CPUs.
enum class CounterId : uint8_t {
  kPorts,
  kRules,
  kNamed,
  kEgress,
  kSamplesLost,
  kMroutes,
  kMrouteLast,
  kLegs,
  kWorkerLegs,
  kFeeds  // fields that are no counters among them
};
inline constexpr size_t kCounterTables = 10;

enum class DriverMode : uint8_t { kNative, kGeneric };

struct Attachment {
  DriverMode mode = DriverMode::kNative;
  std::vector<std::string> warnings;  // for the operator
  uint32_t repaired = 0;              // entries of the port's tables that were not as this process left them
  absl::Status refused;               // why `mode` is not the one asked for: the former, which was put back
};

// What was found otherwise than this process left it and was put right: values by map, and "pins".
using Repairs = std::map<std::string, uint64_t>;

struct TableInfo {
  std::string name;   // the map's
  uint32_t capacity;  // values
  uint32_t value_size;
  uint64_t bytes;  // of kernel memory, as far as it can be known
};

// Whether multicast is wanted, by port, group and source (hg_listener says how).
using ListenerEntries = std::vector<std::pair<hg_listener, bool>>;

struct TraceResult {
  uint32_t xdp_action = 0;
  hg_trace record{};
  std::vector<uint8_t> output;
};

class Dataplane {
 public:
  virtual ~Dataplane() = default;

  // Writes whole values at the given indexes; `values` has them one after the other.
  virtual absl::Status Write(TableId table, absl::Span<const uint32_t> indexes, const void* values) = 0;
  // (any thread)
  virtual absl::Status Read(TableId table, uint32_t first, uint32_t count, void* values) const = 0;
  virtual TableInfo Info(TableId table) const = 0;

  // Puts a root record in force: packets that begin from now on use it, and nothing that earlier ones remembered
  // of their flows. The same one again does the latter.
  virtual absl::Status Activate(uint32_t root) = 0;
  // The root in force; nothing when the tables are new or of another ABI, or others put it there.
  virtual std::optional<uint32_t> Active() const = 0;
  // Returns when every packet that began before the call has ended. (any thread; takes milliseconds)
  virtual absl::Status Quiesce() = 0;

  // Puts the program this process loaded in place of the one in force, on every bound port and without a gap.
  // To be called once, when its tables hold a generation; Attach only after it.
  virtual absl::Status TakeOver() = 0;
  // Why what devices refuse after a redirect is not counted since then; OK when it is. (any thread)
  virtual absl::Status EgressCounting() const = 0;

  // Binds a port to a device and attaches the program to it, in the given mode or with nothing given in native
  // mode where possible. Idempotent: to be called again when the device has changed, or to see that all is
  // still in place. A device that another port has goes over to this one, which gives its own for it.
  virtual absl::StatusOr<Attachment> Attach(uint32_t port, const Device& device,
                                            std::optional<DriverMode> mode) = 0;
  // Idempotent; the device may be gone.
  virtual absl::Status Detach(uint32_t port) = 0;
  // Ports that are bound, with the ifindex of each; those of an earlier process too.
  virtual std::vector<std::pair<uint32_t, uint32_t>> Bound() const = 0;

  // Clears what the tables of ports hold of ports that are not bound, and puts right who counts egress and what is
  // pinned. Not before TakeOver.
  virtual absl::StatusOr<Repairs> Sweep() = 0;

  virtual uint32_t CounterRows(CounterId table) const = 0;
  virtual uint32_t CounterFields(CounterId table) const = 0;
  // Rows `first` to `first + count - 1`, fields one after the other. (any thread)
  virtual absl::StatusOr<std::vector<uint64_t>> ReadCounters(CounterId table, uint32_t first,
                                                             uint32_t count) const = 0;
  virtual absl::Status ClearCounters(CounterId table, absl::Span<const uint32_t> rows) = 0;

  // Who listens at egress ports: adopted from an earlier process, and no part of a generation. (any thread)
  virtual absl::StatusOr<ListenerEntries> Listeners() const = 0;
  // Adds and changes entries, then takes others out, which need not be there. RESOURCE_EXHAUSTED: there was no
  // room for all, the rest is done. (any thread)
  virtual absl::Status UpdateListeners(const ListenerEntries& put, absl::Span<const hg_listener> remove) = 0;

  // Hands sampled packets to `visit` as they come, until one has come or the time is over. (one other thread)
  virtual absl::Status PollSamples(absl::FunctionRef<void(const hg_sample&)> visit, int timeout_ms) = 0;

  // Runs a frame as if it came in through a port; leaves no mark. (any thread)
  virtual absl::StatusOr<TraceResult> Trace(uint32_t port, absl::Span<const uint8_t> frame) = 0;
};

}  // namespace headgate
