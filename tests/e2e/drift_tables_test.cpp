// SPDX-License-Identifier: Apache-2.0
//
// Every pinned map, by bpftool: what the agent wrote there and somebody else changed is put right, and told of by
// an event that names the table and by the metric. Maps that the agent does not keep are listed with the reason.
#include <absl/strings/match.h>
#include <absl/strings/str_split.h>

#include <filesystem>
#include <set>

#include "tests/e2e/drift_fixture.h"

namespace headgate::testing {
namespace {

constexpr uint32_t kForeignPort = 77;

const std::map<std::string, std::string> kNotKept = {
    {"hg_port_stats", "counters: the programs write them"},
    {"hg_rule_recent", "counters: the programs write them"},
    {"hg_rule_stats", "counters: the programs write them"},
    {"hg_counters", "counters: the programs write them"},
    {"hg_egress_stats", "counters: the programs write them"},
    {"hg_samples_lost", "counters: the programs write them"},
    {"hg_rule_base", "counters: what to add to the others; nobody knows better"},
    {"hg_limiters", "state of rate limits: the programs write it with every packet"},
    {"hg_sources", "state of rate limits: the programs write it with every packet"},
    {"hg_flows",
     "remembered decisions: the programs write them, and every check voids them, which is tested below"},
    {"hg_samples", "a ring of events"},
    {"hg_traces", "scratch of one traced packet"},
    {"hg_xsks", "sockets: whoever opens one puts it there"},
    {"hg_queues", "heartbeats: workers write them all the time"},
    {"hg_target_state", "whether targets have handlers, which the slow path writes"},
    {"hg_mroute_stats", "counters: the programs write them"},
    {"hg_mroute_last", "a counter: the programs write it"},
    {"hg_leg_stats", "counters: the programs write them"},
    {"hg_feeds", "what feeds had: the programs write it with every packet"},
    {"hg_contents", "what feeds had: the programs write it with every packet"},
    {"hg_content_keys", "a key of what feeds had: drawn once"},
    {"hg_payload", "scratch of one packet"},
    {"hg_worker_legs", "counters: workers write them"},
    {"hg_bundles", "what workers of this agent have the kernel copy: whoever writes there is root"},
    {"hg_bundle_maps", "what workers of this agent have the kernel copy: whoever writes there is root"},
    {"hg_bundle_turns", "scratch of the packet that is being copied"},
    {"hg_leg_dropped", "counters: the programs write them"},
    {"hg_listeners", "what hosts ask for: the listeners' feed reads it back and puts it right"},
    {"hg_leg_limiters", "state of rate limits: the programs write it with every packet"},
};

// Bytes as bpftool takes them.
std::string Words(const void* data, size_t size) {
  std::string words = "hex";
  for (size_t i = 0; i < size; ++i)
    absl::StrAppend(&words, " ", absl::Hex(static_cast<const uint8_t*>(data)[i], absl::kZeroPad2));
  return words;
}
template <typename Value>
std::string Words(const Value& value) {
  return Words(&value, sizeof(value));
}

class DriftTablesTest : public DriftTest {
 protected:
  std::string Pin(const std::string& map) { return absl::StrCat(agent_->pins(), "/maps/", map); }
  void Update(const std::string& map, uint32_t key, const std::string& value) {
    // In the namespace: where numbers mean its devices.
    lab_->In("gw", absl::StrCat("bpftool map update pinned ", Pin(map), " key ", Words(key), " value ", value));
  }
  std::string Dump(const std::string& map) {
    return lab_->In("gw", absl::StrCat("bpftool -j map dump pinned ", Pin(map)));
  }
  // A byte of the value is another; `offset`: which one, else the first that is not zero.
  void ExpectByteRepaired(const std::string& name, uint32_t key, std::optional<size_t> offset = std::nullopt) {
    SCOPED_TRACE(absl::StrCat(name, "[", key, "]"));
    const PinnedMap map(*agent_, name);
    const Bytes right = map.Read(key);
    Bytes wrong = right;
    const auto used = std::find_if(wrong.begin(), wrong.end(), [](uint8_t byte) { return byte != 0; });
    ASSERT_NE(used, wrong.end()) << "not in use";
    wrong[offset.value_or(static_cast<size_t>(used - wrong.begin()))] ^= 0x5a;
    ExpectNamed(
        name, [&] { Update(name, key, Words(wrong.data(), wrong.size())); },
        [&] { return Settled(name, map.Read(key)) == Settled(name, right); });
  }
  void ExpectNamed(const std::string& name, const std::function<void()>& damage,
                   const std::function<bool()>& undone) {
    EXPECT_TRUE(absl::StrContains(ExpectRepaired(damage, undone), name)) << name;
  }
  // The same of a table as a whole, whatever it is made of.
  void ExpectDumpRepaired(const std::string& name, const std::string& told, const std::function<void()>& damage) {
    const std::string right = Dump(name);
    ExpectNamed(told, damage, [&] { return Dump(name) == right; });
  }

