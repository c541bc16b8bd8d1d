// SPDX-License-Identifier: Apache-2.0
//
// The agent goes and comes back under traffic at full rate: no packet, rule, id or count is lost. --detach takes
// everything off, and leaves the state.
#include <absl/strings/str_cat.h>
#include <bpf/bpf.h>

#include <filesystem>

#include "tests/e2e/thousand_rules.h"
#include "tests/harness/wire.h"

namespace headgate::testing {
namespace {

class RestartTest : public ThousandRulesTest {
 protected:
  RestartTest() : ThousandRulesTest("restart") {}

  // Ends the agent again and again while traffic flows.
  void RestartUnderTraffic(const std::function<void()>& end) {
    StartTraffic();
    for (int i = 0; i < 5; ++i) {
      SCOPED_TRACE(i);
      end();
      AwaitTraffic();  // nobody is there
      agent().Start();
      ExpectNothingChanged();
      ExpectCountersContinue();
      AwaitTraffic();
    }
    ExpectNothingLost();
  }
};

TEST_F(RestartTest, KillUnderTrafficLosesNothing) {
  RestartUnderTraffic([this] { agent().Kill(); });
}

TEST_F(RestartTest, TermUnderTrafficLosesNothing) {
  RestartUnderTraffic([this] { EXPECT_EQ(agent().Stop(), 0); });
}

// Killed at any moment of its start, again and again: what is left behind half done is none the worse for it.
TEST_F(RestartTest, KillDuringStartLosesNothing) {
  StartTraffic();
  KillDuringStarts({""});
  ExpectNothingChanged();
  ExpectNothingLost();
}

// Tables of another size are made beside the old ones, and what was counted goes along.
TEST_F(RestartTest, OtherTableSizesUnderTrafficLoseNothing) {
  StartTraffic();
  for (const char* max_rules : {"4096", "2048", "2050", "131072"}) {
    SCOPED_TRACE(max_rules);
    agent().Kill();
    agent().Start({.arguments = {"--max-rules", max_rules}});
    ExpectNothingChanged();
    ExpectCountersContinue();
    AwaitTraffic();
  }
  ExpectNothingLost();
}

// What is in the kernel because of the agent, by the ids the kernel gave it.
struct KernelObjects {
  std::vector<uint32_t> programs, maps, links;

  explicit KernelObjects(const std::string& pins) {
    for (const auto& entry : std::filesystem::recursive_directory_iterator(pins)) {
      if (entry.is_directory()) continue;
      const Fd fd(bpf_obj_get(entry.path().c_str()));
      const std::string kind = entry.path().parent_path().filename();
      if (kind == "programs") programs.push_back(IdOf<bpf_prog_info>(fd));
      if (kind == "maps") maps.push_back(IdOf<bpf_map_info>(fd));
      if (kind == "links") links.push_back(IdOf<bpf_link_info>(fd));
    }
  }

  size_t Alive() const {
    size_t alive = 0;
    for (const uint32_t id : programs) alive += static_cast<bool>(Fd(bpf_prog_get_fd_by_id(id)));
    for (const uint32_t id : maps) alive += static_cast<bool>(Fd(bpf_map_get_fd_by_id(id)));
    for (const uint32_t id : links) alive += static_cast<bool>(Fd(bpf_link_get_fd_by_id(id)));
    return alive;
  }

 private:
  template <typename Info>
  static uint32_t IdOf(const Fd& fd) {
    Info info{};
    uint32_t length = sizeof(info);
    if (bpf_obj_get_info_by_fd(fd.get(), &info, &length) != 0) throw std::runtime_error("not a BPF object");
    return info.id;
  }
};

TEST_F(RestartTest, DetachRemovesEverythingButTheState) {
  const KernelObjects objects(agent().pins());
  ASSERT_EQ(objects.links.size(), 2u + 4u);  // devices, tracepoints
  ASSERT_GT(objects.programs.size(), 2u);
  ASSERT_GT(objects.maps.size(), 20u);
  EXPECT_EQ(agent().Stop(), 0);
  EXPECT_EQ(objects.Alive(), objects.links.size() + objects.programs.size() + objects.maps.size());

  lab().In("gw", absl::StrCat(HG_AGENT, " --detach --state ", lab().directory(), "/state.db --bpffs ",
                              lab().directory(), "/bpf"));
  EXPECT_FALSE(std::filesystem::exists(agent().pins()));
  EXPECT_TRUE(WaitFor([&] { return objects.Alive() == 0; })) << objects.Alive() << " objects are still there";
  EXPECT_EQ(lab().Ip("gw", "-details link show").find("xdp"), std::string::npos);
  // As before: the stack has the packets.
  Wire client(lab().Name("client"), "c0"), stack(lab().Name("gw"), "g0"), server(lab().Name("server"), "s1");
  const Bytes frame = Ethernet{} / Ipv4{} / Udp{} / Payload(Bytes(40, 0x33));
  client.Send(frame);
  EXPECT_TRUE(stack.Receive(CarriesPayload(Bytes(40, 0x33))).has_value());

  agent().Start();
  ExpectNothingChanged();
  EXPECT_EQ(api().Rule("wire").packets(), 0u);
  client.Send(frame);
  EXPECT_TRUE(server.Receive(CarriesPayload(Bytes(40, 0x33))).has_value());
  EXPECT_EQ(api().Rule("wire").packets(), 1u);
}

}  // namespace
}  // namespace headgate::testing
