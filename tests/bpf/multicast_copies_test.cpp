// SPDX-License-Identifier: Apache-2.0
//
// Multicast that has a route: which of it the kernel copies and what the program at the egress is told of it, what
// is for a worker, and what is dropped. What a leg makes of its copy runs at the egress alone: tests/e2e has that.
#include <linux/bpf.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <ctime>

#include "tests/bpf/multicast_gateway.h"

namespace headgate::testing {
namespace {

constexpr char kFeed[] =
    "  - {name: feed, input: {interfaces: [in], group: \"$G\"}, legs: [{interface: out}, {interface: gone}]}\n";

class MulticastCopies : public MulticastProgramTest {
 protected:
  // Of a packet of so many bytes from the network header on.
  std::string FateOf(size_t bytes, const Packet& link = Packet(kEth)) {
    const size_t headers = (ip().ipv6 ? 40 : 20) + 8;
    const Outcome outcome =
        gateway().Run(link / ip().Ip("$FAR", "$G") / Udp{.destination_port = 5001} / Payload(bytes - headers));
    EXPECT_EQ(outcome.route, "feed");
    return outcome.reason;
  }
  template <typename T>
  void Put(const char* map, uint32_t key, const T& value) {
    ASSERT_EQ(bpf_map_update_elem(program().OpenMap(map).get(), &key, &value, BPF_ANY), 0) << strerror(errno);
  }
};
INSTANTIATE_TEST_SUITE_P(Ip, MulticastCopies, ::testing::ValuesIn(kIpNames), NameOf);

TEST_P(MulticastCopies, WhatTheEgressIsTold) {
  Use("  - {name: other, input: {interfaces: [in], group: \"$G2\"}, legs: [{interface: out}]}\n" +
      std::string(kFeed) +
      "  - {name: esp, input: {interfaces: [in], group: \"$G\", protocol: esp}, legs: [{interface: out}]}\n");
  const auto expect = [&](const char* name, const Bytes& frame, const char* route, hg_leg_meta wanted) {
    SCOPED_TRACE(name);
    const Outcome outcome = gateway().Run(frame);
    EXPECT_EQ(outcome.reason, "forward_multicast");
    EXPECT_EQ(outcome.route, route);
    EXPECT_EQ(outcome.output, frame);
    hg_leg_meta meta{};
    ASSERT_EQ(outcome.metadata.size(), sizeof(meta));
    std::memcpy(&meta, outcome.metadata.data(), sizeof(meta));
    EXPECT_NE(meta.stamp, 0U);
    EXPECT_EQ(meta.route, gateway().state().multicast_routes.Get(route)->id);
    EXPECT_EQ(meta.l3, wanted.l3);
    if ((wanted.kind & HG_KIND_PORTS) != 0) {
      EXPECT_EQ(meta.l4, wanted.l4);
    }
    EXPECT_EQ(meta.kind, wanted.kind);
    EXPECT_EQ(meta.protocol, wanted.protocol);
  };
  const uint8_t kind = HG_KIND_IP | (ip().ipv6 ? HG_KIND_IPV6 : HG_KIND_IPV4);
  const uint8_t ports = kind | HG_KIND_PORTS;
  const uint16_t header = ip().ipv6 ? 40 : 20;
  const auto at = [](uint16_t l3, int length, uint8_t bits, uint8_t protocol = IPPROTO_UDP) {
    return hg_leg_meta{.stamp = 0,
                       .route = 0,
                       .l3 = l3,
                       .l4 = static_cast<uint16_t>(l3 + length),
                       .kind = bits,
                       .protocol = protocol};
  };
  const auto rest = ip().Ip("$FAR", "$G") / Udp{} / Payload(40);
  expect("UDP", kEth / rest, "feed", at(14, header, ports));
  expect("another route", Datagram("$FAR", "$G2"), "other", at(14, header, ports));
  expect("tagged", kEth / Vlan{.id = 9} / rest, "feed", at(18, header, ports));
  expect("two tags", kEth / Vlan{.id = 9, .tpid = 0x88a8} / Vlan{.id = 8} / rest, "feed", at(22, header, ports));
  expect("priority tag", kEth / Vlan{.id = 0, .priority = 5} / rest, "feed", at(18, header, ports));
  expect("ESP", kEth / ip().Ip("$FAR", "$G") / Protocol{.number = IPPROTO_ESP, .bytes = Bytes(60)}, "esp",
         at(14, header, kind, IPPROTO_ESP));
  const int fragment_header = ip().ipv6 ? 8 : 0;
  expect("first fragment", FirstFragment("$FAR", "$G", 5001), "feed",
         at(14, header + fragment_header, ports | HG_KIND_FRAGMENT));
  expect("later fragment", LaterFragment("$FAR", "$G"), "feed",
         at(14, 0, kind | HG_KIND_FRAGMENT | HG_KIND_LATER));
  if (ip().ipv6) {
    expect("extension header",
           kEth / ip().Ip("$FAR", "$G") / Ipv6Extension{.type = IPPROTO_DSTOPTS, .extra_units = 2} / Udp{} /
               Payload(9),
           "feed", at(14, header + 24, ports));
  } else {
    const Ipv4 options{.source = ip().Expand("$FAR"), .destination = ip().Expand("$G"), .options = Bytes(40, 1)};
    expect("all the options there may be", kEth / options / Udp{} / Payload(9), "feed", at(14, 60, ports));
    Bytes padded = kEth / ip().Ip("$FAR", "$G") / Udp{};
    padded.resize(60);
    expect("padded", padded, "feed", at(14, header, ports));
  }
}

// Each leg is offered a packet once, and no other route's.
TEST_P(MulticastCopies, AreCountedByRouteAndLeg) {
  Use(std::string(kFeed) +
      "  - {name: other, input: {interfaces: [in], group: \"$G2\"}, legs: [{name: x, interface: gone}, "
      "{interface: out}]}\n"
      "  - {name: one, input: {interfaces: [in], group: \"$G3\"}, legs: [{interface: gone}]}\n");
  const Bytes feed = Datagram("$FAR", "$G"), other = Datagram("$FAR", "$G2", 5001, 1000);
  // One by one: a test run of several would put metadata before that of the one before.
  for (int i = 0; i < 100; ++i) EXPECT_EQ(VerdictName(program().Verdict(feed)), "redirect");
  for (int i = 0; i < 10; ++i) EXPECT_EQ(VerdictName(program().Verdict(other)), "redirect");
  EXPECT_EQ(gateway().RouteCount("feed"), (Count{100, 100 * feed.size()}));
  EXPECT_EQ(gateway().RouteCount("other"), (Count{10, 10 * other.size()}));
  EXPECT_EQ(gateway().RouteCount("one"), Count{});
  using Offered = std::map<std::string, uint64_t>;
  EXPECT_EQ(gateway().Offered(),
            (Offered{{"feed/out", 100}, {"feed/gone", 100}, {"other/x", 10}, {"other/out", 10}, {"one/gone", 0}}));
  // A leg that goes takes its counter along; the others go on, and one of another name begins anew.
  gateway().Configure(
      ip().Expand("multicast_routes:\n"
                  "  - {name: feed, input: {interfaces: [in], group: \"$G\"}, legs: [{interface: gone}]}\n"
                  "  - {name: other, input: {interfaces: [in], group: \"$G2\"}, legs: [{name: y, interface: "
                  "gone}, {interface: out}]}\n"));
  EXPECT_EQ(gateway().Run(feed).reason, "forward_multicast");
  EXPECT_EQ(gateway().Run(other).reason, "forward_multicast");
  EXPECT_EQ(gateway().Offered(), (Offered{{"feed/gone", 101}, {"other/y", 1}, {"other/out", 11}}));
  EXPECT_EQ(gateway().RouteCount("feed").packets, 101U);
}

TEST_P(MulticastCopies, OurOwnPacketsAreNotCopied) {
  Use(kFeed, "default_action: drop\n");
  const auto from = [&](const std::string& mac, const char* group) -> Bytes {
    return Ethernet{.destination = kEth.destination, .source = mac} / ip().Ip("$FAR", group) / Udp{} / Payload(40);
  };
  Expect({
      {"our own", from(LabGateway::kIn, "$G"), "drop_multicast_loop", "feed"},
      {"our own, nobody's", from(LabGateway::kIn, "$G2"), "drop_default"},
      {"of another device", from(LabGateway::kOut, "$G"), "forward_multicast", "feed"},
      {"all but the last byte", from("02:00:00:00:0a:00", "$G"), "forward_multicast", "feed"},
      {"all but the first byte", from("06:00:00:00:0a:01", "$G"), "forward_multicast", "feed"},
  });
}

// By the smallest MTU of the route's devices.
TEST_P(MulticastCopies, UpToTheSmallestMtu) {
  SetPort("out", "out0", LabGateway::kOut, {.mtu = 1400});
  SetPort("gone", "side0", LabGateway::kSide, {.mtu = 1300});
  SetPort("in", "in0", LabGateway::kIn, {.mtu = 1280});
  const Packet two_tags = kEth / Vlan{.id = 1, .tpid = 0x88a8} / Vlan{.id = 2};
  Use(kFeed);
  EXPECT_EQ(FateOf(1300), "forward_multicast");
  EXPECT_EQ(FateOf(1301), "drop_multicast_no_worker");
  EXPECT_EQ(FateOf(1300, kEth / Vlan{.id = 1}), "forward_multicast");
  EXPECT_EQ(FateOf(1301, kEth / Vlan{.id = 1}), "drop_multicast_no_worker");
  // Beyond it, the kernel has room for one tag.
  EXPECT_EQ(FateOf(1296, two_tags), "forward_multicast");
  EXPECT_EQ(FateOf(1297, two_tags), "drop_multicast_no_worker");
  Use("  - {name: feed, input: {interfaces: [in], group: \"$G\"}, legs: [{interface: out}]}\n");
  EXPECT_EQ(FateOf(1400), "forward_multicast");
  EXPECT_EQ(FateOf(1401), "drop_multicast_no_worker");
  // Of a device that is not there nothing is asked.
  SetPort("gone", "side0", LabGateway::kSide, {.mtu = 100, .exists = false});
  Use(kFeed);
  EXPECT_EQ(FateOf(1400), "forward_multicast");
  EXPECT_EQ(FateOf(1401), "drop_multicast_no_worker");
  SetPort("out", "out0", LabGateway::kOut, {.exists = false});
  Use(kFeed);
  EXPECT_EQ(FateOf(1500), "forward_multicast") << "to nobody, and the legs count that";
}

TEST_P(MulticastCopies, OnlyBetweenNativeDevices) {
  const std::pair<const char*, const char*> devices[] = {{"in", "in0"}, {"out", "out0"}, {"gone", "side0"}};
  for (const auto& [interface, device] : devices) {
    SCOPED_TRACE(interface);
    SetPort(interface, device, LabGateway::kIn, {.native = false});
    Use(kFeed);
    EXPECT_EQ(FateOf(100), "drop_multicast_no_worker");
    SetPort(interface, device, LabGateway::kIn, {});
    Use(kFeed);
    EXPECT_EQ(FateOf(100), "forward_multicast");
  }
}

// CVE-2026-64355. A test run puts what is beyond a page in further buffers.
TEST_P(MulticastCopies, PacketsOfSeveralBuffersAreNotCopied) {
  SetPort("in", "in0", LabGateway::kIn, {.mtu = 9000});
  SetPort("out", "out0", LabGateway::kOut, {.mtu = 9000});
  SetPort("gone", "side0", LabGateway::kSide, {.mtu = 9000});
  Use(kFeed);
  EXPECT_EQ(FateOf(3000), "forward_multicast");
  EXPECT_EQ(FateOf(8000), "drop_multicast_no_worker");
}

// It says something else to the program at the egress, and would fill the room.
TEST_P(MulticastCopies, MetadataThatAPacketCameWithGivesWay) {
  Use(kFeed);
  for (const uint32_t size : {4U, 16U, 32U}) {
    SetIngress({.metadata = size});
    const RunResult result = program().Run(Datagram("$FAR", "$G"), gateway().Port("in"));
    EXPECT_EQ(result.reason, "forward_multicast");
    EXPECT_EQ(result.metadata.size(), sizeof(hg_leg_meta));
  }
}

// What the kernel cannot copy goes to the worker of the packet's queue, if that is there and takes it.
TEST_P(MulticastCopies, AWorkerTakesTheOthers) {
  constexpr uint32_t kQueue = 1;
  SetPort("out", "out0", LabGateway::kOut, {.mtu = 9000});
  SetPort("gone", "side0", LabGateway::kSide, {.mtu = 1000});
  Use(kFeed);
  SetIngress({.queue = kQueue});
  const Bytes frame = Datagram("$FAR", "$G", 5001, 1000), large = Datagram("$FAR", "$G", 5001, 8000);
  const auto reason = [&](const Bytes& packet) {
    const RunResult result = program().Run(packet, gateway().Port("in"));
    EXPECT_EQ(result.metadata.empty(), VerdictOf(result.reason) == XDP_DROP) << result.reason;
    return result.reason;
  };
  EXPECT_EQ(reason(frame), "drop_multicast_no_worker");

  const uint32_t key = gateway().Port("in") * HG_QUEUES_PER_PORT + kQueue;
  const Fd socket(::socket(AF_XDP, SOCK_RAW, 0));
  ASSERT_TRUE(socket);
  Put("hg_xsks", key, socket.get());
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  const uint64_t soon = static_cast<uint64_t>(now.tv_sec + 60) * 1'000'000'000;
  EXPECT_EQ(reason(frame), "drop_multicast_no_worker") << "it never came round";
  Put("hg_queues", key, hg_queue{.beat = soon, .looked = HG_QUEUE_RING});
  const RunResult taken = program().Run(frame, gateway().Port("in"));
  EXPECT_EQ(taken.reason, "forward_multicast_worker");
  EXPECT_EQ(taken.output, frame);
  hg_steer_meta meta{};
  ASSERT_EQ(taken.metadata.size(), sizeof(meta));
  std::memcpy(&meta, taken.metadata.data(), sizeof(meta));
  EXPECT_EQ(meta.rule_id, gateway().state().multicast_routes.Get("feed")->id);
  EXPECT_EQ(meta.target, HG_TARGET_MULTICAST);
  EXPECT_EQ(meta.port, gateway().Port("in"));
  EXPECT_EQ(meta.l3, 14);
  EXPECT_EQ(meta.l4, ip().ipv6 ? 54 : 34);

  EXPECT_EQ(reason(Datagram("$FAR", "$G")), "forward_multicast") << "what the kernel can copy it does";
  EXPECT_EQ(reason(large), "drop_multicast_no_worker") << "of several buffers, for a socket that takes one";
  Put("hg_queues", key, hg_queue{.beat = soon, .flags = HG_QUEUE_FRAGS});
  EXPECT_EQ(reason(large), "forward_multicast_worker");
  Put("hg_target_state", HG_TARGET_MULTICAST, hg_target_state{.absent = 1});
  EXPECT_EQ(reason(frame), "drop_multicast_no_worker") << "nobody replicates";
  Put("hg_target_state", HG_TARGET_MULTICAST, hg_target_state{});
  EXPECT_EQ(reason(frame), "forward_multicast_worker");
  SetIngress({.queue = 0});
  EXPECT_EQ(reason(frame), "drop_multicast_no_worker") << "of another queue";
  Put("hg_queues", key, hg_queue{});
  bpf_map_delete_elem(program().OpenMap("hg_xsks").get(), &key);
}

// Tables that say what no configuration does.
TEST_P(MulticastCopies, BrokenTables) {
  Use(kFeed);
  const uint32_t in = gateway().Port("in");
  const Fd fanouts = program().OpenMap("hg_fanout_maps");
  for (uint32_t i = 0; i < HG_FANOUTS; ++i) bpf_map_delete_elem(fanouts.get(), &i);
  EXPECT_EQ(program().Run(Datagram("$FAR", "$G"), in).reason, "drop_internal");
  Use(kFeed);
  EXPECT_EQ(program().Run(Datagram("$FAR", "$G"), in).reason, "forward_multicast");
}

}  // namespace
}  // namespace headgate::testing