  // The maps that are kept, each with what is done to it.
  const std::map<std::string, std::function<void()>> kKept = {
      {"hg_active",
       [this] {
         for (const size_t field :
              {offsetof(hg_active, root), offsetof(hg_active, serial), offsetof(hg_active, abi)})
           ExpectByteRepaired("hg_active", 0, field);
       }},
      {"hg_roots", [this] { ExpectByteRepaired("hg_roots", ActiveRoot()); }},
      {"hg_nodes", [this] { ExpectByteRepaired("hg_nodes", LastUsed("hg_nodes")); }},
      {"hg_slots", [this] { ExpectByteRepaired("hg_slots", LastUsed("hg_slots")); }},
      {"hg_matches", [this] { ExpectByteRepaired("hg_matches", LastUsed("hg_matches")); }},
      {"hg_rules", [this] { ExpectByteRepaired("hg_rules", LastUsed("hg_rules")); }},
      {"hg_prefixes", [this] { ExpectByteRepaired("hg_prefixes", LastUsed("hg_prefixes")); }},
      {"hg_actions", [this] { ExpectByteRepaired("hg_actions", LastUsed("hg_actions")); }},
      {"hg_next_hops", [this] { ExpectByteRepaired("hg_next_hops", LastUsed("hg_next_hops")); }},
      {"hg_mroutes", [this] { ExpectByteRepaired("hg_mroutes", LastUsed("hg_mroutes")); }},
      {"hg_legs", [this] { ExpectByteRepaired("hg_legs", LastUsed("hg_legs")); }},
      {"hg_fanouts", [this] { ExpectByteRepaired("hg_fanouts", LastUsed("hg_fanouts")); }},
      {"hg_fanout_state", [this] { ExpectByteRepaired("hg_fanout_state", LastUsed("hg_fanout_state")); }},
      {"hg_fanout_maps",
       [this] {
         const uint32_t fanout = LastUsed("hg_fanouts");
         const auto run = [this](const std::string& command) {
           return lab_->In("gw", "bpftool -j map " + command);
         };
         const auto devices = [this, fanout, run] {
           return run(absl::StrCat("lookup pinned ", Pin("hg_fanout_maps"), " key ", Words(fanout), " || true"));
         };
         const std::string right = devices();
         const auto expect = [&](const std::string& damage) {
           SCOPED_TRACE(damage);
           ExpectNamed(
               "hg_fanout_maps", [&] { run(damage); }, [&] { return devices() == right; });
         };
         const std::string slot = absl::StrCat(" pinned ", Pin("hg_fanout_maps"), " key ", Words(fanout));
         expect("delete" + slot);
         const std::string other = agent_->pins() + "/other";
         run(absl::StrCat("create ", other, " type devmap_hash key 4 value 8 entries 1 name other"));
         expect(absl::StrCat("update", slot, " value pinned ", other));
         std::filesystem::remove(other);

         // What the map of devices itself holds: an entry that is not there, and one that runs no program.
         const Bytes id = PinnedMap(*agent_, "hg_fanout_maps").Read(fanout);
         const std::string map = absl::StrCat("id ", *reinterpret_cast<const uint32_t*>(id.data()));
         const std::string whole = run("dump " + map);
         const std::string key = absl::StrCat(" ", map, " key ", Words(Port("out")));
         const bpf_devmap_val bare{.ifindex = Ifindex("g1"), .bpf_prog = {}};
         for (const std::string& damage : {"delete" + key, absl::StrCat("update", key, " value ", Words(bare))}) {
           SCOPED_TRACE(damage);
           ExpectNamed(
               "hg_fanout_maps", [&] { run(damage); }, [&] { return run("dump " + map) == whole; });
         }
       }},
      {"hg_port_ips",
       [this] {
         const hg_port_address entry{.ip4 = 4711, .ip6 = {}};
         const uint32_t out = Port("out");  // now: the agent stands still while damage is done
         ExpectDumpRepaired("hg_port_ips", "attachments", [&] { Update("hg_port_ips", out, Words(entry)); });
         ExpectDumpRepaired("hg_port_ips", "hg_port_ips",
                            [&] { Update("hg_port_ips", kForeignPort, Words(entry)); });
       }},
      {"hg_targets", [this] { ExpectByteRepaired("hg_targets", LastUsed("hg_targets")); }},
      {"hg_ports",
       [this] {
         const auto damage = [this](uint32_t port) {
           const hg_port entry{.ifindex = 4711, .mtu = 9000, .mac = {2, 0, 0, 0, 0, 9}, .flags = 0, .pad = 0};
           Update("hg_ports", port, Words(entry));
         };
         const uint32_t out = Port("out");
         ExpectDumpRepaired("hg_ports", "attachments", [&] { damage(out); });
         ExpectDumpRepaired("hg_ports", "hg_ports", [&] { damage(kForeignPort); });
       }},
      {"hg_ifindexes",
       [this] {
         const uint32_t slot = LastUsed("hg_ifindexes");
         ExpectDumpRepaired("hg_ifindexes", "attachments",
                            [&] { Update("hg_ifindexes", slot, Words(hg_ifindex{})); });
         ExpectDumpRepaired("hg_ifindexes", "hg_ifindexes", [&] {
           Update("hg_ifindexes", (slot + 100) % HG_IFINDEX_SLOTS, Words(hg_ifindex{4711, kForeignPort}));
         });
       }},
      {"hg_devmap",
       [this] {
         const uint32_t out = Port("out"), in = Port("in");
         const auto device = [this](uint32_t port) {
           // The device, and no program.
           return Words(PinnedMap(*agent_, "hg_devmap").Read(port).data(), 2 * sizeof(uint32_t));
         };
         ExpectDumpRepaired("hg_devmap", "attachments", [&] {
           lab_->In("gw", absl::StrCat("bpftool map delete pinned ", Pin("hg_devmap"), " key ", Words(out)));
         });
         ExpectDumpRepaired("hg_devmap", "attachments", [&] { Update("hg_devmap", out, device(in)); });
         ExpectDumpRepaired("hg_devmap", "hg_devmap", [&] { Update("hg_devmap", kForeignPort, device(in)); });
       }},
      {"hg_egress_own",
       [this] {
         ExpectDumpRepaired("hg_egress_own", "hg_egress_own",
                            [&] { Update("hg_egress_own", 0, Words(hg_egress_owner{})); });
       }},
  };

