// SPDX-License-Identifier: Apache-2.0
//
// Loads the BPF object beside whatever an earlier process left pinned: adopts pinned maps that are still of the
// same shape, makes others anew, and replaces the pins only when the new program takes over.
//
// Below the directory given (bpftool and other tools find things there by name):
//   maps/<map name>    links/port-<id>    links/<tracepoint>    programs/<name>
#pragma once

#include <absl/status/statusor.h>

#include <cstdint>
#include <memory>
#include <string>

#include "agent/base/fd.h"
#include "agent/dataplane/dataplane.h"

struct headgate_bpf;  // the skeleton
struct bpf_map;

namespace headgate {

struct TableSizes {
  uint32_t max_entries = 131072;    // match entries in force
  uint32_t max_prefixes = 1000000;  // prefixes in force
  uint32_t max_sources = 65536;     // per-source buckets
};

struct LoadOptions {
  std::string bpffs = "/sys/fs/bpf";  // mount point; mounted here if nothing is
  std::string directory = "headgate";
  TableSizes sizes;
  bool flow_cache = true;  // what classification found is remembered by flow (ADR 9)
};

// Takes the programs off all devices and removes everything pinned.
absl::Status RemoveFrom(const LoadOptions& options);

class Loader {
 public:
  static absl::StatusOr<std::unique_ptr<Loader>> Load(const LoadOptions& options);
  ~Loader();
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  headgate_bpf& skeleton() { return *skeleton_; }
  const headgate_bpf& skeleton() const { return *skeleton_; }
  // Pins what this process made in place of what was pinned before.
  absl::Status Pin();
  // Pins again what is no more.
  absl::Status RepairPins(Repairs& repairs) const;
  std::string LinkPath(const std::string& name) const { return root_ + "/links/" + name; }

 private:
  explicit Loader(const LoadOptions& options);
  absl::Status Prepare();
  Fd PinnedLike(const bpf_map* map) const;
  absl::Status ReuseMaps();
  absl::Status ReuseRuleCounters();
  void SetSizes();
  absl::StatusOr<uint32_t> NextIncarnation() const;
  absl::Status CarryRuleCounters();
  void RemoveOtherPins() const;
  std::string MapPath(const bpf_map* map) const;
  // Calls visit(fd, path) for every map and program.
  template <typename Visit>
  absl::Status ForEachPin(Visit&& visit) const;

  LoadOptions options_;
  std::string root_;
  Fd lock_;  // of the directory of the pins
  headgate_bpf* skeleton_ = nullptr;
};

}  // namespace headgate
