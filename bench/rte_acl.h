// SPDX-License-Identifier: Apache-2.0
//
// DPDK's packet classifier over the same rules and headers: the peer of the filter benchmark. Needs neither huge
// pages nor a NIC. Built in where Debian's libdpdk-dev is installed.
#pragma once

#include <absl/status/statusor.h>
#include <absl/types/span.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "agent/control/model.h"
#include "bench/bpf/header.h"

struct rte_acl_ctx;

namespace headgate::bench {

class RteAcl {
 public:
  // IPv4 rules by addresses, protocol and ports, one range each; the first has the highest priority. UNAVAILABLE
  // when there is no DPDK in this build.
  static absl::StatusOr<std::unique_ptr<RteAcl>> Build(const std::vector<Rule>& rules);
  ~RteAcl();
  RteAcl(const RteAcl&) = delete;
  RteAcl& operator=(const RteAcl&) = delete;

  double build_seconds() const { return build_seconds_; }
  // Of the machine's vector methods the widest, such as avx512x32.
  const std::string& vector_method() const { return vector_method_; }

  // Mean nanoseconds of a lookup, over all headers once, 32 at a time.
  absl::StatusOr<double> TimeScalar(absl::Span<const hgb_header> headers) const;
  absl::StatusOr<double> TimeVector(absl::Span<const hgb_header> headers) const;
  // The index of the rule that each header matches, plus one; 0: none.
  absl::StatusOr<std::vector<uint32_t>> ClassifyScalar(absl::Span<const hgb_header> headers) const;
  absl::StatusOr<std::vector<uint32_t>> ClassifyVector(absl::Span<const hgb_header> headers) const;

 private:
  RteAcl() = default;

  rte_acl_ctx* context_ = nullptr;
  double build_seconds_ = 0;
  int vector_algorithm_ = 0;  // rte_acl_classify_alg
  std::string vector_method_;
};

}  // namespace headgate::bench
