// SPDX-License-Identifier: Apache-2.0
#include "bench/gateway.h"

#include <absl/strings/str_cat.h>
#include <linux/bpf.h>

#include <utility>
#include <vector>

#include "agent/base/fd.h"
#include "agent/base/status.h"
#include "agent/control/state.h"
#include "bench/bare_redirect.h"
#include "bench/headers.h"
#include "bench/loaded_headgate.h"
#include "bench/netns.h"
#include "bench/program_run.h"
#include "tests/harness/classbench.h"

namespace headgate::bench {
namespace {

constexpr char kRuleSet[] = "acl1_1k";
constexpr uint32_t kInPort = 1, kOutPort = 2;
constexpr int kProgramRuns = 1'000'000;

absl::StatusOr<double> TimeProgram(int program, const GatewayPath& path, absl::Span<const uint8_t> frame) {
  double nanoseconds = 0;
  HG_RETURN_IF_ERROR(InNamespace(path.netns, [&]() -> absl::Status {
    HG_ASSIGN_OR_RETURN(const Device in, FindDevice(path.in));
    HG_ASSIGN_OR_RETURN(const ProgramRun run, RunProgram(program, in.ifindex, frame, kProgramRuns));
    if (run.verdict != XDP_REDIRECT) {
      return absl::InternalError(
          absl::StrCat("the gateway's program answers ", run.verdict, ", not XDP_REDIRECT"));
    }
    nanoseconds = run.nanoseconds;
    return absl::OkStatus();
  }));
  return nanoseconds;
}

class BareGateway : public Gateway {
 public:
  BareGateway(std::unique_ptr<BareRedirect> redirect, GatewayPath path)
      : redirect_(std::move(redirect)), path_(std::move(path)) {}
  absl::StatusOr<uint64_t> CheckAccount(uint64_t sent, uint64_t received) override { return sent - received; }
  absl::StatusOr<double> ProgramNanoseconds(absl::Span<const uint8_t> frame) override {
    return TimeProgram(redirect_->program_fd(), path_, frame);
  }

 private:
  std::unique_ptr<BareRedirect> redirect_;
  GatewayPath path_;
};

absl::StatusOr<std::vector<Rule>> LoadRules(absl::Span<const uint8_t> frame) {
  HG_ASSIGN_OR_RETURN(std::vector<Rule> rules, LoadRuleSet(kRuleSet));
  // IPv4 and UDP, as this benchmark sends.
  const auto word = [&](size_t offset) { return static_cast<uint32_t>(frame[offset] << 8 | frame[offset + 1]); };
  testing::Header header{.protocol = frame[23]};
  header.source[0] = word(26) << 16 | word(28);
  header.destination[0] = word(30) << 16 | word(32);
  header.source_port = static_cast<uint16_t>(word(34));
  header.destination_port = static_cast<uint16_t>(word(36));
  if (const Rule* rule = testing::LinearSearch(rules, header); rule != nullptr) {
    return absl::InternalError(absl::StrCat("the frames to be sent match rule ", rule->name, " of ", kRuleSet));
  }
  return rules;
}

State MakeState(const GatewayPath& path, std::vector<Rule> rules) {
  State state;
  state.generation = 1;
  state.interfaces.Set({.name = "in", .device = path.in, .id = kInPort});
  state.interfaces.Set({.name = "out", .device = path.out, .id = kOutPort});
  state.counters.Set({.name = "redirected", .id = 1, .references = 1});
  Rule last{.name = "redirect", .priority = 1, .id = static_cast<uint32_t>(rules.size()) + 1};
  last.match.interface = "in";
  last.action = std::make_shared<const Action>(Action{
      .verdict =
          Redirect{.interface = "out", .source_mac = path.source_mac, .destination_mac = path.destination_mac},
      .counter = "redirected"});
  for (Rule& rule : rules) {
    ++rule.priority;
    state.rules.Set(std::move(rule));
  }
  state.rules.Set(std::move(last));
  return state;
}

class HeadgateGateway : public Gateway {
 public:
  explicit HeadgateGateway(GatewayPath path) : path_(std::move(path)) {}

  absl::Status Start(absl::Span<const uint8_t> frame) {
    HG_ASSIGN_OR_RETURN(std::vector<Rule> rules, LoadRules(frame));
    HG_RETURN_IF_ERROR(bpffs_.Mount());
    HG_ASSIGN_OR_RETURN(headgate_, LoadedHeadgate::Start({.bpffs = PrivateBpffs::kPath,
                                                          .netns = path_.netns,
                                                          .ports = {{kInPort, path_.in}, {kOutPort, path_.out}}},
                                                         MakeState(path_, std::move(rules))));
    return absl::OkStatus();
  }

  absl::StatusOr<uint64_t> CheckAccount(uint64_t sent, uint64_t received) override {
    HG_ASSIGN_OR_RETURN(const auto reasons, headgate_->dataplane().ReadCounters(
                                                CounterId::kPorts, kInPort * HG_REASON_SLOTS, HG_REASON_SLOTS));
    HG_ASSIGN_OR_RETURN(const auto egress, headgate_->dataplane().ReadCounters(CounterId::kEgress, kOutPort, 1));
    const uint32_t fields = headgate_->dataplane().CounterFields(CounterId::kPorts);
    uint64_t came = 0;
    for (uint32_t reason = 0; reason < HG_REASON_SLOTS; ++reason) came += reasons[reason * fields];
    const uint64_t forwarded = reasons[HG_REASON_FORWARD_REDIRECT * fields];
    const uint64_t left = egress[0], dropped = egress[1] + egress[2];
    if (came == sent && left == received && forwarded == left + dropped) return came - left;
    return absl::DataLossError(absl::StrCat("the account does not add up: ", sent, " frames sent, ", came,
                                            " came in, ", forwarded, " forwarded, of which ", left, " left and ",
                                            dropped, " were dropped at the egress, ", received, " received"));
  }
  absl::StatusOr<double> ProgramNanoseconds(absl::Span<const uint8_t> frame) override {
    HG_ASSIGN_OR_RETURN(const Fd program, headgate_->OpenProgram());
    return TimeProgram(program.get(), path_, frame);
  }

 private:
  GatewayPath path_;
  PrivateBpffs bpffs_;  // pins go after what they name is let go
  std::unique_ptr<LoadedHeadgate> headgate_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Gateway>> StartBareRedirect(const GatewayPath& path) {
  HG_ASSIGN_OR_RETURN(std::unique_ptr<BareRedirect> redirect, BareRedirect::Open(path.netns, path.in, path.out));
  return std::make_unique<BareGateway>(std::move(redirect), path);
}

absl::StatusOr<std::unique_ptr<Gateway>> StartHeadgate(const GatewayPath& path, absl::Span<const uint8_t> frame) {
  auto gateway = std::make_unique<HeadgateGateway>(path);
  HG_RETURN_IF_ERROR(gateway->Start(frame));
  return gateway;
}

}  // namespace headgate::bench
