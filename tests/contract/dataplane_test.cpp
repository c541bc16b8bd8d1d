// SPDX-License-Identifier: Apache-2.0
//
// What dataplane.h promises, held against the kernel's tables and the stand-in that other tests use.
#include "agent/dataplane/dataplane.h"

#include <absl/strings/str_cat.h>
#include <gtest/gtest.h>
#include <net/if.h>

#include <cstring>
#include <map>
#include <memory>
#include <numeric>
#include <string>

#include "agent/dataplane/fake_dataplane.h"
#include "tests/harness/lab.h"
#include "tests/harness/program.h"

namespace headgate::testing {
namespace {

constexpr TableId kTablesToWrite[] = {TableId::kNodes,    TableId::kSlots,   TableId::kRules,    TableId::kMatches,
                                      TableId::kPrefixes, TableId::kActions, TableId::kNextHops, TableId::kTargets,
                                      TableId::kMroutes,  TableId::kLegs,    TableId::kFanouts};

// One kind of data plane, with two devices to attach to.
class Subject {
 public:
  virtual ~Subject() = default;
  virtual Dataplane& dataplane() = 0;
  virtual Device MakeDevice(const std::string& name) = 0;
  // A packet comes in through port 1, and passes by default.
  virtual void CountPacket() = 0;
};

class FakeSubject : public Subject {
 public:
  Dataplane& dataplane() override { return fake_; }
  Device MakeDevice(const std::string& name) override {
    return {
        .ifindex = name == "left0" ? 11U : 12U, .name = name, .mac = {2, 0, 0, 0, 0, 1}, .mtu = 1500, .up = true};
  }
  void CountPacket() override {
    fake_.Count(CounterId::kPorts, HG_REASON_SLOTS + HG_REASON_PASS_DEFAULT, 0, 1);
    fake_.Count(CounterId::kPorts, HG_REASON_SLOTS + HG_REASON_PASS_DEFAULT, 1, 42);
  }

 private:
  FakeDataplane fake_{4096};
};

class KernelSubject : public Subject {
 public:
  KernelSubject() : lab_("contract", {"gw", "far"}), inside_(lab_.Name("gw")), program_("contract-maps") {
    lab_.Link("gw", "left0", "far", "left1");
    lab_.Link("gw", "right0", "far", "right1");
  }
  Dataplane& dataplane() override { return program_.dataplane(); }
  Device MakeDevice(const std::string& name) override {
    return {
        .ifindex = if_nametoindex(name.c_str()), .name = name, .mac = {2, 0, 0, 0, 0, 1}, .mtu = 1500, .up = true};
  }
  void CountPacket() override { (void)program_.Verdict(Ethernet{} / Ipv4{} / Udp{}); }

 private:
  Lab lab_;
  InNetns inside_;
  Program program_;
};

class DataplaneContract : public ::testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    if (GetParam()) {
      HG_REQUIRE_LAB();
      subject_ = std::make_unique<KernelSubject>();
    } else {
      subject_ = std::make_unique<FakeSubject>();
    }
  }
  Dataplane& plane() { return subject_->dataplane(); }
  std::vector<char> ReadBack(TableId table, uint32_t first, uint32_t count) {
    std::vector<char> values(static_cast<size_t>(count) * plane().Info(table).value_size);
    EXPECT_TRUE(plane().Read(table, first, count, values.data()).ok());
    return values;
  }
  uint32_t BoundTo(uint32_t port) {
    for (const auto& [number, ifindex] : plane().Bound()) {
      if (number == port) return ifindex;
    }
    return 0;
  }
  std::unique_ptr<Subject> subject_;
};

TEST_P(DataplaneContract, ReadsWhatWasWrittenAndNothingElseChanges) {
  for (const TableId table : kTablesToWrite) {
    const TableInfo info = plane().Info(table);
    SCOPED_TRACE(info.name);
    ASSERT_GE(info.capacity, 64U);
    const std::vector<uint32_t> indexes = {3, info.capacity - 1, 7};
    std::vector<char> values(indexes.size() * info.value_size);
    std::iota(values.begin(), values.end(), static_cast<char>(1));
    const std::vector<char> before = ReadBack(table, 4, 3);
    ASSERT_TRUE(plane().Write(table, indexes, values.data()).ok());
    for (size_t i = 0; i < indexes.size(); ++i) {
      EXPECT_EQ(std::memcmp(ReadBack(table, indexes[i], 1).data(), &values[i * info.value_size], info.value_size),
                0);
    }
    EXPECT_EQ(ReadBack(table, 4, 3), before);
    EXPECT_TRUE(ReadBack(table, 0, 0).empty());
    EXPECT_EQ(ReadBack(table, 0, info.capacity).size(), static_cast<size_t>(info.capacity) * info.value_size);
  }
}

