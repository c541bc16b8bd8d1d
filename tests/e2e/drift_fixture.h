// SPDX-License-Identifier: Apache-2.0
//
// What the tests of drift share: pinned maps as any tool may write them, and a gateway whose agent must notice.
#pragma once

#include <absl/strings/str_cat.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <gtest/gtest.h>
#include <linux/bpf.h>
#include <net/if.h>

#include <algorithm>
#include <csignal>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "bpf/hg_abi.h"
#include "tests/harness/agent.h"
#include "tests/harness/cpus.h"
#include "tests/harness/wire.h"

namespace headgate::testing {

// A map by its pin, as any tool may open it.
class PinnedMap {
 public:
  PinnedMap(const Agent& agent, const std::string& name)
      : fd_(bpf_obj_get(absl::StrCat(agent.pins(), "/maps/", name).c_str())) {
    uint32_t length = sizeof(info_);
    if (!fd_ || bpf_obj_get_info_by_fd(fd_.get(), &info_, &length) != 0)
      throw std::runtime_error("no map " + name);
  }
  Bytes Read(uint32_t key) const {
    Bytes value(info_.value_size);
    if (bpf_map_lookup_elem(fd_.get(), &key, value.data()) != 0) std::fill(value.begin(), value.end(), 0);
    return value;
  }
  void Write(uint32_t key, const Bytes& value) const {
    if (bpf_map_update_elem(fd_.get(), &key, value.data(), BPF_ANY) != 0)
      throw std::runtime_error("cannot scribble");
  }
  void Delete(uint32_t key) const {
    if (bpf_map_delete_elem(fd_.get(), &key) != 0) throw std::runtime_error("cannot delete");
  }
  // The keys from `first` on whose values are not all zero.
  std::vector<uint32_t> Used(uint32_t first = 0) const {
    std::vector<uint32_t> used;
    for (uint32_t key = first; key < info_.max_entries; ++key) {
      const Bytes value = Read(key);
      if (std::any_of(value.begin(), value.end(), [](uint8_t byte) { return byte != 0; })) used.push_back(key);
    }
    return used;
  }
  // Of hg_flows: no CPU remembers any; or they do, but that no rule matches.
  void Forget() const { ZeroLast(info_.value_size); }
  void Forge() const { ZeroLast(2 * sizeof(uint32_t)); }  // the rule and the answer

 private:
  // So many bytes of each value of each CPU.
  void ZeroLast(size_t bytes) const {
    const auto cpus = static_cast<size_t>(libbpf_num_possible_cpus());
    Bytes values(cpus * info_.value_size);
    for (uint32_t key = 0; key < info_.max_entries; ++key) {
      if (bpf_map_lookup_elem(fd_.get(), &key, values.data()) != 0) throw std::runtime_error("cannot read");
      for (size_t end = info_.value_size; end <= values.size(); end += info_.value_size)
        std::fill_n(&values[end - bytes], bytes, uint8_t{0});
      Write(key, values);
    }
  }

  Fd fd_;
  bpf_map_info info_{};
};

// client c0 -- g0 gw g1 -- s1 server
class DriftTest : public ::testing::Test {
 protected:
  void SetUp() override {
    HG_REQUIRE_LAB();
    lab_ = std::make_unique<Lab>("drift", std::vector<std::string>{"client", "gw", "server"});
    lab_->Link("client", "c0", "gw", "g0");
    lab_->Link("gw", "g1", "server", "s1");
    agent_ = std::make_unique<Agent>(*lab_, "gw", Options("0.1"));
    client_ = std::make_unique<Wire>(lab_->Name("client"), "c0");
    server_ = std::make_unique<Wire>(lab_->Name("server"), "s1");
    api().ApplyYaml(kDocument);
    ASSERT_TRUE(WaitFor([&] { return Applied("in") && Applied("out"); }));
  }

