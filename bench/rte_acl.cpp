// SPDX-License-Identifier: Apache-2.0
#include "bench/rte_acl.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_split.h>
#include <rte_acl.h>
#include <rte_eal.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <thread>

#include "agent/base/status.h"

namespace headgate::bench {
namespace {

enum Field : uint8_t { kProtocol, kSource, kDestination, kSourcePort, kDestinationPort, kFields };
constexpr char kEnvironment[] =
    "hgbench -l 0 --no-huge -m 4096 --no-pci --no-shconf --no-telemetry --log-level=error "
    "--force-max-simd-bitwidth=512";
constexpr size_t kLookups = 32;  // at a time, as its documentation's examples do

RTE_ACL_RULE_DEF(AclRule, kFields);

// There is a function of that name too.
using Algorithm = enum rte_acl_classify_alg;

// The first field is a byte; the others go four bytes at a time, which input_index numbers.
constexpr std::array<rte_acl_field_def, kFields> kDefinitions = {{
    {RTE_ACL_FIELD_TYPE_BITMASK, 1, kProtocol, 0, offsetof(hgb_header, protocol)},
    {RTE_ACL_FIELD_TYPE_MASK, 4, kSource, 1, offsetof(hgb_header, source)},
    {RTE_ACL_FIELD_TYPE_MASK, 4, kDestination, 2, offsetof(hgb_header, destination)},
    {RTE_ACL_FIELD_TYPE_RANGE, 2, kSourcePort, 3, offsetof(hgb_header, source_port)},
    {RTE_ACL_FIELD_TYPE_RANGE, 2, kDestinationPort, 3, offsetof(hgb_header, destination_port)},
}};

// Once a process. In a thread of its own, for it binds the thread that calls it to a CPU.
absl::Status StartDpdk() {
  static const absl::Status started = [] {
    int result = 0;
    std::thread([&result] {
      std::vector<std::string> words = absl::StrSplit(kEnvironment, ' ');
      std::vector<char*> argv;
      argv.reserve(words.size());
      for (std::string& word : words) argv.push_back(word.data());
      result = rte_eal_init(static_cast<int>(argv.size()), argv.data());
    }).join();
    if (result < 0) return absl::InternalError("DPDK's environment does not start");
    return absl::OkStatus();
  }();
  return started;
}

void SetPrefix(rte_acl_field& field, const std::optional<Prefix>& prefix) {
  field.value.u32 = prefix ? prefix->address.words[0] : 0;
  field.mask_range.u32 = prefix ? prefix->length : 0;
}

void SetPorts(rte_acl_field& field, const PortRanges& ranges) {
  field.value.u16 = ranges.empty() ? 0 : ranges[0].first;
  field.mask_range.u16 = ranges.empty() ? 0xffff : ranges[0].last;
}

AclRule ToAclRule(const Match& match, size_t index, size_t count) {
  AclRule rule{};
  rule.data.category_mask = 1;
  rule.data.priority = static_cast<int32_t>(count - index);
  rule.data.userdata = static_cast<uint32_t>(index + 1);
  rule.field[kProtocol].value.u8 = match.protocol.value_or(0);
  rule.field[kProtocol].mask_range.u8 = match.protocol ? 0xff : 0;
  SetPrefix(rule.field[kSource], match.source);
  SetPrefix(rule.field[kDestination], match.destination);
  SetPorts(rule.field[kSourcePort], match.source_ports);
  SetPorts(rule.field[kDestinationPort], match.destination_ports);
  return rule;
}

// The widest that this machine and this build of DPDK have.
std::pair<Algorithm, std::string> ChooseVector(rte_acl_ctx* context) {
  static const std::pair<Algorithm, std::string> kMethods[] = {
      {RTE_ACL_CLASSIFY_AVX512X32, "avx512x32"}, {RTE_ACL_CLASSIFY_AVX512X16, "avx512x16"},
      {RTE_ACL_CLASSIFY_AVX2, "avx2"},           {RTE_ACL_CLASSIFY_SSE, "sse"},
      {RTE_ACL_CLASSIFY_NEON, "neon"},           {RTE_ACL_CLASSIFY_ALTIVEC, "altivec"},
  };
  for (const auto& method : kMethods) {
    if (rte_acl_set_ctx_classify(context, method.first) == 0) return method;
  }
  return {RTE_ACL_CLASSIFY_SCALAR, "scalar"};
}

// Calls `take` with the results of each 32.
template <typename Take>
absl::Status ClassifyAll(const rte_acl_ctx* context, Algorithm algorithm, absl::Span<const hgb_header> headers,
                         Take take) {
  std::array<const uint8_t*, kLookups> data;
  std::array<uint32_t, kLookups> results;
  for (size_t first = 0; first < headers.size(); first += kLookups) {
    const size_t count = std::min(kLookups, headers.size() - first);
    for (size_t i = 0; i < count; ++i) data[i] = reinterpret_cast<const uint8_t*>(&headers[first + i]);
    if (rte_acl_classify_alg(context, data.data(), results.data(), static_cast<uint32_t>(count), 1, algorithm) !=
        0) {
      return absl::InternalError("rte_acl_classify_alg refuses the lookup");
    }
    take(results.data(), count);
  }
  return absl::OkStatus();
}

absl::StatusOr<double> Time(const rte_acl_ctx* context, Algorithm algorithm,
                            absl::Span<const hgb_header> headers) {
  uint64_t matched = 0;
  const auto start = std::chrono::steady_clock::now();
  HG_RETURN_IF_ERROR(ClassifyAll(context, algorithm, headers, [&](const uint32_t* results, size_t count) {
    for (size_t i = 0; i < count; ++i) matched += results[i] != 0 ? 1 : 0;
  }));
  const std::chrono::duration<double, std::nano> time = std::chrono::steady_clock::now() - start;
  if (matched == 0) return absl::InternalError("rte_acl matches none of the headers");
  return time.count() / static_cast<double>(headers.size());
}

absl::StatusOr<std::vector<uint32_t>> Find(const rte_acl_ctx* context, Algorithm algorithm,
                                           absl::Span<const hgb_header> headers) {
  std::vector<uint32_t> found;
  found.reserve(headers.size());
  HG_RETURN_IF_ERROR(ClassifyAll(context, algorithm, headers, [&](const uint32_t* results, size_t count) {
    found.insert(found.end(), results, results + count);
  }));
  return found;
}

}  // namespace

absl::StatusOr<std::unique_ptr<RteAcl>> RteAcl::Build(const std::vector<Rule>& rules) {
  HG_RETURN_IF_ERROR(StartDpdk());
  std::unique_ptr<RteAcl> acl(new RteAcl);
  const rte_acl_param parameters{.name = "hgbench",
                                 .socket_id = SOCKET_ID_ANY,
                                 .rule_size = RTE_ACL_RULE_SZ(kFields),
                                 .max_rule_num = static_cast<uint32_t>(rules.size())};
  const auto start = std::chrono::steady_clock::now();
  acl->context_ = rte_acl_create(&parameters);
  if (acl->context_ == nullptr) return absl::ResourceExhaustedError("rte_acl_create has no memory for the rules");
  for (size_t i = 0; i < rules.size(); ++i) {
    const AclRule rule = ToAclRule(rules[i].match, i, rules.size());
    if (rte_acl_add_rules(acl->context_, reinterpret_cast<const rte_acl_rule*>(&rule), 1) != 0) {
      return absl::InvalidArgumentError(absl::StrCat("rte_acl refuses rule ", rules[i].name));
    }
  }
  rte_acl_config config{};
  config.num_categories = 1;
  config.num_fields = kFields;
  std::copy(kDefinitions.begin(), kDefinitions.end(), config.defs);
  if (const int error = rte_acl_build(acl->context_, &config); error != 0) {
    return ErrnoStatusOf(error, "build the rte_acl table of ", rules.size(), " rules");
  }
  acl->build_seconds_ = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  const auto [algorithm, name] = ChooseVector(acl->context_);
  acl->vector_algorithm_ = algorithm;
  acl->vector_method_ = name;
  return acl;
}

RteAcl::~RteAcl() { rte_acl_free(context_); }

absl::StatusOr<double> RteAcl::TimeScalar(absl::Span<const hgb_header> headers) const {
  return Time(context_, RTE_ACL_CLASSIFY_SCALAR, headers);
}

absl::StatusOr<double> RteAcl::TimeVector(absl::Span<const hgb_header> headers) const {
  return Time(context_, static_cast<Algorithm>(vector_algorithm_), headers);
}

absl::StatusOr<std::vector<uint32_t>> RteAcl::ClassifyScalar(absl::Span<const hgb_header> headers) const {
  return Find(context_, RTE_ACL_CLASSIFY_SCALAR, headers);
}

absl::StatusOr<std::vector<uint32_t>> RteAcl::ClassifyVector(absl::Span<const hgb_header> headers) const {
  return Find(context_, static_cast<Algorithm>(vector_algorithm_), headers);
}

}  // namespace headgate::bench
