// SPDX-License-Identifier: Apache-2.0
//
// Watch: which events come of what, that a slow watcher loses events by number and holds up nobody, and that
// streams end with the agent.
#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <bpf/bpf.h>
#include <grpcpp/grpcpp.h>

#include <map>
#include <mutex>
#include <thread>

#include "agent/base/fd.h"
#include "bpf/hg_abi.h"
#include "tests/harness/live_gateway.h"
#include "tests/harness/plain_stub.h"

namespace headgate::testing {
namespace {

using Watcher = std::unique_ptr<Client::Watcher>;

class WatchTest : public LiveGatewayTest {
 protected:
  WatchTest() : LiveGatewayTest("watch", {{"--drift-interval", "0.2"}}) {}

  std::string Pin(const std::string& map) { return agent().pins() + "/maps/" + map; }
  void PutRule(const std::string& name, uint32_t priority) {
    api().PatchYaml(absl::StrCat("upsert: {rules: [{name: ", name, ", priority: ", priority,
                                 ", match: {protocol: tcp}, action: {drop: {}}}]}"));
  }
};

TEST_F(WatchTest, AGenerationAppliedIsTold) {
  NowAndAfterRestart([&] {
    const Watcher watcher = api().Watch();
    for (uint32_t i = 0; i < 20; ++i) {
      const uint64_t generation = api().Status().desired_generation() + 1;
      PutRule(absl::StrCat("r", api().Status().desired_generation()), 1000 + static_cast<uint32_t>(generation));
      const auto event =
          watcher->Next([](const pb::Event& e) { return e.type() == pb::EVENT_TYPE_GENERATION_APPLIED; });
      ASSERT_TRUE(event.has_value());
      EXPECT_EQ(event->generation(), generation);
      EXPECT_EQ(event->missed(), 0U);
      EXPECT_GT(event->time().seconds(), 1'700'000'000);
    }
  });
}

TEST_F(WatchTest, OnlyTheTypesAskedForCome) {
  const Watcher drift = api().Watch({pb::EVENT_TYPE_DRIFT_REPAIRED}), all = api().Watch();
  api().PatchYaml("upsert: {rules: [{name: wire, priority: 10, action: {pass: {}, sample: {one_in: 1}}}]}");
  EXPECT_EQ(FateOfPort(53), "pass_rule");
  // The sample comes to whom it was promised only.
  const Watcher samples = api().Watch({pb::EVENT_TYPE_SAMPLE});
  EXPECT_EQ(FateOfPort(54), "pass_rule");
  EXPECT_TRUE(samples->Next([](const pb::Event&) { return true; }).has_value());
  PutRule("marker", 77);
  const auto last = all->Next([](const pb::Event& event) {
    EXPECT_NE(event.type(), pb::EVENT_TYPE_SAMPLE);
    return event.generation() == 3;
  });
  EXPECT_TRUE(last.has_value());
  EXPECT_FALSE(drift->Next([](const pb::Event&) { return true; }, std::chrono::milliseconds(0)).has_value());
}

TEST_F(WatchTest, UnknownTypesAreRefused) {
  for (const int type : {static_cast<int>(pb::EVENT_TYPE_UNSPECIFIED), 99, -1}) {
    pb::WatchRequest request;
    request.add_types(pb::EVENT_TYPE_SAMPLE);
    request.add_types(static_cast<pb::EventType>(type));
    const auto stub = PlainStub(agent().address());
    grpc::ClientContext context;
    const auto reader = stub->Watch(&context, request);
    pb::Event event;
    EXPECT_FALSE(reader->Read(&event));
    const grpc::Status status = reader->Finish();
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << type;
    EXPECT_TRUE(absl::StartsWith(status.error_message(), "types[1]: ")) << status.error_message();
  }
}

TEST_F(WatchTest, InterfacesComeAndGo) {
  api().PatchYaml(R"(
upsert:
  interfaces: [{name: extra, device: x0}]
  rules: [{name: extra, priority: 90, match: {interface: extra}, action: {drop: {}}}]
)");
  NowAndAfterRestart([&] {
    const Watcher watcher = api().Watch();
    const auto change = [&](const char* text) {
      const auto event = watcher->Next([&](const pb::Event& e) {
        return e.type() == pb::EVENT_TYPE_INTERFACE_CHANGE && e.name() == "extra" &&
               absl::StrContains(e.message(), text);
      });
      EXPECT_TRUE(event.has_value()) << "no event says " << text;
      EXPECT_EQ(event.value_or(pb::Event()).kind(), pb::KIND_INTERFACE);
    };
    const auto status = [&](pb::ObjectStatus::State state) {
      const auto event = watcher->Next([&](const pb::Event& e) {
        return e.type() == pb::EVENT_TYPE_OBJECT_STATUS && e.name() == "extra" && e.status().state() == state;
      });
      EXPECT_TRUE(event.has_value()) << pb::ObjectStatus::State_Name(state);
      EXPECT_EQ(api().GetObject(pb::KIND_INTERFACE, "extra").status().state(), state);
    };
    EXPECT_EQ(api().GetObject(pb::KIND_RULE, "extra").status().state(), pb::ObjectStatus::STATE_PENDING);
    lab().Link("gw", "x0", "server", "x1");
    status(pb::ObjectStatus::STATE_APPLIED);
    ASSERT_TRUE(WaitFor([&] { return api().GetObject(pb::KIND_INTERFACE, "extra").interface_state().up(); }));
    EXPECT_EQ(api().GetObject(pb::KIND_RULE, "extra").status().state(), pb::ObjectStatus::STATE_APPLIED);
    lab().Ip("gw", "link set x0 down");
    change(" down");
    lab().Ip("gw", "link set x0 up");
    change(" up");
    lab().Ip("gw", "link del x0");
    change("is gone");
    status(pb::ObjectStatus::STATE_PENDING);
    ExpectDocumentInForce();
  });
}

TEST_F(WatchTest, DriftIsRepairedAndTold) {
  NowAndAfterRestart([&] {
    const Watcher watcher = api().Watch({pb::EVENT_TYPE_DRIFT_REPAIRED});
    const uint64_t before = api().Status().drift_repaired();
    // Somebody writes over every action in use: packets would be passed.
    const Fd actions(bpf_obj_get(Pin("hg_actions").c_str()));
    ASSERT_TRUE(actions);
    for (uint32_t i = 1; i < 16; ++i) {
      const hg_action nothing{};
      ASSERT_EQ(bpf_map_update_elem(actions.get(), &i, &nothing, BPF_ANY), 0);
    }
    const auto event = watcher->Next([](const pb::Event&) { return true; });
    ASSERT_TRUE(event.has_value());
    EXPECT_EQ(event->generation(), api().Status().applied_generation());
    EXPECT_FALSE(event->message().empty());
    EXPECT_GT(api().Status().drift_repaired(), before);
    ExpectDocumentInForce();

    // And over the word that says which generation packets use.
    const Fd active(bpf_obj_get(Pin("hg_active").c_str()));
    const uint32_t zero = 0;
    const hg_active none{.root = 0, .abi = HG_ABI_VERSION};
    ASSERT_EQ(bpf_map_update_elem(active.get(), &zero, &none, BPF_ANY), 0);
    EXPECT_TRUE(watcher->Next([](const pb::Event&) { return true; }).has_value());
    ExpectDocumentInForce();

    // And takes the program off a device, as an operator may.
    const uint32_t port = api().GetObject(pb::KIND_INTERFACE, "in").id();
    const Fd link(bpf_obj_get(absl::StrCat(agent().pins(), "/links/port-", port).c_str()));
    ASSERT_EQ(bpf_link_detach(link.get()), 0);
    EXPECT_TRUE(watcher->Next([](const pb::Event&) { return true; }).has_value());
    ExpectDocumentInForce();
  });
}

TEST_F(WatchTest, ASlowWatcherIsToldWhatItMissed) {
  api().PatchYaml(
      "upsert: {rules: [{name: wire, priority: 10, match: {interface: in}, action: {drop: {}, sample: {one_in: "
      "1}}}]}");
  const auto stub = PlainStub(agent().address());
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(60));
  pb::WatchRequest request;
  request.add_types(pb::EVENT_TYPE_SAMPLE);
  const auto reader = stub->Watch(&context, request);
  reader->WaitForInitialMetadata();

  // Nothing is read while far more comes than connection and queue hold.
  constexpr uint64_t kPackets = 40'000;
  const Bytes frame = Ethernet{} / Ipv4{} / Udp{} / Payload(1000);
  const uint64_t before = api().Rule("wire").packets();
  for (uint64_t i = 0; i < kPackets; ++i) client().Send(frame);
  ASSERT_TRUE(WaitFor([&] { return api().Rule("wire").packets() == before + kPackets; }));
  // Meanwhile everything else goes on.
  PutRule("marker", 77);
  EXPECT_EQ(FateOfPort(9), "drop_rule");
  EXPECT_EQ(FateOfPort(7005), "forward_next_hop");

  std::mutex mutex;
  uint64_t received = 0, missed = 0;
  std::thread thread([&] {
    for (pb::Event event; reader->Read(&event);) {
      const std::lock_guard lock(mutex);
      ++received;
      missed += event.missed();
      EXPECT_EQ(event.type(), pb::EVENT_TYPE_SAMPLE);
    }
  });
  // Every sample was received, missed by this watcher, or lost before it came to the agent, which Stats says.
  const auto accounted = [&] {
    const std::lock_guard lock(mutex);
    return received + missed + api().Stats().samples_lost();
  };
  EXPECT_TRUE(WaitFor([&] { return accounted() == kPackets; })) << accounted();
  {
    const std::lock_guard lock(mutex);
    EXPECT_GT(missed, 0U);
    EXPECT_GT(received, 0U);
  }
  context.TryCancel();
  thread.join();
  reader->Finish();
}

TEST_F(WatchTest, ManyWatchersSeeTheSame) {
  NowAndAfterRestart([&] {
    std::vector<Watcher> watchers;
    watchers.reserve(60);
    for (int i = 0; i < 60; ++i) watchers.push_back(api().Watch());
    uint64_t generation = 0;
    for (int i = 0; i < 10; ++i) {
      generation = api()
                       .PatchYaml(absl::StrCat("upsert: {default_action: ", i % 2 == 0 ? "drop" : "pass", "}"))
                       .generation();
    }
    for (const Watcher& watcher : watchers) {
      uint64_t last = generation - 10;
      const auto end = watcher->Next([&](const pb::Event& event) {
        if (event.type() != pb::EVENT_TYPE_GENERATION_APPLIED) return false;
        EXPECT_EQ(event.generation(), last + 1);
        last = event.generation();
        return last == generation;
      });
      EXPECT_TRUE(end.has_value());
    }
    // Those that leave make room: the agent serves on with all of them gone.
    watchers.clear();
    ExpectDocumentInForce();
  });
}

TEST_F(WatchTest, StreamsEndWithTheAgent) {
  std::vector<Watcher> watchers;
  watchers.reserve(5);
  for (int i = 0; i < 5; ++i) watchers.push_back(api().Watch());
  const auto updates = api().Update();
  pb::UpdateRequest request;
  request.set_id(5);
  ASSERT_TRUE(updates->Send(request));
  ASSERT_TRUE(updates->Receive().has_value());
  const auto stub = PlainStub(agent().address());
  grpc::ClientContext context;
  const auto stats = stub->StreamStats(&context, {});
  pb::StatsResponse response;
  ASSERT_TRUE(stats->Read(&response));

  EXPECT_EQ(agent().Stop(), 0);
  while (stats->Read(&response)) continue;
  const grpc::Status end = stats->Finish();
  EXPECT_TRUE(end.ok() || end.error_code() == grpc::StatusCode::UNAVAILABLE) << end.error_message();
  EXPECT_FALSE(updates->Receive().has_value());
  agent().Start();
  ExpectDocumentInForce();
}

}  // namespace
}  // namespace headgate::testing