  // More rules than a leaf has room for, so that there are nodes.
  static constexpr char kDocument[] = R"(
interfaces: [{name: in, device: g0}, {name: out, device: g1}]
prefix_sets: [{name: bogons, prefixes: [198.51.100.0/24, "2001:db8:bad::/48"]}]
next_hops: [{name: hop, interface: out, mac: "02:00:00:00:0c:01"}]
steer_targets: [{name: app, fallback: drop}]
multicast_routes: [{name: feed, input: {interfaces: [in], group: 239.1.1.1}, legs: [{interface: out}]}]
rules:
  - {name: other-1, priority: 51, match: {destination: 203.0.113.1, protocol: tcp}, action: {drop: {}}}
  - {name: other-2, priority: 52, match: {destination: 203.0.113.2, protocol: tcp}, action: {drop: {}}}
  - {name: other-3, priority: 53, match: {destination: 203.0.113.3, protocol: tcp}, action: {drop: {}}}
  - {name: other-4, priority: 54, match: {destination: 203.0.113.4, protocol: tcp}, action: {drop: {}}}
  - {name: other-5, priority: 55, match: {destination: 203.0.113.5, protocol: tcp}, action: {drop: {}}}
  - {name: other-6, priority: 56, match: {destination: 203.0.113.6, protocol: tcp}, action: {drop: {}}}
  - {name: other-7, priority: 57, match: {destination: 203.0.113.7, protocol: tcp}, action: {drop: {}}}
  - {name: other-8, priority: 58, match: {destination: 203.0.113.8, protocol: tcp}, action: {drop: {}}}
  - {name: other-9, priority: 59, match: {destination: 203.0.113.9, protocol: tcp}, action: {drop: {}}}
  - {name: evil, priority: 40, match: {source_set: bogons}, action: {drop: {}}}
  - {name: hop, priority: 30, match: {protocol: udp, destination_ports: [7000]}, action: {next_hop: {name: hop}}}
  - {name: app, priority: 20, match: {protocol: udp, destination_ports: [8000]}, action: {steer: {target: app}}}
  - {name: wire, priority: 10, match: {interface: in}, action: {redirect: {interface: out}}}
)";
  static AgentOptions Options(const std::string& drift_interval) {
    // Small tables are read back quickly.
    return {.arguments = {"--drift-interval", drift_interval, "--max-rules", "1024", "--max-prefixes", "1024"}};
  }

  Client& api() { return agent_->client(); }
  bool Applied(const std::string& interface) {
    return api().GetObject(pb::KIND_INTERFACE, interface).status().state() == pb::ObjectStatus::STATE_APPLIED;
  }
  uint32_t Port(const std::string& interface) { return api().GetObject(pb::KIND_INTERFACE, interface).id(); }

  // A flow for each of the rules that are not like others, and what becomes of it.
  struct Flow {
    const char* source;
    uint16_t port;
    uint32_t verdict;
  };
  static constexpr Flow kFlows[] = {{"198.51.100.9", 53, XDP_DROP},
                                    {"192.0.2.1", 8000, XDP_DROP},
                                    {"192.0.2.1", 7000, XDP_REDIRECT},
                                    {"192.0.2.1", 53, XDP_REDIRECT}};
  static Bytes FrameOf(const Flow& flow, uint8_t mark) {
    return Ethernet{} / Ipv4{.source = flow.source} / Udp{.destination_port = flow.port} / Payload(40, mark);
  }

  // Every rule decides as the document says.
  void ExpectInForce() {
    const std::map<std::string, uint64_t> before = api().Reasons("in");
    uint8_t mark = 0;
    for (const Flow& flow : kFlows) client_->Send(FrameOf(flow, ++mark));
    const auto routed = server_->Receive(CarriesPayload(Bytes(40, 3)));
    ASSERT_TRUE(routed.has_value());
    EXPECT_EQ(Bytes(routed->begin(), routed->begin() + 6), (Bytes{2, 0, 0, 0, 0x0c, 1}));
    EXPECT_TRUE(server_->Receive(CarriesPayload(Bytes(40, 4))).has_value());
    std::map<std::string, uint64_t> after = api().Reasons("in");
    for (const auto& [reason, packets] : before) after[reason] -= packets;
    std::erase_if(after, [](const auto& entry) { return entry.second == 0; });
    EXPECT_EQ(
        after,
        (std::map<std::string, uint64_t>{
            {"drop_rule", 1}, {"drop_steer_fallback", 1}, {"forward_next_hop", 1}, {"forward_redirect", 1}}));
  }

