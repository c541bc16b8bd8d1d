// SPDX-License-Identifier: Apache-2.0
//
// Native and generic mode: what was asked for is what is in force, or the status says what is, and why.
#include "tests/e2e/interface_fixture.h"

namespace headgate::testing {
namespace {

class ModeTest : public InterfaceFixture {
 protected:
  ModeTest() : InterfaceFixture("mode") {}
};

TEST_F(ModeTest, ModesAreWhatTheyAreSaidToBe) {
  LinkThird();
  for (const auto& [mode, wanted] :
       {std::pair{"native", pb::ATTACH_MODE_NATIVE}, std::pair{"generic", pb::ATTACH_MODE_GENERIC},
        std::pair{"auto", pb::ATTACH_MODE_NATIVE}, std::pair{"generic", pb::ATTACH_MODE_GENERIC}}) {
    SCOPED_TRACE(mode);
    api().ApplyYaml(Document("g2", mode));
    NowAndAfterRestart([&, wanted = wanted] {
      Await(State::STATE_APPLIED);
      EXPECT_EQ(Third().interface_state().mode(), wanted);
      EXPECT_EQ(absl::StrContains(lab_->Ip("gw", "link show g2"), "xdpgeneric"),
                wanted == pb::ATTACH_MODE_GENERIC);
      ExpectThirdWorks();
    });
  }
}

// A veth whose peer sends from more queues than it receives by refuses native programs.
TEST_F(ModeTest, FallsBackToGenericAndSaysWhy) {
  LinkThirdWith("numrxqueues 1", 4);
  api().ApplyYaml(Document("g2", "native"));
  NowAndAfterRestart([&] {
    Await(State::STATE_ERROR);
    EXPECT_TRUE(absl::StrContains(Third().status().reason(), "native")) << Third().status().reason();
    EXPECT_EQ(Third().interface_state().mode(), pb::ATTACH_MODE_UNSPECIFIED);
    EXPECT_FALSE(HasProgram("gw", "g2"));
    ExpectRestWorks();
  });
  api().ApplyYaml(Document("g2", "auto"));
  NowAndAfterRestart([&] {
    Await(State::STATE_APPLIED);
    const pb::InterfaceState state = Third().interface_state();
    EXPECT_EQ(state.mode(), pb::ATTACH_MODE_GENERIC);
    const bool said = std::any_of(state.warnings().begin(), state.warnings().end(),
                                  [](const std::string& warning) { return absl::StrContains(warning, "native"); });
    EXPECT_TRUE(said) << state.ShortDebugString();
    ExpectThirdWorks();
  });
}

// A program that is there already stays, and the status says who is in the way.
TEST_F(ModeTest, AForeignProgramIsNotReplaced) {
  LinkThird();
  auto foreign = std::make_unique<Tally>(*lab_, "gw", "g2");
  Wire third(lab_->Name("server"), "s2");
  const auto watcher = api().Watch();
  for (const char* mode : {"auto", "native", "generic"}) {
    SCOPED_TRACE(mode);
    api().ApplyYaml(Document("g2", mode));
    NowAndAfterRestart([&] {
      Await(State::STATE_ERROR);
      EXPECT_TRUE(absl::StrContains(Third().status().reason(), "another XDP program"))
          << Third().status().reason();
      EXPECT_EQ(Third().interface_state().mode(), pb::ATTACH_MODE_UNSPECIFIED);
      const uint64_t before = foreign->Frames();
      third.Send(Frame(1));
      EXPECT_TRUE(WaitFor([&] { return foreign->Frames() == before + 1; }));
      ExpectRestWorks();
    });
  }
  api().ApplyYaml(Document("g2", "native"));
  foreign.reset();
  NowAndAfterRestart([&] {
    Await(State::STATE_APPLIED);
    ExpectThirdWorks();
  });
}

// Until the device changes: trying again would interrupt each time.
TEST_F(ModeTest, AModeThatIsRefusedLeavesTheFormer) {
  LinkThirdWith("numrxqueues 1", 4);
  api().ApplyYaml(Document("g2", "generic"));
  Await(State::STATE_APPLIED);
  ExpectThirdWorks();
  api().ApplyYaml(Document("g2", "native"));
  NowAndAfterRestart([&] {
    Await(State::STATE_ERROR);
    EXPECT_EQ(Third().interface_state().mode(), pb::ATTACH_MODE_GENERIC) << "the mode in force";
    EXPECT_TRUE(absl::StrContains(Third().status().reason(), "native")) << Third().status().reason();
    ExpectThirdWorks();
  });
  api().ApplyYaml(Document("g2", "auto"));
  Await(State::STATE_APPLIED);
  ExpectThirdWorks();
}

}  // namespace
}  // namespace headgate::testing
