// SPDX-License-Identifier: Apache-2.0
#include "tests/harness/traffic.h"

#include <absl/strings/str_cat.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/if_link.h>
#include <net/if.h>

#include <algorithm>
#include <cstring>
#include <numeric>
#include <ostream>

#include "agent/api/text.h"
#include "agent/base/address.h"
#include "tally_bpf.skel.h"

namespace headgate::testing {
namespace {

constexpr uint32_t kFrameBytes = 64;

size_t Cpus() {
  const int cpus = libbpf_num_possible_cpus();
  if (cpus < 1) throw std::runtime_error("cannot count CPUs");
  return static_cast<size_t>(cpus);
}

}  // namespace

void Ok(const absl::Status& status) {
  if (!status.ok()) throw std::runtime_error(status.ToString());
}

bench::FrameSpec FlowFrames(uint32_t flows, uint16_t stream) {
  return {.destination_mac = {2, 0, 0, 0, 0, 1},
          .source_mac = {2, 0, 0, 0, 0, 2},
          .source = Value(ParseAddress("192.0.2.1")),
          .destination = Value(ParseAddress("198.51.100.1")),
          .size = kFrameBytes,
          .flows = flows,
          .stream = stream};
}

std::unique_ptr<bench::Sender> OpenSender(const Lab& lab, const bench::FrameSpec& frame, int cpu,
                                          const std::string& device) {
  bench::SendOptions options{.device = device, .netns = lab.Name("client"), .frame = frame};
  options.scheduling.cpu = cpu;
  return Value(bench::Sender::Open(options));
}

std::unique_ptr<bench::Receiver> OpenReceiver(const Lab& lab, const std::string& ns, const std::string& device) {
  return Value(bench::Receiver::Open({.device = device, .netns = lab.Name(ns)}));
}

Tally::Tally(const Lab& lab, const std::string& ns, const std::string& device, uint32_t delay, bool payloads)
    : skeleton_(tally_bpf__open()) {
  if (skeleton_ == nullptr) throw std::runtime_error("cannot open the tally");
  skeleton_->rodata->delay = delay;
  skeleton_->rodata->payloads = payloads ? 1 : 0;
  if (tally_bpf__load(skeleton_) != 0) throw std::runtime_error("cannot load the tally");
  const InNetns inside(lab.Name(ns));
  const auto ifindex = static_cast<int>(if_nametoindex(device.c_str()));
  LIBBPF_OPTS(bpf_link_create_opts, options, .flags = XDP_FLAGS_DRV_MODE);
  link_ = Fd(bpf_link_create(bpf_program__fd(skeleton_->progs.hgt_tally), ifindex, BPF_XDP, &options));
  if (!link_) throw std::runtime_error("cannot tally at " + device + ": " + std::strerror(errno));
}

Tally::~Tally() { tally_bpf__destroy(skeleton_); }

uint64_t Tally::Frames() const {
  const std::vector<uint64_t> all = Total(HGT_TALLY_ALL);
  return std::accumulate(all.begin(), all.end(), uint64_t{0});
}

uint64_t Tally::FramesWithMetadata() const {
  const std::vector<uint64_t> all = Total(HGT_TALLY_METADATA);
  return std::accumulate(all.begin(), all.end(), uint64_t{0});
}

std::vector<uint64_t> Tally::Total(uint32_t key) const {
  std::vector<uint64_t> cpus(Cpus());
  if (bpf_map_lookup_elem(bpf_map__fd(skeleton_->maps.hgt_totals), &key, cpus.data()) != 0) {
    throw std::runtime_error("cannot read the tally");
  }
  return cpus;
}

void Tally::ForEach(const std::function<void(const hgt_mark&, uint64_t)>& visit) const {
  const std::vector<uint64_t> lost = Total(HGT_TALLY_LOST);
  if (std::accumulate(lost.begin(), lost.end(), uint64_t{0}) != 0) throw std::runtime_error("the tally is full");
  const int map = bpf_map__fd(skeleton_->maps.hgt_rows);
  std::vector<uint64_t> cpus(Cpus());
  hgt_mark mark{};
  for (const hgt_mark* last = nullptr; bpf_map_get_next_key(map, last, &mark) == 0; last = &mark) {
    if (bpf_map_lookup_elem(map, &mark, cpus.data()) != 0) throw std::runtime_error("cannot read the tally");
    visit(mark, std::accumulate(cpus.begin(), cpus.end(), uint64_t{0}));
  }
}

uint64_t PayloadHash(const Bytes& payload) {
  uint64_t hash = 0;
  for (size_t at = 0; at < payload.size(); at += sizeof(uint64_t)) {
    uint64_t word = 0;
    std::memcpy(&word, payload.data() + at, std::min(sizeof(word), payload.size() - at));
    hash = hgt_mix(hash, word);
  }
  return hash;
}

uint64_t Account::forwarded() const {
  uint64_t sum = 0;
  for (const auto& [reason, packets] : reasons) {
    if (reason.starts_with("forward_")) sum += packets;
  }
  return sum;
}

void PrintTo(const Account& account, std::ostream* out) {
  *out << "received " << account.received;
  for (const auto& [reason, packets] : account.reasons) *out << ", " << reason << ' ' << packets;
  *out << "; transmitted " << account.transmitted << ", dropped " << account.dropped << ", refused "
       << account.refused;
}

Account ReadAccount(Client& client, const std::vector<std::string>& in, const std::vector<std::string>& out) {
  const auto named = [](const std::vector<std::string>& names, const std::string& name) {
    return std::find(names.begin(), names.end(), name) != names.end();
  };
  Account account;
  const pb::StatsResponse stats = client.Stats();
  for (const auto& interface : stats.interfaces()) {
    if (named(in, interface.name())) {
      account.received += interface.received_packets();
      for (const auto& reason : interface.reasons()) account.reasons[reason.reason()] += reason.packets();
    }
    if (named(out, interface.name())) {
      account.transmitted += interface.transmitted_packets();
      account.dropped += interface.transmit_dropped_packets();
      account.refused += interface.transmit_refused_packets();
    }
  }
  return account;
}

std::string Bystanders(size_t count) {
  // None of these match what FlowFrames says.
  const std::vector<std::string> matches = {
      "destination: 10.$1.$0.0/24, protocol: tcp",
      "source: 10.$1.$0.0/24, protocol: udp, destination_ports: [\"20000\"]",
      "protocol: udp, destination_ports: [\"$2-$2\"]",
      "destination: \"2001:db8:$0::/48\", protocol: udp",
      "source: 192.0.2.0/24, destination: 203.0.113.$0, protocol: udp",
      "protocol: tcp, tcp_flags: \"syn,!ack\", destination_ports: [\"$2\"]",
      "destination: 198.51.100.1, protocol: udp, source_ports: [\"$2\"]",
      "protocol: icmp, icmp_type: $0",
      "vlan: $2",
      "source: 192.0.2.0/24, dscp: 46, packet_length: \"$2-1500\"",
  };
  std::string yaml;
  for (size_t i = 0; i < count; ++i) {
    std::string match = matches[i % matches.size()];
    const std::string parts[] = {absl::StrCat(i / matches.size() % 250), absl::StrCat(i % 250),
                                 absl::StrCat(100 + i / matches.size() % 1300)};
    for (size_t part = 0; part < 3; ++part) {
      const std::string placeholder = absl::StrCat("$", part);
      for (size_t at; (at = match.find(placeholder)) != std::string::npos;) match.replace(at, 2, parts[part]);
    }
    absl::StrAppend(&yaml, "  - {name: bystander-", i, ", priority: ", 1000 + i, ", match: {", match,
                    "}, action: {", i % 3 == 0 ? "pass" : "drop", ": {}}}\n");
  }
  return yaml;
}

pb::ApplyRequest WholeConfig(const std::string& yaml) {
  pb::ApplyRequest request;
  Ok(ParseYaml(yaml, "test", *request.mutable_config()));
  request.set_wait_applied(true);
  return request;
}

std::string Holdings(Client& client) {
  std::string text = absl::StrCat("generation ", client.Status().desired_generation(), "\n");
  for (pb::Object& object : client.GetAll()) {
    object.clear_status();
    object.clear_interface_state();
    absl::StrAppend(&text, object.ShortDebugString(), "\n");
  }
  return text;
}

}  // namespace headgate::testing
