// SPDX-License-Identifier: Apache-2.0
//
// Devices come late, go, come back as others, are renamed, moved and taken down: each heals without a restart,
// says so in its status and in events, and the rest of the configuration forwards meanwhile.
#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/if_link.h>
#include <net/if.h>

#include "tests/e2e/interface_fixture.h"

namespace headgate::testing {
namespace {

class InterfaceTest : public InterfaceFixture {
 protected:
  InterfaceTest() : InterfaceFixture("interface") {}
};

TEST_F(InterfaceTest, ConfiguredBeforeItExists) {
  api().ApplyYaml(Document());
  NowAndAfterRestart([&] {
    Await(State::STATE_PENDING);
    EXPECT_EQ(Third().status().reason(), "device g2 does not exist");
    EXPECT_EQ(Third().interface_state().ifindex(), 0u);
    EXPECT_EQ(Third().interface_state().mode(), pb::ATTACH_MODE_UNSPECIFIED);
    ExpectThirdCountsDrops();
  });
  const auto watcher = api().Watch();
  LinkThird();
  Await(State::STATE_APPLIED, Ifindex("g2"));
  ExpectEvents(*watcher, State::STATE_APPLIED, absl::StrCat("device g2 ifindex ", Ifindex("g2")));
  NowAndAfterRestart([&] {
    Await(State::STATE_APPLIED, Ifindex("g2"));
    EXPECT_TRUE(WaitFor([&] { return Third().interface_state().up(); }));
    EXPECT_EQ(Third().interface_state().mode(), pb::ATTACH_MODE_NATIVE);
    ExpectThirdWorks();
  });
}

TEST_F(InterfaceTest, RemovedAndCreatedAnew) {
  LinkThird();
  api().ApplyYaml(Document());
  Await(State::STATE_APPLIED, Ifindex("g2"));
  const uint32_t ifindex = Ifindex("g2"), id = Third().id();
  ExpectThirdWorks();
  const uint64_t received = api().Interface("third").received_packets();
  const auto watcher = api().Watch();
  lab_->Ip("gw", "link del g2");
  Await(State::STATE_PENDING);
  ExpectEvents(*watcher, State::STATE_PENDING, "device g2 is gone");
  NowAndAfterRestart([&] {
    Await(State::STATE_PENDING);
    ExpectThirdCountsDrops();
  });
  LinkThird();
  ASSERT_NE(Ifindex("g2"), ifindex);
  NowAndAfterRestart([&] {
    Await(State::STATE_APPLIED, Ifindex("g2"));
    ExpectThirdWorks();
  });
  // The interface is still the same one.
  EXPECT_EQ(Third().id(), id);
  EXPECT_EQ(api().Interface("third").received_packets(), received + 2);
}

TEST_F(InterfaceTest, CreatedAnewWhileNobodyWatched) {
  LinkThird();
  api().ApplyYaml(Document());
  Await(State::STATE_APPLIED);
  agent_->Kill();
  lab_->Ip("gw", "link del g2");
  LinkThird();
  agent_->Start();
  Await(State::STATE_APPLIED, Ifindex("g2"));
  ExpectThirdWorks();
  agent_->Kill();
  lab_->Ip("gw", "link del g2");
  agent_->Start();
  Await(State::STATE_PENDING);
  ExpectThirdCountsDrops();
}

// The device went to another namespace with the program on it, and one of its name and number took its place.
TEST_F(InterfaceTest, ReplacedWhileNobodyWatched) {
  LinkThird();
  api().ApplyYaml(Document());
  Await(State::STATE_APPLIED);
  agent_->Kill();
  lab_->Ip("gw", absl::StrCat("link set g2 netns ", lab_->Name("away")));
  lab_->Ip("server", "link set s2 down");
  lab_->Ip("server", "link set s2 name s4");
  LinkThirdWith(absl::StrCat("index ", Ifindex("g2", "away")), 1);
  ASSERT_EQ(Ifindex("g2"), Ifindex("g2", "away"));
  agent_->Start();
  NowAndAfterRestart([&] {
    Await(State::STATE_APPLIED, Ifindex("g2"));
    EXPECT_FALSE(HasProgram("away", "g2"));
    EXPECT_TRUE(HasProgram("gw", "g2"));
    ExpectThirdWorks();
  });
}

TEST_F(InterfaceTest, RenamedAwayAndBack) {
  LinkThird();
  api().ApplyYaml(Document());
  Await(State::STATE_APPLIED);
  const auto rename = [&](const std::string& from, const std::string& to) {
    lab_->Ip("gw", absl::StrCat("link set ", from, " down"));
    lab_->Ip("gw", absl::StrCat("link set ", from, " name ", to));
    lab_->Ip("gw", absl::StrCat("link set ", to, " up"));
  };
  auto watcher = api().Watch();
  rename("g2", "other");
  Await(State::STATE_PENDING);
  ExpectEvents(*watcher, State::STATE_PENDING, "device g2 is gone");
  NowAndAfterRestart([&] {
    Await(State::STATE_PENDING);
    EXPECT_FALSE(HasProgram("gw", "other"));
    ExpectThirdCountsDrops();
  });
  watcher = api().Watch();
  rename("other", "g2");
  Await(State::STATE_APPLIED, Ifindex("g2"));
  ExpectEvents(*watcher, State::STATE_APPLIED, "device g2");
  NowAndAfterRestart([&] {
    Await(State::STATE_APPLIED, Ifindex("g2"));
    ExpectThirdWorks();
  });
  // Another device may take the name.
  rename("g2", "other");
  Await(State::STATE_PENDING);
  lab_->Link("gw", "g2", "server", "s3");
  Await(State::STATE_APPLIED, Ifindex("g2"));
  Wire third(lab_->Name("server"), "s3");
  EXPECT_TRUE(Passes(*client_, third, Frame(7000)));
}

TEST_F(InterfaceTest, KnownByAnAlternativeName) {
  LinkThird();
  api().ApplyYaml(Document("the-third-of-the-devices"));
  Await(State::STATE_PENDING);
  lab_->Ip("gw", "link property add dev g2 altname the-third-of-the-devices");
  NowAndAfterRestart([&] {
    Await(State::STATE_APPLIED, Ifindex("g2"));
    ExpectThirdWorks();
  });
  lab_->Ip("gw", "link property del dev g2 altname the-third-of-the-devices");
  Await(State::STATE_PENDING);
  EXPECT_FALSE(HasProgram("gw", "g2"));
}

TEST_F(InterfaceTest, DownAndUp) {
  LinkThird();
  api().ApplyYaml(Document());
  Await(State::STATE_APPLIED);
  ASSERT_TRUE(WaitFor([&] { return Third().interface_state().up(); }));
  const auto watcher = api().Watch();
  lab_->Ip("gw", "link set g2 down");
  EXPECT_TRUE(watcher->Next([](const pb::Event& event) {
    return Is(event, pb::EVENT_TYPE_INTERFACE_CHANGE) && absl::StrContains(event.message(), "down");
  }));
  NowAndAfterRestart([&] {
    EXPECT_TRUE(WaitFor([&] { return !Third().interface_state().up(); }));
    Await(State::STATE_APPLIED);
    const pb::InterfaceStats before = api().Interface("third");
    const uint64_t forwarded = api().Reasons("in")["forward_redirect"];
    client_->Send(Frame(7000));
    // The kernel refuses it, after the program let it go.
    EXPECT_TRUE(WaitFor([&] {
      return api().Interface("third").transmit_refused_packets() == before.transmit_refused_packets() + 1;
    }));
    EXPECT_EQ(api().Reasons("in")["forward_redirect"], forwarded + 1);
    EXPECT_EQ(api().Interface("third").transmitted_packets(), before.transmitted_packets());
    ExpectRestWorks();
  });
  lab_->Ip("gw", "link set g2 up");
  NowAndAfterRestart([&] {
    EXPECT_TRUE(WaitFor([&] { return Third().interface_state().up(); }));
    ExpectThirdWorks();
  });
}

TEST_F(InterfaceTest, MovedToAnotherNamespaceAndBack) {
  const auto move = [&](const std::string& from, const std::string& to) {
    lab_->Ip(from, absl::StrCat("link set g2 netns ", lab_->Name(to)));
    lab_->Ip(to, "link set g2 up");
  };
  const auto expect_gone = [&] {
    Await(State::STATE_PENDING);
    EXPECT_FALSE(HasProgram("away", "g2"));
    ExpectThirdCountsDrops();
    Wire away(lab_->Name("away"), "g2"), third(lab_->Name("server"), "s2");
    EXPECT_TRUE(Passes(third, away, Frame(1))) << "the device's new owner does not get what it receives";
  };
  LinkThird();
  api().ApplyYaml(Document());
  Await(State::STATE_APPLIED);
  const auto watcher = api().Watch();
  move("gw", "away");
  ExpectEvents(*watcher, State::STATE_PENDING, "device g2 is gone");
  NowAndAfterRestart(expect_gone);
  move("away", "gw");
  NowAndAfterRestart([&] {
    Await(State::STATE_APPLIED, Ifindex("g2"));
    ExpectThirdWorks();
  });
  // And when nobody saw it go.
  agent_->Kill();
  move("gw", "away");
  agent_->Start();
  NowAndAfterRestart(expect_gone);
}

TEST_F(InterfaceTest, MtuAndAddressChange) {
  LinkThird();
  api().ApplyYaml(Document());
  Await(State::STATE_APPLIED);
  lab_->Ip("gw", "link set g2 mtu 1300");
  lab_->Ip("gw", "link set g2 address 02:00:00:00:33:33");
  Wire third(lab_->Name("server"), "s2");
  NowAndAfterRestart([&] {
    EXPECT_TRUE(WaitFor([&] { return Third().interface_state().mtu() == 1300; }));
    EXPECT_TRUE(WaitFor([&] { return Third().interface_state().mac() == "02:00:00:00:33:33"; }));
    EXPECT_EQ(Third().interface_state().mode(), pb::ATTACH_MODE_NATIVE);
    // A next hop without a source address of its own has the device's.
    const Bytes frame = Frame(7001);
    client_->Send(frame);
    const auto arrived = third.Receive(CarriesPayload(Bytes(frame.end() - 40, frame.end())));
    ASSERT_TRUE(arrived.has_value());
    EXPECT_EQ(Bytes(arrived->begin(), arrived->begin() + 12),
              (Bytes{2, 0, 0, 0, 0x0c, 1, 2, 0, 0, 0, 0x33, 0x33}));
    // What is too long for the device is refused by the kernel, and counted.
    const uint64_t refused = api().Interface("third").transmit_refused_packets();
    client_->Send(Ethernet{} / Ipv4{} / Udp{.destination_port = 7000} / Payload(1400));
    EXPECT_TRUE(WaitFor([&] { return api().Interface("third").transmit_refused_packets() == refused + 1; }));
    ExpectThirdWorks();
  });
}

// While the third interface comes and goes, all traffic from in to out gets through.
TEST_F(InterfaceTest, NothingElseIsDisturbed) {
  LinkThird();
  api().ApplyYaml(Document());
  Await(State::STATE_APPLIED);
  const auto receiver = OpenReceiver(*lab_, "server", "s1");
  const auto sender = OpenSender(*lab_, FlowFrames(100));
  sender->Start();
  for (int i = 0; i < 5; ++i) {
    lab_->Ip("gw", "link set g2 down");
    lab_->Ip("gw", "link set g2 up");
    lab_->Ip("gw", "link set g2 mtu 1400");
    lab_->Ip("gw", "link del g2");
    Await(State::STATE_PENDING);
    LinkThird();
    Await(State::STATE_APPLIED, Ifindex("g2"));
    api().ApplyYaml(Document("g2", i % 2 == 0 ? "generic" : "native"));
    if (i == 2) agent_->Restart();
  }
  Ok(sender->Stop());
  Ok(receiver->AwaitFrames(sender->sent(), std::chrono::seconds(20)));
  const bench::ReceiveReport report = Value(receiver->Read());
  EXPECT_EQ(report.packets, sender->sent());
  EXPECT_EQ(report.Lost() + report.Duplicates() + report.Reordered(), 0u);
  EXPECT_EQ(api().Rule("wire").packets(), sender->sent());
}

}  // namespace
}  // namespace headgate::testing
