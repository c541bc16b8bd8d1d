// SPDX-License-Identifier: Apache-2.0
// What a build without DPDK has in place of rte_acl.cpp.
#include "bench/rte_acl.h"

namespace headgate::bench {
namespace {

absl::Status Missing() {
  return absl::UnavailableError("built without DPDK: install libdpdk-dev, configure again and build");
}

}  // namespace

absl::StatusOr<std::unique_ptr<RteAcl>> RteAcl::Build(const std::vector<Rule>&) { return Missing(); }
RteAcl::~RteAcl() = default;
absl::StatusOr<double> RteAcl::TimeScalar(absl::Span<const hgb_header>) const { return Missing(); }
absl::StatusOr<double> RteAcl::TimeVector(absl::Span<const hgb_header>) const { return Missing(); }
absl::StatusOr<std::vector<uint32_t>> RteAcl::ClassifyScalar(absl::Span<const hgb_header>) const {
  return Missing();
}
absl::StatusOr<std::vector<uint32_t>> RteAcl::ClassifyVector(absl::Span<const hgb_header>) const {
  return Missing();
}

}  // namespace headgate::bench