TEST_P(DataplaneContract, RefusesWhatIsBeyondTheEnd) {
  for (const TableId table : kTablesToWrite) {
    const TableInfo info = plane().Info(table);
    SCOPED_TRACE(info.name);
    std::vector<char> value(info.value_size * 2);
    const std::vector<char> before = ReadBack(table, 1, 1);
    std::fill(value.begin(), value.end(), static_cast<char>(0x77));
    const uint32_t beyond[] = {1, info.capacity};
    EXPECT_TRUE(absl::IsOutOfRange(plane().Write(table, beyond, value.data())));
    EXPECT_EQ(ReadBack(table, 1, 1), before) << "nothing is written then";
    EXPECT_TRUE(absl::IsOutOfRange(plane().Read(table, info.capacity - 1, 2, value.data())));
    EXPECT_TRUE(absl::IsOutOfRange(plane().Read(table, info.capacity, 1, value.data())));
    EXPECT_TRUE(absl::IsOutOfRange(plane().Read(table, ~0U, 2, value.data())));
    EXPECT_TRUE(plane().Write(table, {}, nullptr).ok());
  }
}

TEST_P(DataplaneContract, TheRootActivatedIsInForce) {
  EXPECT_TRUE(plane().Activate(5).ok());
  EXPECT_EQ(plane().Active(), 5U);
  EXPECT_TRUE(plane().Quiesce().ok());
  EXPECT_TRUE(plane().Activate(9).ok());
  EXPECT_EQ(plane().Active(), 9U);
  EXPECT_TRUE(plane().Activate(0).ok());
  EXPECT_EQ(plane().Active(), std::nullopt) << "record 0 is none";
  EXPECT_EQ(plane().Info(TableId::kRoots).capacity, static_cast<uint32_t>(HG_ROOTS));
  EXPECT_EQ(plane().Info(TableId::kRoots).value_size, sizeof(hg_root));
}

TEST_P(DataplaneContract, TablesAreTheMapsOfTheirStructs) {
  const std::pair<const char*, size_t> expected[kTables] = {
      {"hg_roots", sizeof(hg_root)},          {"hg_nodes", sizeof(hg_node_page)},
      {"hg_slots", sizeof(hg_slot_page)},     {"hg_rules", sizeof(hg_rule_page)},
      {"hg_matches", sizeof(hg_match_page)},  {"hg_prefixes", sizeof(hg_prefix_page)},
      {"hg_actions", sizeof(hg_action)},      {"hg_next_hops", sizeof(hg_next_hop_page)},
      {"hg_targets", sizeof(hg_target_page)}, {"hg_mroutes", sizeof(hg_mroute_page)},
      {"hg_legs", sizeof(hg_leg_page)},       {"hg_fanouts", sizeof(hg_fanout)}};
  for (size_t i = 0; i < kTables; ++i) {
    const TableInfo info = plane().Info(static_cast<TableId>(i));
    EXPECT_EQ(info.name, expected[i].first);
    EXPECT_EQ(info.value_size, expected[i].second) << info.name;
    EXPECT_GE(info.bytes, static_cast<uint64_t>(info.capacity) * info.value_size) << info.name;
  }
  const std::vector<std::pair<uint32_t, uint32_t>> counters = {{HG_PORTS * HG_REASON_SLOTS, sizeof(hg_count) / 8},
                                                               {0, sizeof(hg_rule_count) / 8},
                                                               {HG_COUNTERS, sizeof(hg_count) / 8},
                                                               {HG_PORTS, sizeof(hg_egress) / 8},
                                                               {1, 1},
                                                               {HG_MROUTES, sizeof(hg_count) / 8},
                                                               {HG_MROUTES, sizeof(hg_mroute_last) / 8},
                                                               {HG_LEGS, sizeof(hg_leg_count) / 8},
                                                               {HG_LEGS, sizeof(hg_leg_count) / 8},
                                                               {HG_MROUTES, sizeof(hg_feed) / 8}};
  for (size_t i = 0; i < kCounterTables; ++i) {
    const auto table = static_cast<CounterId>(i);
    if (counters[i].first != 0) {
      EXPECT_EQ(plane().CounterRows(table), counters[i].first);
    }
    EXPECT_EQ(plane().CounterFields(table), counters[i].second);
  }
}

