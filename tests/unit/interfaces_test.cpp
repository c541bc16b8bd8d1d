// SPDX-License-Identifier: Apache-2.0
//
// Which device an interface is attached to, as devices come, go, change their names and are made anew; and what is
// said of it.
#include "agent/control/interfaces.h"

#include <absl/strings/str_cat.h>
#include <gtest/gtest.h>

#include "agent/dataplane/fake_dataplane.h"
#include "tests/harness/control_node.h"

namespace headgate::testing {
namespace {

using Ports = std::vector<std::pair<uint32_t, uint32_t>>;

class InterfacesTest : public ::testing::Test {
 protected:
  InterfacesTest() {
    watcher_ = bus_.Watch({EventType::kInterfaceChange, EventType::kObjectStatus});
    faulty_.fault = [this](absl::string_view call) {
      ++calls_[std::string(call)];
      return call == failing_ ? absl::PermissionDeniedError("injected") : absl::OkStatus();
    };
    binder_ = std::make_unique<InterfaceBinder>(faulty_, bus_);
  }
  void Configure(const std::string& interfaces) { desired_.Must(Config("interfaces: " + interfaces)); }
  bool Reconcile(const DeviceList& devices, bool verify = false) {
    return binder_->Reconcile(*desired_, devices, verify);
  }
  InterfaceState StateOf(const std::string& name) { return binder_->States()[name]; }
  uint32_t PortOf(const std::string& name) { return desired_->interfaces.Get(name)->id; }
  // "NAME: MESSAGE" of changes, "NAME STATE REASON" of statuses.
  std::vector<std::string> Events() {
    static const char* const kStates[] = {"pending", "applied", "error"};
    std::vector<std::string> lines;
    while (const auto event = watcher_->Next(std::chrono::milliseconds(0))) {
      if (event->type == EventType::kInterfaceChange) {
        lines.push_back(absl::StrCat(event->name, ": ", event->message));
      } else {
        lines.push_back(absl::StrCat(event->name, " ", kStates[static_cast<int>(event->status->state)],
                                     event->status->reason.empty() ? "" : " ", event->status->reason));
      }
    }
    return lines;
  }

