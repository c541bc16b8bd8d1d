// SPDX-License-Identifier: Apache-2.0
//
// Others write to the kernel's tables and take programs off: it is noticed within the drift interval, put right,
// counted and reported; and at the start, too.
#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "tests/e2e/drift_fixture.h"

namespace headgate::testing {
namespace {

TEST_F(DriftTest, ScribbledTablesAreRepaired) {
  for (int round = 0; round < 2; ++round) {
    SCOPED_TRACE(round == 0 ? "before the restart" : "after the restart");
    for (const char* name : {"hg_active", "hg_nodes", "hg_slots", "hg_rules", "hg_prefixes", "hg_actions",
                             "hg_next_hops", "hg_targets", "hg_mroutes", "hg_legs", "hg_fanouts"}) {
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

// What packets found in tables that were wrong is not what they are decided by afterwards.
TEST_F(DriftTest, WrongAnswersAreForgotten) {
  for (int round = 0; round < 2; ++round) {
    SCOPED_TRACE(round == 0 ? "before the restart" : "after the restart");
    ExpectEmptiedRepaired("hg_rules");
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

// What happens while no agent is there is found at the start.
TEST_F(DriftTest, FoundAtTheStart) {
  for (const char* name : {"hg_rules", "hg_actions", "hg_nodes", "hg_slots", "hg_prefixes", "hg_next_hops",
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