TEST_P(DataplaneContract, OnlyTheRowsNamedAreCleared) {
  const uint32_t row = HG_REASON_SLOTS + HG_REASON_PASS_DEFAULT;
  const auto packets = [&] { return (*plane().ReadCounters(CounterId::kPorts, row, 1))[0]; };
  const uint64_t before = packets();
  for (int i = 0; i < 3; ++i) subject_->CountPacket();
  EXPECT_EQ(packets(), before + 3);
  const auto around = *plane().ReadCounters(CounterId::kPorts, row - 1, 3);
  EXPECT_EQ(around[2], before + 3);
  EXPECT_EQ(around[3], 42 * (before + 3)) << "bytes";
  for (const uint32_t other : {row - 1, row + 1}) {
    EXPECT_TRUE(plane().ClearCounters(CounterId::kPorts, absl::MakeConstSpan(&other, 1)).ok());
  }
  const uint32_t beyond[] = {row, HG_PORTS * HG_REASON_SLOTS};
  EXPECT_TRUE(absl::IsOutOfRange(plane().ClearCounters(CounterId::kPorts, beyond)));
  EXPECT_EQ(packets(), before + 3);
  EXPECT_TRUE(plane().ClearCounters(CounterId::kPorts, absl::MakeConstSpan(&row, 1)).ok());
  EXPECT_EQ(packets(), 0U);
  subject_->CountPacket();
  EXPECT_EQ(packets(), 1U);
}

TEST_P(DataplaneContract, CountersHaveRowsAndFieldsAndAreCleared) {
  for (size_t i = 0; i < kCounterTables; ++i) {
    const auto table = static_cast<CounterId>(i);
    const uint32_t rows = plane().CounterRows(table), fields = plane().CounterFields(table);
    const auto all = plane().ReadCounters(table, 0, rows);
    ASSERT_TRUE(all.ok()) << all.status();
    EXPECT_EQ(all->size(), static_cast<size_t>(rows) * fields);
    const uint32_t last[] = {rows - 1};
    EXPECT_TRUE(plane().ClearCounters(table, last).ok());
    EXPECT_EQ(*plane().ReadCounters(table, rows - 1, 1), std::vector<uint64_t>(fields));
    EXPECT_TRUE(absl::IsOutOfRange(plane().ReadCounters(table, rows, 1).status()));
    EXPECT_TRUE(absl::IsOutOfRange(plane().ReadCounters(table, 0, rows + 1).status()));
    const uint32_t beyond[] = {rows};
    EXPECT_TRUE(absl::IsOutOfRange(plane().ClearCounters(table, beyond)));
  }
}

TEST_P(DataplaneContract, ListenersAreAddedChangedAndTakenOut) {
  const auto listener = [](uint32_t port, uint32_t group, uint32_t source) {
    return hg_listener{.port = port, .group = {group, 1, 2, 3}, .source = {source}};
  };
  const auto held = [&] {
    std::map<std::string, bool> entries;
    const auto there = plane().Listeners();
    EXPECT_TRUE(there.ok()) << there.status();
    for (const auto& [key, wanted] : *there) {
      entries[absl::StrCat(key.port, " ", key.group[0], " ", key.source[0])] = wanted;
    }
    EXPECT_EQ(entries.size(), there->size());
    return entries;
  };
  using Held = std::map<std::string, bool>;
  EXPECT_EQ(held(), Held{});
  EXPECT_TRUE(plane().UpdateListeners({{listener(1, 7, 0), true}, {listener(1, 7, 9), false}}, {}).ok());
  EXPECT_EQ(held(), (Held{{"1 7 0", true}, {"1 7 9", false}}));
  // What is not there is taken out as what is.
  const hg_listener gone[] = {listener(1, 7, 0), listener(3, 7, 0)};
  EXPECT_TRUE(plane().UpdateListeners({{listener(1, 7, 9), true}, {listener(2, 8, 0), true}}, gone).ok());
  EXPECT_EQ(held(), (Held{{"1 7 9", true}, {"2 8 0", true}}));
  ListenerEntries many;
  for (uint32_t i = 0; i < HG_LISTENERS; ++i) many.emplace_back(listener(3, i, 0), true);
  EXPECT_TRUE(absl::IsResourceExhausted(plane().UpdateListeners(many, {})));
  EXPECT_EQ(held().size(), static_cast<size_t>(HG_LISTENERS));
  // What is taken out makes room, though others found none.
  const hg_listener one[] = {listener(1, 7, 9)};
  EXPECT_TRUE(absl::IsResourceExhausted(plane().UpdateListeners({{listener(4, 1, 0), true}}, one)));
  EXPECT_TRUE(plane().UpdateListeners({{listener(4, 1, 0), true}}, {}).ok());
  std::vector<hg_listener> all;
  const auto there = plane().Listeners();
  ASSERT_TRUE(there.ok()) << there.status();
  for (const auto& [key, wanted] : *there) all.push_back(key);
  EXPECT_TRUE(plane().UpdateListeners({}, all).ok());
  EXPECT_EQ(held(), Held{});
}