  Desired desired_;
  FakeDataplane fake_{64};
  FaultyDataplane faulty_{fake_};
  EventBus bus_;
  std::shared_ptr<EventBus::Watcher> watcher_;
  std::unique_ptr<InterfaceBinder> binder_;
  std::map<std::string, int> calls_;
  std::string failing_;
};

TEST_F(InterfacesTest, ADeviceThatComesIsAttachedAndOneThatGoesIsLetGo) {
  Configure("[{name: wan, device: eth0}]");
  EXPECT_TRUE(Reconcile({MakeDevice(2, "other")}));
  EXPECT_EQ(StateOf("wan").status, (ObjectStatus{ObjectState::kPending, "device eth0 does not exist"}));
  EXPECT_EQ(Events(), (std::vector<std::string>{"wan pending device eth0 does not exist"}));
  EXPECT_TRUE(Reconcile({MakeDevice(2, "other"), MakeDevice(5, "eth0")}));
  EXPECT_EQ(StateOf("wan").status, (ObjectStatus{ObjectState::kApplied, ""}));
  EXPECT_EQ(StateOf("wan").mode, DriverMode::kNative);
  EXPECT_EQ(fake_.Bound(), (Ports{{PortOf("wan"), 5}}));
  EXPECT_EQ(Events(), (std::vector<std::string>{"wan: device eth0 ifindex 5 up native", "wan applied"}));
  EXPECT_TRUE(Reconcile({}));
  EXPECT_EQ(StateOf("wan").device, std::nullopt);
  EXPECT_EQ(StateOf("wan").mode, std::nullopt);
  EXPECT_TRUE(fake_.Bound().empty());
  EXPECT_EQ(Events(),
            (std::vector<std::string>{"wan: device eth0 is gone", "wan pending device eth0 does not exist"}));
}

TEST_F(InterfacesTest, WhatHasNotChangedIsNotTouched) {
  Configure("[{name: wan, device: eth0}]");
  const DeviceList devices = {MakeDevice(5, "eth0")};
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(Reconcile(devices));
  EXPECT_EQ(calls_["Attach"], 1);
  EXPECT_TRUE(Reconcile(devices, true));
  EXPECT_EQ(calls_["Attach"], 2) << "verified";
  EXPECT_EQ(binder_->repaired(), 0u);
  EXPECT_EQ(Events().size(), 2u);
}

TEST_F(InterfacesTest, ADeviceThatChangesIsDescribedAnew) {
  Configure("[{name: wan, device: eth0}]");
  Device device = MakeDevice(5, "eth0");
  EXPECT_TRUE(Reconcile({device}));
  (void)Events();
  device.mtu = 9000;
  EXPECT_TRUE(Reconcile({device}));
  EXPECT_EQ(calls_["Attach"], 2);
  EXPECT_EQ(StateOf("wan").device->mtu, 9000u);
  EXPECT_TRUE(Events().empty()) << "that is nothing to tell";
  device.up = false;
  EXPECT_TRUE(Reconcile({device}));
  EXPECT_EQ(Events(), (std::vector<std::string>{"wan: device eth0 ifindex 5 down native"}));
}

TEST_F(InterfacesTest, ADeviceMadeAnewIsAnother) {
  Configure("[{name: wan, device: eth0}]");
  EXPECT_TRUE(Reconcile({MakeDevice(5, "eth0")}));
  (void)Events();
  // Between two looks: only the number tells.
  EXPECT_TRUE(Reconcile({MakeDevice(9, "eth0")}));
  EXPECT_EQ(fake_.Bound(), (Ports{{PortOf("wan"), 9}}));
  EXPECT_EQ(Events(), (std::vector<std::string>{"wan: device eth0 ifindex 9 up native"}));
}

TEST_F(InterfacesTest, ARenamedDeviceIsNoLongerTheInterfaces) {
  Configure("[{name: wan, device: eth0}, {name: lan, device: eth1}]");
  EXPECT_TRUE(Reconcile({MakeDevice(5, "eth0")}));
  EXPECT_TRUE(Reconcile({MakeDevice(5, "eth7")}));
  EXPECT_TRUE(fake_.Bound().empty());
  EXPECT_EQ(StateOf("wan").status.state, ObjectState::kPending);
  // To the name of another: its port.
  EXPECT_TRUE(Reconcile({MakeDevice(5, "eth1")}));
  EXPECT_EQ(fake_.Bound(), (Ports{{PortOf("lan"), 5}}));
}

TEST_F(InterfacesTest, NamesMayBeExchanged) {
  Configure("[{name: wan, device: eth0}, {name: lan, device: eth1}]");
  EXPECT_TRUE(Reconcile({MakeDevice(5, "eth0"), MakeDevice(6, "eth1")}));
  EXPECT_TRUE(Reconcile({MakeDevice(6, "eth0"), MakeDevice(5, "eth1")}));
  Ports expected = {{PortOf("wan"), 6}, {PortOf("lan"), 5}};
  std::sort(expected.begin(), expected.end());
  EXPECT_EQ(fake_.Bound(), expected);
  EXPECT_EQ(StateOf("wan").status.state, ObjectState::kApplied);
  EXPECT_EQ(StateOf("lan").status.state, ObjectState::kApplied);
}

TEST_F(InterfacesTest, AlternativeNamesServeWhereNoNameDoes) {
  Configure("[{name: wan, device: uplink}]");
  Device device = MakeDevice(5, "enp1s0f0");
  device.alternative_names = {"enx0200", "uplink"};
  EXPECT_TRUE(Reconcile({device}));
  EXPECT_EQ(fake_.Bound(), (Ports{{PortOf("wan"), 5}}));
  // A name comes before an alternative one.
  EXPECT_TRUE(Reconcile({device, MakeDevice(7, "uplink")}));
  EXPECT_EQ(fake_.Bound(), (Ports{{PortOf("wan"), 7}}));
}

// Under two of its names: one of them has it, always the same, and the other says so.
TEST_F(InterfacesTest, OneDeviceIsOneInterfacesOnly) {
  Configure("[{name: wan, device: eth0}, {name: also, device: uplink}]");
  Device device = MakeDevice(5, "eth0");
  device.alternative_names = {"uplink"};
  EXPECT_FALSE(Reconcile({device}));
  const Ports bound = fake_.Bound();
  ASSERT_EQ(bound.size(), 1u);
  for (int i = 0; i < 5; ++i) {
    EXPECT_FALSE(Reconcile({device}, i % 2 == 0));
    EXPECT_EQ(fake_.Bound(), bound);
  }
  int errors = 0;
  for (const auto& [name, state] : binder_->States()) errors += state.status.state == ObjectState::kError ? 1 : 0;
  EXPECT_EQ(errors, 1);
  // And when it is gone from the configuration, the other gets it.
  Configure(bound[0].first == PortOf("wan") ? "[{name: also, device: uplink}]" : "[{name: wan, device: eth0}]");
  EXPECT_TRUE(Reconcile({device}));
  ASSERT_EQ(fake_.Bound().size(), 1u);
  EXPECT_NE(fake_.Bound()[0].first, bound[0].first);
}

TEST_F(InterfacesTest, TheModeIsWhatIsAskedFor) {
  Configure("[{name: wan, device: eth0, mode: generic}]");
  EXPECT_TRUE(Reconcile({MakeDevice(5, "eth0")}));
  EXPECT_EQ(StateOf("wan").mode, DriverMode::kGeneric);
  Configure("[{name: wan, device: eth0, mode: native}]");
  (void)Events();
  EXPECT_TRUE(Reconcile({MakeDevice(5, "eth0")}));
  EXPECT_EQ(StateOf("wan").mode, DriverMode::kNative);
  EXPECT_EQ(Events(), (std::vector<std::string>{"wan: device eth0 ifindex 5 up native"}));
}

TEST_F(InterfacesTest, WhatCannotBeAttachedIsAnErrorAndTriedAgain) {
  Configure("[{name: wan, device: eth0}]");
  failing_ = "Attach";
  EXPECT_FALSE(Reconcile({MakeDevice(5, "eth0")}));
  EXPECT_EQ(StateOf("wan").status, (ObjectStatus{ObjectState::kError, "injected"}));
  EXPECT_EQ(StateOf("wan").device->ifindex, 5u) << "the device is there";
  EXPECT_EQ(Events(), (std::vector<std::string>{"wan: device eth0 ifindex 5 up", "wan error injected"}));
  EXPECT_FALSE(Reconcile({MakeDevice(5, "eth0")}));
  EXPECT_TRUE(Events().empty());
  failing_.clear();
  EXPECT_TRUE(Reconcile({MakeDevice(5, "eth0")}));
  EXPECT_EQ(Events(), (std::vector<std::string>{"wan: device eth0 ifindex 5 up native", "wan applied"}));
}

TEST_F(InterfacesTest, WhatCannotBeDetachedIsTriedAgain) {
  Configure("[{name: wan, device: eth0}, {name: lan, device: eth1}]");
  EXPECT_TRUE(Reconcile({MakeDevice(5, "eth0"), MakeDevice(6, "eth1")}));
  failing_ = "Detach";
  EXPECT_FALSE(Reconcile({MakeDevice(6, "eth1")}));
  EXPECT_EQ(StateOf("wan").status, (ObjectStatus{ObjectState::kError, "injected"}));
  Configure("[{name: wan, device: eth0}]");
  EXPECT_FALSE(Reconcile({}));
  EXPECT_EQ(fake_.Bound().size(), 2u);
  failing_.clear();
  EXPECT_TRUE(Reconcile({}));
  EXPECT_TRUE(fake_.Bound().empty());
  EXPECT_EQ(StateOf("wan").status.state, ObjectState::kPending);
}

TEST_F(InterfacesTest, WhatAnEarlierProcessAttachedIsTakenOverOrLetGo) {
  Configure("[{name: wan, device: eth0}, {name: lan, device: eth1}]");
  ASSERT_TRUE(fake_.Attach(PortOf("wan"), MakeDevice(5, "eth0"), std::nullopt).ok());
  ASSERT_TRUE(fake_.Attach(PortOf("lan"), MakeDevice(6, "renamed-since"), std::nullopt).ok());
  ASSERT_TRUE(fake_.Attach(200, MakeDevice(7, "deleted-since"), std::nullopt).ok());
  EXPECT_TRUE(Reconcile({MakeDevice(5, "eth0"), MakeDevice(6, "eth6"), MakeDevice(7, "eth7")}, true));
  EXPECT_EQ(fake_.Bound(), (Ports{{PortOf("wan"), 5}}));
}

TEST_F(InterfacesTest, AnInterfaceMadeAnewHasAnotherPort) {
  Configure("[{name: wan, device: eth0}]");
  EXPECT_TRUE(Reconcile({MakeDevice(5, "eth0")}));
  const uint32_t before = PortOf("wan");
  Configure("[]");
  Configure("[{name: x, device: none}, {name: wan, device: eth0}]");
  ASSERT_NE(PortOf("wan"), before);
  EXPECT_TRUE(Reconcile({MakeDevice(5, "eth0")}));
  EXPECT_EQ(fake_.Bound(), (Ports{{PortOf("wan"), 5}}));
}

TEST_F(InterfacesTest, WhatOthersTookOffIsPutBackAndCounted) {
  Configure("[{name: wan, device: eth0}]");
  EXPECT_TRUE(Reconcile({MakeDevice(5, "eth0")}));
  fake_.TakeOff(PortOf("wan"));
  EXPECT_TRUE(Reconcile({MakeDevice(5, "eth0")}, true));
  EXPECT_EQ(binder_->repaired(), 1u);
}

}  // namespace
}  // namespace headgate::testing
