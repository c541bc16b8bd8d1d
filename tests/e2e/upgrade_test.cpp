// SPDX-License-Identifier: Apache-2.0
//
// The agent is replaced by one of another version under traffic at full rate, and that by the old one again: no
// packet, rule, id or count is lost, and the other version's program runs.
#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <bpf/bpf.h>

#include "bpf/hg_abi.h"
#include "tests/e2e/thousand_rules.h"

namespace headgate::testing {
namespace {

constexpr uint32_t kOtherAbi = 1000000;  // as in CMakeLists.txt

template <typename Info>
Info InfoOf(const Fd& fd) {
  Info info{};
  uint32_t length = sizeof(info);
  if (bpf_obj_get_info_by_fd(fd.get(), &info, &length) != 0) throw std::runtime_error("not a BPF object");
  return info;
}

std::string TagOf(const Fd& program) {
  const auto info = InfoOf<bpf_prog_info>(program);
  std::string tag;
  for (const uint8_t byte : info.tag) absl::StrAppendFormat(&tag, "%02x", byte);
  return tag;
}

class UpgradeTest : public ThousandRulesTest {
 protected:
  UpgradeTest() : ThousandRulesTest("upgrade") {}

  // Of the program that a pinned link runs; for one on a device, that it is the one pinned as "headgate".
  std::string TagOfLink(const std::string& name) {
    const Fd link(bpf_obj_get((agent().pins() + "/links/" + name).c_str()));
    return TagOf(Fd(bpf_prog_get_fd_by_id(InfoOf<bpf_link_info>(link).prog_id)));
  }
  std::string AttachedTag() {
    std::string pinned = TagOf(Fd(bpf_obj_get((agent().pins() + "/programs/headgate").c_str())));
    for (const char* interface : {"in", "out"}) {
      EXPECT_EQ(TagOfLink(absl::StrCat("port-", api().GetObject(pb::KIND_INTERFACE, interface).id())), pinned);
    }
    return pinned;
  }
  uint32_t MapId(const std::string& name) {
    return InfoOf<bpf_map_info>(Fd(bpf_obj_get((agent().pins() + "/maps/" + name).c_str()))).id;
  }
  uint32_t AbiInForce() {
    const Fd map(bpf_obj_get((agent().pins() + "/maps/hg_active").c_str()));
    const uint32_t zero = 0;
    hg_active active{};
    EXPECT_EQ(bpf_map_lookup_elem(map.get(), &zero, &active), 0);
    return active.abi;
  }

  // Kills what runs and starts that binary; empty: the one under test.
  void ReplaceBy(const std::string& binary) {
    SCOPED_TRACE(binary);
    agent().Kill();
    AwaitTraffic();  // nobody is there
    agent().Start({.binary = binary});
    ExpectNothingChanged();
    ExpectCountersContinue();
    AwaitTraffic();
  }
};

TEST_F(UpgradeTest, ChangedProgramTakesOverAndGivesBack) {
  const std::string tag = AttachedTag(), egress_tag = TagOfLink("xdp_devmap_xmit");
  StartTraffic();
  for (int i = 0; i < 3; ++i) {
    SCOPED_TRACE(i);
    ReplaceBy(HG_CHANGED_AGENT);
    EXPECT_NE(AttachedTag(), tag);
    EXPECT_NE(TagOfLink("xdp_devmap_xmit"), egress_tag);
    ReplaceBy("");
    EXPECT_EQ(AttachedTag(), tag);
    EXPECT_EQ(TagOfLink("xdp_devmap_xmit"), egress_tag);
  }
  ExpectNothingLost();
}

// Tables of another ABI are not touched; those of the new one are built beside them. Counters stay.
TEST_F(UpgradeTest, OtherAbiTakesOverAndGivesBack) {
  EXPECT_EQ(AbiInForce(), HG_ABI_VERSION);
  const uint32_t counters = MapId("hg_rule_stats");
  uint32_t tables = MapId("hg_nodes");
  // A map that only some other version had goes with that.
  const std::string stale = agent().pins() + "/maps/hg_stale";
  ASSERT_EQ(bpf_obj_pin(Fd(bpf_obj_get((agent().pins() + "/maps/hg_nodes").c_str())).get(), stale.c_str()), 0);
  StartTraffic();
  for (int i = 0; i < 3; ++i) {
    SCOPED_TRACE(i);
    for (const auto& [binary, abi] :
         {std::pair{HG_OTHER_ABI_AGENT, kOtherAbi}, std::pair{"", uint32_t{HG_ABI_VERSION}}}) {
      ReplaceBy(binary);
      EXPECT_EQ(AbiInForce(), abi);
      EXPECT_NE(MapId("hg_nodes"), tables);
      EXPECT_EQ(MapId("hg_rule_stats"), counters);
      tables = MapId("hg_nodes");
      EXPECT_NE(access(stale.c_str(), F_OK), 0);
    }
  }
  ExpectNothingLost();
}

// Versions in turn, each killed at any moment of its start.
TEST_F(UpgradeTest, KillDuringUpgradeLosesNothing) {
  const std::string tag = AttachedTag();
  StartTraffic();
  KillDuringStarts({HG_CHANGED_AGENT, HG_OTHER_ABI_AGENT, ""});
  ExpectNothingChanged();
  EXPECT_EQ(AttachedTag(), tag);
  ExpectNothingLost();
}

}  // namespace
}  // namespace headgate::testing