TEST_P(DataplaneContract, PortsAreBoundAndLetGo) {
  const auto bound = [&](uint32_t port) { return BoundTo(port); };
  const Device a = subject_->MakeDevice("left0"), b = subject_->MakeDevice("right0");
  const auto first = plane().Attach(2, a, std::nullopt);
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_EQ(first->mode, DriverMode::kNative);
  EXPECT_EQ(bound(2), a.ifindex);
  // Again: nothing to do, nothing repaired.
  const auto again = plane().Attach(2, a, std::nullopt);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->repaired, 0U);
  // In the mode asked for, and back.
  EXPECT_EQ(plane().Attach(2, a, DriverMode::kGeneric)->mode, DriverMode::kGeneric);
  EXPECT_EQ(plane().Attach(2, a, DriverMode::kNative)->mode, DriverMode::kNative);
  // To another device: the first is free for another port.
  ASSERT_TRUE(plane().Attach(2, b, std::nullopt).ok());
  EXPECT_EQ(bound(2), b.ifindex);
  ASSERT_TRUE(plane().Attach(3, a, std::nullopt).ok());
  EXPECT_EQ(bound(3), a.ifindex);

  for (int time = 0; time < 2; ++time) EXPECT_TRUE(plane().Detach(2).ok());
  EXPECT_EQ(bound(2), 0U);
  EXPECT_EQ(bound(3), a.ifindex);
  EXPECT_TRUE(plane().Detach(3).ok());
  for (const uint32_t none : {0U, static_cast<uint32_t>(HG_PORTS), ~0U}) {
    EXPECT_TRUE(absl::IsOutOfRange(plane().Attach(none, a, std::nullopt).status()));
    EXPECT_TRUE(absl::IsOutOfRange(plane().Detach(none)));
  }
}

// As when two devices exchange their names.
TEST_P(DataplaneContract, ADeviceGoesFromPortToPort) {
  const Device a = subject_->MakeDevice("left0"), b = subject_->MakeDevice("right0");
  ASSERT_TRUE(plane().Attach(2, a, std::nullopt).ok());
  ASSERT_TRUE(plane().Attach(3, b, std::nullopt).ok());
  ASSERT_TRUE(plane().Attach(2, b, std::nullopt).ok());
  EXPECT_EQ(BoundTo(2), b.ifindex);
  EXPECT_EQ(BoundTo(3), a.ifindex);
  ASSERT_TRUE(plane().Attach(3, a, std::nullopt).ok());
  for (const auto& [port, device] : {std::make_pair(2U, b), std::make_pair(3U, a)}) {
    const auto again = plane().Attach(port, device, std::nullopt);
    ASSERT_TRUE(again.ok()) << again.status();
    EXPECT_EQ(again->repaired, 0U) << "port " << port;
    EXPECT_EQ(again->mode, DriverMode::kNative);
  }
  // To a port that has none.
  ASSERT_TRUE(plane().Attach(4, a, std::nullopt).ok());
  EXPECT_EQ(BoundTo(4), a.ifindex);
  EXPECT_EQ(BoundTo(3), 0U);
  EXPECT_TRUE(plane().Detach(3).ok());
  EXPECT_EQ(plane().Attach(4, a, std::nullopt)->repaired, 0U) << "what was let go was not this port's";
  for (const uint32_t port : {2U, 4U}) EXPECT_TRUE(plane().Detach(port).ok());
  EXPECT_TRUE(plane().Bound().empty());
}

TEST_P(DataplaneContract, ADeviceThatHasChangedIsNoDrift) {
  Device a = subject_->MakeDevice("left0");
  ASSERT_TRUE(plane().Attach(2, a, std::nullopt).ok());
  a.mtu = 1400;
  a.mac[5] = 9;
  const auto changed = plane().Attach(2, a, std::nullopt);
  ASSERT_TRUE(changed.ok()) << changed.status();
  EXPECT_EQ(changed->repaired, 0U);
  EXPECT_EQ(BoundTo(2), a.ifindex);
}

INSTANTIATE_TEST_SUITE_P(Both, DataplaneContract, ::testing::Bool(),
                         [](const auto& real) { return real.param ? "Kernel" : "Fake"; });

}  // namespace
}  // namespace headgate::testing