  uint32_t ActiveRoot() {
    return *reinterpret_cast<const uint32_t*>(PinnedMap(*agent_, "hg_active").Read(0).data());
  }
  uint32_t Ifindex(const char* device) {
    const InNetns inside(lab_->Name("gw"));
    return if_nametoindex(device);
  }
  uint32_t LastUsed(const std::string& map) { return PinnedMap(*agent_, map).Used().back(); }
};

TEST_F(DriftTablesTest, EveryMapIsKeptOrSaidNotToBe) {
  std::set<std::string> pinned, known;
  for (const auto& entry : std::filesystem::directory_iterator(agent_->pins() + "/maps"))
    pinned.insert(entry.path().filename());
  for (const auto& [name, damage] : kKept) known.insert(name);
  for (const auto& [name, reason] : kNotKept) {
    EXPECT_TRUE(known.insert(name).second) << name << " is in both lists";
  }
  EXPECT_EQ(pinned, known) << "a map is to be among those whose drift is tested below, or to say why it has none";
}

TEST_F(DriftTablesTest, EveryKeptMapIsRepaired) {
  for (int round = 0; round < 2 && !HasFailure(); ++round) {
    SCOPED_TRACE(round == 0 ? "before the restart" : "after the restart");
    for (const auto& [name, damage] : kKept) {
      SCOPED_TRACE(name);
      damage();
    }
    agent_->Restart();
  }
}

// What flows are remembered by cannot be compared with anything. So no answer outlives a check, whoever gave it.
TEST_F(DriftTablesTest, ForgedAnswersAreVoid) {
  const std::vector<uint32_t> right = RightVerdicts();
  for (int round = 0; round < 2; ++round) {
    SCOPED_TRACE(round == 0 ? "before the restart" : "after the restart");
    const Fd program = OpenProgram();
    const PinnedMap flows(*agent_, "hg_flows");  // each program has its own
    WhilePaused([&] {
      RunFlows(program);
      flows.Forge();
      EXPECT_EQ(RunFlows(program), std::vector<uint32_t>(right.size(), XDP_PASS)) << "what is forged decides";
    });
    AwaitCheck();
    EXPECT_EQ(RunFlows(program), right);
    EXPECT_EQ(Repaired(), 0U) << "nothing was found";
    ExpectInForce();
    agent_->Restart();
  }
}

// Without their pins, tables and counters would be lost with the agent.
TEST_F(DriftTablesTest, PinsThatAreRemovedComeBack) {
  for (const char* pin : {"maps/hg_rules", "maps/hg_rule_stats", "programs/headgate", "links/xdp_devmap_xmit"}) {
    SCOPED_TRACE(pin);
    const std::string path = absl::StrCat(agent_->pins(), "/", pin);
    ExpectNamed(
        "pins", [&] { std::filesystem::remove(path); }, [&] { return std::filesystem::exists(path); });
  }
  // Egress is counted again, and once.
  const uint64_t before = api().Interface("out").transmitted_packets();
  ExpectInForce();
  EXPECT_TRUE(WaitFor([&] { return api().Interface("out").transmitted_packets() == before + 2; }));
}

}  // namespace
}  // namespace headgate::testing
