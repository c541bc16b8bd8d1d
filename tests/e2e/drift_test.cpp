// SPDX-License-Identifier: Apache-2.0
//
// Others write to the kernel's tables and take programs off: it is noticed within the drift interval, put right,
// counted and reported; and at the start, too.
#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <bpf/bpf.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <filesystem>

#include "bpf/hg_abi.h"
#include "tests/harness/agent.h"
#include "tests/harness/wire.h"

namespace headgate::testing {
namespace {

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

 private:
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

  static constexpr char kDocument[] = R"(
interfaces: [{name: in, device: g0}, {name: out, device: g1}]
prefix_sets: [{name: bogons, prefixes: [198.51.100.0/24, "2001:db8:bad::/48"]}]
next_hops: [{name: hop, interface: out, mac: "02:00:00:00:0c:01"}]
steer_targets: [{name: app, fallback: drop}]
rules:
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

  // Every rule decides as the document says.
  void ExpectInForce() {
    const std::map<std::string, uint64_t> before = api().Reasons("in");
    const auto send = [&](const std::string& source, uint16_t port, uint8_t mark) {
      client_->Send(Ethernet{} / Ipv4{.source = source} / Udp{.destination_port = port} / Payload(40, mark));
    };
    send("198.51.100.9", 53, 1);
    send("192.0.2.1", 8000, 2);
    send("192.0.2.1", 7000, 3);
    send("192.0.2.1", 53, 4);
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

  // What `damage` does is noticed, reported and counted, and `undone` afterwards.
  void ExpectRepaired(const std::function<void()>& damage, const std::function<bool()>& undone) {
    const uint64_t before = api().Status().drift_repaired();
    const auto watcher = api().Watch({pb::EVENT_TYPE_DRIFT_REPAIRED});
    damage();
    EXPECT_TRUE(watcher->Next([](const pb::Event&) { return true; }).has_value()) << "no event";
    EXPECT_TRUE(WaitFor(undone)) << "not undone";
    EXPECT_GT(api().Status().drift_repaired(), before);
    EXPECT_TRUE(api().Status().has_last_drift_check());
    ExpectInForce();
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

  std::unique_ptr<Lab> lab_;
  std::unique_ptr<Agent> agent_;
  std::unique_ptr<Wire> client_, server_;
};

TEST_F(DriftTest, ScribbledTablesAreRepaired) {
  for (int round = 0; round < 2; ++round) {
    SCOPED_TRACE(round == 0 ? "before the restart" : "after the restart");
    for (const char* name : {"hg_active", "hg_nodes", "hg_items", "hg_rules", "hg_prefixes", "hg_actions",
                             "hg_next_hops", "hg_targets"}) {
      const std::vector<uint32_t> used = PinnedMap(*agent_, name).Used();
      ASSERT_FALSE(used.empty()) << name;
      ExpectScribbleRepaired(name, used.back());
    }
    const uint32_t root = *reinterpret_cast<const uint32_t*>(PinnedMap(*agent_, "hg_active").Read(0).data());
    ExpectScribbleRepaired("hg_roots", root);
    for (const char* interface : {"in", "out"}) ExpectScribbleRepaired("hg_ports", Port(interface));
    for (const uint32_t slot : PinnedMap(*agent_, "hg_ifindexes").Used())
      ExpectScribbleRepaired("hg_ifindexes", slot);
    agent_->Restart();
  }
}

TEST_F(DriftTest, MissingAndForeignEntriesAreRepaired) {
  const PinnedMap devices(*agent_, "hg_devmap"), numbers(*agent_, "hg_ifindexes"), active(*agent_, "hg_active");
  for (int round = 0; round < 2; ++round) {
    SCOPED_TRACE(round == 0 ? "before the restart" : "after the restart");
    const uint32_t in = Port("in"), out = Port("out");
    const Bytes right = devices.Read(out);
    ExpectRepaired([&] { devices.Delete(out); }, [&] { return devices.Read(out) == right; });
    ExpectRepaired(
        [&] {
          const InNetns inside(lab_->Name("gw"));  // where the number means that device
          devices.Write(out, devices.Read(in));
        },
        [&] { return devices.Read(out) == right; });
    const std::vector<uint32_t> used = numbers.Used();
    const Bytes entry = numbers.Read(used.front());
    const uint32_t slot = (used.front() + 100) % 4096;
    ASSERT_EQ(std::count(used.begin(), used.end(), slot), 0);
    ExpectRepaired([&] { numbers.Write(slot, entry); }, [&] { return numbers.Used() == used; });
    ExpectRepaired([&] { numbers.Write(used.front(), Bytes(entry.size())); },
                   [&] { return numbers.Read(used.front()) == entry; });
    const Bytes root = active.Read(0);
    ExpectRepaired([&] { active.Write(0, Bytes(root.size())); },
                   [&] { return Settled("hg_active", active.Read(0)) == Settled("hg_active", root); });
    agent_->Restart();
  }
}

TEST_F(DriftTest, ToolsThatTakeTheProgramOff) {
  const auto has_program = [&] { return absl::StrContains(lab_->Ip("gw", "link show g0"), "xdp"); };
  for (int round = 0; round < 2; ++round) {
    SCOPED_TRACE(round == 0 ? "before the restart" : "after the restart");
    const std::string pin = absl::StrCat(agent_->pins(), "/links/port-", Port("in"));
    // The kernel does not let it.
    EXPECT_NE(TryShell(absl::StrCat("ip -n ", lab_->Name("gw"), " link set g0 xdp off")), 0);
    EXPECT_TRUE(has_program());
    ExpectRepaired([&] { Shell("bpftool link detach pinned " + pin); }, has_program);
    // Who takes the pin off would take the program off with the agent's end.
    ExpectRepaired([&] { std::filesystem::remove(pin); }, [&] { return std::filesystem::exists(pin); });
    agent_->Kill();
    EXPECT_TRUE(has_program());
    agent_->Start();
    ASSERT_TRUE(WaitFor([&] { return Applied("in") && Applied("out"); }));
    ExpectInForce();
  }
}

TEST_F(DriftTest, ByBpftool) {
  const uint32_t out = Port("out");
  const PinnedMap ports(*agent_, "hg_ports");
  const Bytes right = ports.Read(out);
  ExpectRepaired(
      [&] {
        Shell(absl::StrCat("bpftool map update pinned ", agent_->pins(), "/maps/hg_ports key ", out,
                           " 0 0 0 value 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16"));
      },
      [&] { return ports.Read(out) == right; });
  const std::string metrics = lab_->In("gw", "curl -s http://127.0.0.1:9780/metrics");
  EXPECT_TRUE(absl::StrContains(
      metrics, absl::StrCat("\nheadgate_drift_repaired_total ", api().Status().drift_repaired(), "\n")))
      << metrics.substr(0, 2000);
}

// What happens while no agent is there is found at the start.
TEST_F(DriftTest, FoundAtTheStart) {
  for (const char* name : {"hg_rules", "hg_actions", "hg_nodes", "hg_items", "hg_prefixes", "hg_next_hops",
                           "hg_targets", "hg_active"}) {
    SCOPED_TRACE(name);
    const PinnedMap map(*agent_, name);
    agent_->Kill();
    const uint32_t key = map.Used().back();
    Bytes wrong = map.Read(key);
    *std::find_if(wrong.begin(), wrong.end(), [](uint8_t byte) { return byte != 0; }) ^= 0xff;
    map.Write(key, wrong);
    agent_->Start();
    ASSERT_TRUE(WaitFor([&] { return Applied("in") && Applied("out"); }));
    ExpectInForce();
  }
  agent_->Kill();
  const PinnedMap devices(*agent_, "hg_devmap");
  devices.Delete(devices.Used().front());
  Shell(absl::StrCat("bpftool link detach pinned ", agent_->pins(), "/links/port-1"));
  agent_->Start();
  ASSERT_TRUE(WaitFor([&] { return Applied("in") && Applied("out"); }));
  ExpectInForce();
}

// Changes of the agent's own, however many and whenever, are no drift.
TEST_F(DriftTest, OwnChangesAreNoDrift) {
  agent_->Kill();
  agent_->Start(Options("0.05"));
  const auto watcher = api().Watch({pb::EVENT_TYPE_DRIFT_REPAIRED});
  const auto first = api().Status().last_drift_check();
  const auto begin = std::chrono::steady_clock::now();
  for (int i = 0; std::chrono::steady_clock::now() - begin < std::chrono::seconds(3); ++i) {
    api().PatchYaml(absl::StrCat("upsert: {rules: [{name: r", i % 50, ", priority: ", 100 + i % 50,
                                 ", match: {protocol: udp, destination_ports: [\"", 1000 + i % 5000,
                                 "\"]}, action: {drop: {}}}]}\nprefix_set_changes: [{name: bogons, ",
                                 i % 2 == 0 ? "add" : "remove", ": [203.0.113.0/24]}]"));
  }
  EXPECT_TRUE(
      WaitFor([&] { return api().Status().last_drift_check().SerializeAsString() != first.SerializeAsString(); }));
  EXPECT_EQ(api().Status().drift_repaired(), 0u);
  EXPECT_FALSE(watcher->Next([](const pb::Event&) { return true; }, std::chrono::milliseconds(0)).has_value());
  ExpectInForce();
}

}  // namespace
}  // namespace headgate::testing
