// SPDX-License-Identifier: Apache-2.0
//
// What hgbench is tested on: gen -- in|gateway|out -- sink, and a gateway with known faults.
#pragma once

#include <bpf/bpf.h>

#include <memory>
#include <stdexcept>

#include "agent/base/fd.h"
#include "agent/base/status.h"
#include "bench/lab.h"
#include "bench/netns.h"
#include "impair_bpf.skel.h"

namespace headgate::bench {

template <typename T>
T Value(absl::StatusOr<T> value) {
  if (!value.ok()) throw std::runtime_error(value.status().ToString());
  return *std::move(value);
}

inline std::unique_ptr<Lab> MakeHgbenchLab() {
  std::unique_ptr<Lab> lab = Value(Lab::Create({"hgbt-gen", "hgbt-gw", "hgbt-sink"}));
  for (const absl::Status& status : {lab->Connect({"hgbt-gen", "hgbt-gen"}, {"hgbt-gw", "hgbt-in"}),
                                     lab->Connect({"hgbt-gw", "hgbt-out"}, {"hgbt-sink", "hgbt-sink"})}) {
    if (!status.ok()) throw std::runtime_error(status.ToString());
  }
  return lab;
}

class Impairment {
 public:
  Impairment() : skeleton_(impair_bpf__open_and_load()) {}
  ~Impairment() { impair_bpf__destroy(skeleton_); }

  bpf_program* faulty() const { return skeleton_->progs.impair; }
  bpf_program* slow() const { return skeleton_->progs.slow; }

  absl::Status Attach(const bpf_program* program) {
    if (skeleton_ == nullptr) return ErrnoStatus("load the impairment");
    return InNamespace("hgbt-gw", [&]() -> absl::Status {
      HG_ASSIGN_OR_RETURN(const Device in, FindDevice("hgbt-in"));
      HG_ASSIGN_OR_RETURN(const Device out, FindDevice("hgbt-out"));
      for (const uint32_t slot : {0, 1}) {
        if (bpf_map_update_elem(bpf_map__fd(skeleton_->maps.targets), &slot, &out.ifindex, BPF_ANY) != 0) {
          return ErrnoStatus("set target ", slot);
        }
      }
      out_ = Fd(bpf_link_create(bpf_program__fd(skeleton_->progs.pass), static_cast<int>(out.ifindex), BPF_XDP,
                                nullptr));
      in_ = Fd(bpf_link_create(bpf_program__fd(program), static_cast<int>(in.ifindex), BPF_XDP, nullptr));
      return in_ && out_ ? absl::OkStatus() : ErrnoStatus("attach the impairment");
    });
  }

 private:
  impair_bpf* skeleton_;
  Fd in_, out_;
};

}  // namespace headgate::bench