  // Every flow through the program on every CPU, each of which remembers what it found: the verdicts.
  std::vector<uint32_t> RunFlows(const Fd& program) {
    const InNetns inside(lab_->Name("gw"));  // where the ifindex means the gateway's device
    std::vector<uint32_t> verdicts;
    for (const int cpu : AllowedCpus()) {
      const OnCpu here(cpu);
      for (const Flow& flow : kFlows) {
        const Bytes frame = FrameOf(flow, 0);
        xdp_md context{};
        context.data_end = static_cast<uint32_t>(frame.size());
        context.ingress_ifindex = if_nametoindex("g0");
        LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = frame.data(),
                    .data_size_in = static_cast<uint32_t>(frame.size()), .ctx_in = &context,
                    .ctx_size_in = sizeof(context), .repeat = 1);
        if (bpf_prog_test_run_opts(program.get(), &options) != 0) throw std::runtime_error("cannot run a flow");
        verdicts.push_back(options.retval);
      }
    }
    return verdicts;
  }
  static std::vector<uint32_t> RightVerdicts() {
    std::vector<uint32_t> verdicts;
    for (size_t cpu = 0; cpu < AllowedCpus().size(); ++cpu) {
      for (const Flow& flow : kFlows) verdicts.push_back(flow.verdict);
    }
    return verdicts;
  }
  Fd OpenProgram() { return Fd(bpf_obj_get((agent_->pins() + "/programs/headgate").c_str())); }

  // While `act` runs, the agent does nothing.
  void WhilePaused(const std::function<void()>& act) {
    const auto stopped = [&] {
      const std::string tasks = absl::StrCat("/proc/", agent_->pid(), "/task");
      for (const auto& task : std::filesystem::directory_iterator(tasks)) {
        std::ifstream status(task.path().string() + "/status");
        const std::string text((std::istreambuf_iterator<char>(status)), std::istreambuf_iterator<char>());
        if (text.find("State:\tT") == std::string::npos) return false;
      }
      return true;
    };
    agent_->Signal(SIGSTOP);
    ASSERT_TRUE(WaitFor(stopped));
    act();
    agent_->Signal(SIGCONT);
  }

  uint64_t Metric(const std::string& name) {
    const std::string line = absl::StrCat("\nheadgate_", name, " ");
    const std::string text = lab_->In("gw", "curl -s http://127.0.0.1:9780/metrics");
    const size_t at = text.find(line);
    if (at == std::string::npos) throw std::runtime_error("no such metric: " + text.substr(0, 2000));
    return std::stoull(text.substr(at + line.size()));
  }
  uint64_t Repaired() { return Metric("drift_repaired_total"); }
  // Returns when two checks have ended, of which the second began after the call: one of them, at the interval
  // that is configured, has seen all that was there before.
  void AwaitCheck() {
    const uint64_t checks = Metric("drift_checks_total");
    ASSERT_TRUE(WaitFor([&] { return Metric("drift_checks_total") >= checks + 2; })) << "drift is not looked for";
  }

  // What `damage` does is undone by the first check that begins after it, reported and counted; and what packets
  // remember of the time between is nothing.
  std::string ExpectRepaired(const std::function<void()>& damage, const std::function<bool()>& undone) {
    const uint64_t before = api().Status().drift_repaired();
    EXPECT_EQ(Repaired(), before);
    const auto watcher = api().Watch({pb::EVENT_TYPE_DRIFT_REPAIRED});
    const Fd program = OpenProgram();
    WhilePaused([&] {
      PinnedMap(*agent_, "hg_flows").Forget();
      damage();
      met_damage_ = RunFlows(program);
    });
    AwaitCheck();
    EXPECT_TRUE(undone()) << "not undone";
    EXPECT_EQ(RunFlows(program), RightVerdicts());
    const uint64_t after = api().Status().drift_repaired();
    EXPECT_GT(after, before);
    EXPECT_EQ(Repaired(), after);
    EXPECT_TRUE(api().Status().has_last_drift_check());
    const std::optional<pb::Event> event = watcher->Next([](const pb::Event&) { return true; });
    EXPECT_TRUE(event.has_value()) << "no event";
    ExpectInForce();
    return event ? event->message() : "";
  }
  // The value without what each repair changes: hg_active's serial.
  static Bytes Settled(const std::string& name, Bytes value) {
    if (name == "hg_active") std::memset(value.data() + offsetof(hg_active, serial), 0, sizeof(hg_active::serial));
    return value;
  }
  // A byte in use of a map.
  void ExpectScribbleRepaired(const std::string& name, uint32_t key) {
    SCOPED_TRACE(absl::StrCat(name, "[", key, "]"));
    const PinnedMap map(*agent_, name);
    const Bytes right = map.Read(key);
    Bytes wrong = right;
    *std::find_if(wrong.begin(), wrong.end(), [](uint8_t byte) { return byte != 0; }) ^= 0xff;
    ExpectRepaired([&] { map.Write(key, wrong); },
                   [&] { return Settled(name, map.Read(key)) == Settled(name, right); });
  }
  // All of a map, so that every flow's packets are decided wrongly and are remembered so.
  void ExpectEmptiedRepaired(const std::string& name) {
    SCOPED_TRACE(name);
    const PinnedMap map(*agent_, name);
    std::map<uint32_t, Bytes> right;
    for (const uint32_t key : map.Used()) right[key] = map.Read(key);
    ASSERT_FALSE(right.empty());
    const Bytes zeros(right.begin()->second.size());
    ExpectRepaired(
        [&] {
          for (const auto& [key, value] : right) map.Write(key, zeros);
        },
        [&] {
          return std::all_of(right.begin(), right.end(),
                             [&](const auto& entry) { return map.Read(entry.first) == entry.second; });
        });
    const std::vector<uint32_t> all_pass(met_damage_.size(), XDP_PASS);
    EXPECT_EQ(met_damage_, all_pass) << "it was no damage to these flows";
  }

  std::vector<uint32_t> met_damage_;  // the flows' verdicts before the last repair
  std::unique_ptr<Lab> lab_;
  std::unique_ptr<Agent> agent_;
  std::unique_ptr<Wire> client_, server_;
};

}  // namespace headgate::testing
