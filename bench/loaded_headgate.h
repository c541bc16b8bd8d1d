// SPDX-License-Identifier: Apache-2.0
//
// Headgate's compiler and data plane without an agent: a state in force on devices of a namespace.
#pragma once

#include <absl/status/statusor.h>

#include <map>
#include <memory>
#include <string>

#include "agent/base/fd.h"
#include "agent/control/compiler.h"
#include "agent/control/state.h"
#include "agent/dataplane/bpf_dataplane.h"

namespace headgate::bench {

struct HeadgateSpec {
  std::string bpffs;                   // mounted
  std::string directory = "headgate";  // in it
  std::string netns;
  std::map<uint32_t, std::string> ports;  // names of devices by port id
  bool flow_cache = true;
};

class LoadedHeadgate {
 public:
  static absl::StatusOr<std::unique_ptr<LoadedHeadgate>> Start(const HeadgateSpec& spec, const State& state);

  // Brings another state in force. Returns the seconds until packets saw it, and when the former's room is free.
  absl::StatusOr<double> Change(const State& state);

  // The program that packets run through.
  absl::StatusOr<Fd> OpenProgram() const;
  BpfDataplane& dataplane() { return *dataplane_; }

 private:
  explicit LoadedHeadgate(HeadgateSpec spec) : spec_(std::move(spec)) {}
  absl::Status Load(const State& state);

  HeadgateSpec spec_;
  Compiler compiler_;
  uint64_t epoch_ = 0;
  std::unique_ptr<BpfDataplane> dataplane_;
};

}  // namespace headgate::bench
