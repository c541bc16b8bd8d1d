// SPDX-License-Identifier: Apache-2.0
#include "tests/harness/program.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <stdexcept>

namespace headgate::testing {
namespace {

void Check(const absl::Status& status) {
  if (!status.ok()) throw std::runtime_error(status.ToString());
}

}  // namespace

const char* ReasonName(uint32_t reason) {
  static const char* const kNames[] = {
#define HG_NAME(e, name, class, text) name,
      HG_REASONS(HG_NAME)
#undef HG_NAME
  };
  return reason < HG_REASON_COUNT ? kNames[reason] : "?";
}

std::string WhyNoBpf() {
  if (geteuid() != 0) return "not root";
  const Fd map(bpf_map_create(BPF_MAP_TYPE_ARRAY, "hg_probe", 4, 4, 1, nullptr));
  return map ? "" : std::string("bpf(BPF_MAP_CREATE): ") + std::strerror(errno);
}

Program::Program(const std::string& name, TableSizes sizes, bool flow_cache)
    : bpffs_("/run/headgate-test/" + name) {
  // What a run that was killed may have left.
  umount2(bpffs_.c_str(), MNT_DETACH);
  std::filesystem::create_directories(bpffs_);
  LoadOptions options;
  options.bpffs = bpffs_;
  options.sizes = sizes;
  options.flow_cache = flow_cache;
  auto dataplane = BpfDataplane::Open(options);
  Check(dataplane.status());
  dataplane_ = *std::move(dataplane);
  pins_ = bpffs_ + "/headgate";
  Apply(State{});
  Check(dataplane_->TakeOver());
  BindPort(1, kIngressIfindex);
  program_ = Fd(bpf_obj_get((pins_ + "/programs/headgate").c_str()));
  if (!program_) throw std::runtime_error("no pinned program");
}

Program::~Program() {
  dataplane_.reset();
  program_ = Fd();
  umount2(bpffs_.c_str(), MNT_DETACH);
  std::error_code ignored;
  std::filesystem::remove(bpffs_, ignored);
}

Fd Program::OpenMap(const std::string& name) const {
  Fd map(bpf_obj_get((pins_ + "/maps/" + name).c_str()));
  if (!map) throw std::runtime_error("no pinned map " + name);
  return map;
}

void Program::BindPort(uint32_t port, uint32_t ifindex, const std::string& mac) {
  hg_port entry{};
  entry.ifindex = ifindex;
  entry.mtu = 1500;
  const MacAddress address = *ParseMac(mac);
  std::memcpy(entry.mac, address.data(), address.size());
  const hg_ifindex slot{ifindex, port};
  const uint32_t index = ifindex % HG_IFINDEX_SLOTS;
  bpf_devmap_val target{};
  target.ifindex = ifindex;
  target.bpf_prog.fd = -1;
  if (bpf_map_update_elem(OpenMap("hg_ports").get(), &port, &entry, BPF_ANY) != 0 ||
      bpf_map_update_elem(OpenMap("hg_ifindexes").get(), &index, &slot, BPF_ANY) != 0 ||
      bpf_map_update_elem(OpenMap("hg_devmap").get(), &port, &target, BPF_ANY) != 0) {
    throw std::runtime_error("cannot bind port");
  }
}

void Program::Apply(const State& state) {
  compiler_.Compile(state);
  Check(compiler_.Flush(*dataplane_));
  Check(dataplane_->Activate(compiler_.root()));
  compiler_.Published(++epoch_);
  Check(dataplane_->Quiesce());
  compiler_.Reclaim(epoch_);
}

uint32_t Program::Verdict(const Bytes& frame, Bytes* output, int repeat, Bytes* metadata) {
  Bytes input(ingress_.metadata);
  if (ingress_.metadata != 0) input.insert(input.end(), frame.begin(), frame.end());
  const Bytes& data = ingress_.metadata != 0 ? input : frame;
  xdp_md context{}, left{};
  context.data = ingress_.metadata;
  context.data_end = static_cast<uint32_t>(data.size());
  context.ingress_ifindex = ingress_.ifindex;
  context.rx_queue_index = ingress_.queue;
  LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = data.data(),
              .data_size_in = static_cast<uint32_t>(data.size()), .ctx_in = &context, .ctx_out = &left,
              .ctx_size_in = sizeof(context), .ctx_size_out = sizeof(left), .repeat = repeat);
  if (output != nullptr) {
    output->resize(data.size() + 64);
    options.data_out = output->data();
    options.data_size_out = static_cast<uint32_t>(output->size());
  }
  if (bpf_prog_test_run_opts(program_.get(), &options) != 0) {
    throw std::runtime_error(std::string("BPF_PROG_TEST_RUN: ") + std::strerror(errno));
  }
  if (output != nullptr) {
    output->resize(options.data_size_out);
    const auto start = output->begin() + left.data;
    if (metadata != nullptr) metadata->assign(output->begin(), start);
    output->erase(output->begin(), start);
  }
  return options.retval;
}

RunResult Program::Run(const Bytes& frame, uint32_t port) {
  const auto counts = [&] {
    return *dataplane_->ReadCounters(CounterId::kPorts, port * HG_REASON_SLOTS, HG_REASON_SLOTS);
  };
  const std::vector<uint64_t> before = counts();
  RunResult result;
  result.verdict = Verdict(frame, &result.output, 1, &result.metadata);
  const std::vector<uint64_t> after = counts();
  for (uint32_t reason = 0; reason < HG_REASON_SLOTS; ++reason) {
    const uint64_t packets = after[2 * reason] - before[2 * reason];
    const uint64_t bytes = after[2 * reason + 1] - before[2 * reason + 1];
    if (packets == 0 && bytes == 0) continue;
    EXPECT_EQ(packets, 1u) << ReasonName(reason);
    EXPECT_EQ(bytes, frame.size()) << ReasonName(reason);
    EXPECT_TRUE(result.reason.empty()) << "counted as " << result.reason << " and as " << ReasonName(reason);
    result.reason = ReasonName(reason);
  }
  EXPECT_FALSE(result.reason.empty()) << "not counted";
  return result;
}

}  // namespace headgate::testing
