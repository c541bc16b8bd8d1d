// SPDX-License-Identifier: Apache-2.0
//
// Multicast while something goes wrong: devices and addresses that change under it, receivers that do not keep up,
// packets that are none. Whoever has no part in it loses nothing, and of the others each copy is in a counter.
#include "bench/netns.h"
#include "bench/proc_net.h"
#include "tests/e2e/multicast_paths.h"

namespace headgate::testing {
namespace {

class MulticastTrouble : public MulticastPathTest {
 protected:
  MulticastTrouble() : MulticastPathTest("mctrouble", 4) {}

  // All a receiver is to get, and no more.
  void ExpectDelivered(int i, const std::string& source, uint64_t frames) {
    EXPECT_TRUE(WaitFor([&] { return DeliveredFrom(i, source) == frames; }))
        << DeliveredFrom(i, source) << " of " << frames << " at receiver " << i;
  }
  bool IsAttached(const std::string& interface) {
    const pb::InterfaceState state = api().GetObject(pb::KIND_INTERFACE, interface).interface_state();
    return state.up() && state.mode() == pb::ATTACH_MODE_NATIVE;
  }
  // Frames that left by the gateway's device e`i` and were dropped there, whoever sent them.
  uint64_t DroppedByDevice(int i) {
    const std::string device = absl::StrCat("e", i);
    return ByWorkers() ? Value(bench::ReadTransmitDrops(lab().Name("gw"), device))
                       : api().Interface(absl::StrCat("out", i)).transmit_dropped_packets();
  }
};
INSTANTIATE_TEST_SUITE_P(Path, MulticastTrouble, kBothPaths, PathName);

// A source's device goes and comes back: it is served again, and the other source's stream never stops.
TEST_P(MulticastTrouble, TheIngressIsDeletedAndReCreated) {
  constexpr uint64_t kPackets = 2000;
  ApplyRoutes("  - {name: feed, input: {interfaces: [in, out3], group: 239.1.1.1}, legs: [{interface: out1}" +
                  Extra(1) + "]}\n",
              {"in", "out3"});
  StartTally(1);
  uint64_t due = 0;
  const auto other = Stream(From("172.16.0.3"), Modest() / 4, 0, "r3", "d3");
  NowAndAfterRestart(
      [&] {
        Ok(Stream(From("172.16.0.1"), Modest() / 4, kPackets)->Wait());
        ExpectDelivered(1, "172.16.0.1", due += kPackets);
        client_.reset();
        lab().Ip("gw", "link del g0");
        ASSERT_TRUE(WaitFor([&] { return !IsAttached("in") && !(ByWorkers() && ReadByWorkers("in")); }));
        lab().Link("client", "c0", "gw", "g0");
        ASSERT_TRUE(WaitFor([&] { return IsAttached("in"); }));
        AwaitPath({"in", "out3"});
        Ok(Stream(From("172.16.0.1"), Modest() / 4, kPackets)->Wait());
        ExpectDelivered(1, "172.16.0.1", due += kPackets);
        // Of what comes while the agent is away the workers' path loses what it says.
        if (ByWorkers()) Ok(other->Stop());
      },
      {"in", "out3"});
  Ok(other->Stop());
  ExpectDelivered(1, "172.16.0.3", other->sent());
}

// Copies that leave with their device's address leave with the one it has at the moment.
TEST_P(MulticastTrouble, TheEgressAddressChanges) {
  ApplyRoutes(
      "  - {name: feed, input: {interfaces: [in], group: 239.1.1.1}, legs: [{interface: out1, source: egress}, "
      "{interface: out2}" +
      Extra(2) + "]}\n");
  StartTallies();
  const auto count = [this](const std::string& source) { return DeliveredFrom(1, source); };
  uint64_t sent = 0;
  NowAndAfterRestart([&] {
    const auto sender = Stream(From("172.16.0.1"), Modest() / 2);
    // There is always one: nothing is lost.
    std::string now = "10.0.1.1";
    for (const char* next : {"10.77.0.1", "10.78.0.1", "10.0.1.1"}) {
      const uint64_t before = count(now);
      ASSERT_TRUE(WaitFor([&] { return count(now) > before + 500; })) << now;
      AddAddress(1, absl::StrCat(next, "/24"));
      lab().Ip("gw", absl::StrCat("addr del ", now, "/24 dev e1"));
      now = next;
    }
    const uint64_t before = count(now);
    ASSERT_TRUE(WaitFor([&] { return count(now) > before + 500; })) << now;
    Ok(sender->Stop());
    sent += sender->sent();
    uint64_t all = 0;
    EXPECT_TRUE(WaitFor([&] {
      all = count("10.0.1.1") + count("10.77.0.1") + count("10.78.0.1");
      return all == sent;
    })) << all
        << " of " << sent;
    ExpectDelivered(2, "172.16.0.1", sent);
  });
  // There is none for a while: those are counted.
  const auto sender = Stream(From("172.16.0.1"), Modest() / 2);
  lab().Ip("gw", "addr flush dev e1");
  ASSERT_TRUE(WaitFor([&] { return Leg("feed", "out1").dropped_no_source_packets() > 500; }));
  AddAddress(1, "10.79.0.1/24");
  ASSERT_TRUE(WaitFor([&] { return count("10.79.0.1") > 500; }));
  Ok(sender->Stop());
  sent += sender->sent();
  ExpectDelivered(2, "172.16.0.1", sent);
  EXPECT_TRUE(WaitFor([&] { return Leg("feed", "out1").offered_packets() == sent; }));
  const pb::MulticastLegStats leg = Leg("feed", "out1");
  ExpectAccount(leg);
  EXPECT_EQ(leg.sent_packets() + leg.dropped_no_source_packets(), sent);
  EXPECT_TRUE(WaitFor([&] { return Delivered(1) == leg.sent_packets(); }))
      << Delivered(1) << ": " << leg.DebugString();
}

// One whose ring is full all the time, and one whose end is down.
TEST_P(MulticastTrouble, StuckReceiversHarmNobodyElse) {
  constexpr uint32_t kDelay = 300'000;
  constexpr uint64_t kPackets = 20'000;
  ApplyRoutes(
      "  - {name: feed, input: {interfaces: [in], group: 239.1.1.1}, legs: [{interface: out1}, {interface: out2}, "
      "{interface: out3}, {interface: out4, source: egress}" +
      Extra(1) + "]}\n");
  for (const int i : {1, 2, 4}) StartTally(i, i == 2 ? kDelay : 0);
  Ok(bench::RunNapiInThreads(lab().Name("r2"), "d2", {.cpu = 1}));
  lab().Ip("r3", "link set d3 down");
  uint64_t sent = 0;
  NowAndAfterRestart([&] {
    const auto sender = Stream(From("172.16.0.1"), Modest(20'000, 10'000), kPackets);
    Ok(sender->Wait());
    sent += sender->sent();
    ExpectDelivered(1, "172.16.0.1", sent);
    ExpectDelivered(4, "10.0.4.1", sent);
    pb::MulticastLegStats slow;
    EXPECT_TRUE(WaitFor([&] {
      slow = Leg("feed", "out2");
      return slow.offered_packets() == sent && Delivered(2) + DroppedByDevice(2) == slow.sent_packets();
    })) << slow.ShortDebugString()
        << " delivered " << Delivered(2) << ", dropped by the device " << DroppedByDevice(2);
    ExpectAccount(slow);
    EXPECT_LT(Delivered(2), sent) << "it kept up: the test tests nothing";
    const pb::MulticastLegStats down = Leg("feed", "out3");
    ExpectAccount(down);
    EXPECT_EQ(down.offered_packets(), sent);
    EXPECT_TRUE(WaitFor([&] { return DroppedByDevice(3) == Leg("feed", "out3").sent_packets(); }))
        << down.ShortDebugString() << " dropped by the device " << DroppedByDevice(3);
  });
}

// Not one of these is what it says it is.
struct Malformed {
  const char* name;
  const char* reason;
  Bytes frame;
};
std::vector<Malformed> MalformedFrames() {
  const Ethernet link{.destination = "01:00:5e:01:01:01"};
  const auto ip = [](Ipv4 fields) {
    fields.source = "172.16.0.9";
    fields.destination = "239.1.1.1";
    return fields;
  };
  const Protocol esp{.number = IPPROTO_ESP, .bytes = Bytes(100, 0x11)};
  const Udp udp{.source_port = 4000, .destination_port = 5001};
  const Payload payload(100, 0x22);
  return {
      {"UDP, total length of less than the header", "ipv4_length",
       link / ip({.total_length = 19}) / udp / payload},
      {"ESP, total length of less than the header", "ipv4_length", link / ip({.total_length = 10}) / esp},
      {"ESP, no total length", "ipv4_length", link / ip({.total_length = 0}) / esp},
      {"ESP, total length beyond the frame", "ipv4_length", link / ip({.total_length = 1400}) / esp},
      {"options beyond the total length", "ipv4_length", link / ip({.ihl = 15, .total_length = 40}) / udp},
      {"header of 16 bytes", "ipv4_ihl", link / ip({.ihl = 4}) / udp / payload},
      {"no header length, ESP", "ipv4_ihl", link / ip({.ihl = 0}) / esp},
      {"version 5", "ipv4_version", link / ip({.version = 5}) / udp / payload},
      {"truncated in the header", "ipv4_short", Truncate(link / ip({}) / udp / payload, 14 + 12)},
      {"truncated ESP", "ipv4_length", Truncate(link / ip({}) / esp, 14 + 20 + 4)},
      {"no room for UDP", "udp_short", link / ip({.protocol = IPPROTO_UDP}) / Payload(4)},
      {"first fragment without room for UDP", "udp_short",
       link / ip({.more_fragments = true, .protocol = IPPROTO_UDP}) / Payload(4)},
      {"UDP length of 7", "udp_length",
       link / ip({}) / Udp{.source_port = 4000, .destination_port = 5001, .length = 7} / payload},
      {"UDP length beyond the packet", "udp_length",
       link / ip({}) / Udp{.source_port = 4000, .destination_port = 5001, .length = 200} / payload},
      {"fragment that ends beyond 65,535", "fragment_overrun",
       link / ip({.fragment_offset = 8191, .protocol = IPPROTO_ESP}) / Payload(100)},
  };
}

// Beside a stream that loses nothing, each in the counter of what is wrong with it; none of them leaves.
TEST_P(MulticastTrouble, MalformedPacketsHarmNobody) {
  constexpr int kTimes = 50;
  constexpr char kHealthy[] = "172.16.0.1";
  ApplyRoutes("  - {name: udp, input: {interfaces: [in], group: 239.1.1.1}, legs: [{interface: out1}" + Extra(1) +
              "]}\n  - {name: esp, input: {interfaces: [in], group: 239.1.1.1, protocol: esp}, legs: [{interface: "
              "out2}" +
              Extra(2) + "]}\n");
  StartTallies();
  const std::vector<Malformed> frames = MalformedFrames();
  uint64_t sent = 0;
  std::map<std::string, uint64_t> due;
  NowAndAfterRestart([&] {
    const auto sender = Stream(From(kHealthy), Modest() / 2);
    for (int turn = 0; turn < kTimes; ++turn) {
      for (const Malformed& one : frames) {
        client().Send(one.frame);
        ++due[one.reason];
      }
    }
    ASSERT_TRUE(WaitFor([&] { return sender->sent() > 5000; }));
    Ok(sender->Stop());
    sent += sender->sent();
    ExpectDelivered(1, kHealthy, sent);
    for (const auto& one : due) {
      EXPECT_TRUE(WaitFor([&] { return Reason(one.first) == one.second; }))
          << one.first << ": " << Reason(one.first) << " of " << one.second;
    }
    EXPECT_EQ(DeliveredFrom(1, "172.16.0.9"), 0U);
    EXPECT_EQ(Delivered(2), 0U);
    EXPECT_EQ(Route("udp").packets(), sent);
    EXPECT_EQ(Route("esp").packets(), 0U);
  });
}

// Protocol 50 is opaque: it is copied byte for byte, with room for a header of its own or not.
TEST_P(MulticastTrouble, EspIsRelayed) {
  constexpr uint64_t kPackets = 2000;
  ApplyRoutes(
      "  - {name: esp, input: {interfaces: [in], group: 239.1.1.1, protocol: esp}, legs: [{interface: out1, "
      "group: "
      "239.2.2.2, source: egress}, {interface: out2, ttl: {set: 9}}" +
      Extra(1) + "]}\n");
  const auto frame = [](const Ethernet& link, const Ipv4& ip, size_t bytes) -> Bytes {
    Bytes opaque(bytes);
    for (size_t i = 0; i < bytes; ++i) opaque[i] = static_cast<uint8_t>(i * 7 + bytes);
    return link / ip / Protocol{.number = IPPROTO_ESP, .bytes = opaque};
  };
  const Ethernet in{.destination = "01:00:5e:01:01:01"};
  const Ipv4 sent{.source = "172.16.0.1", .destination = "239.1.1.1"};
  const auto is_esp = [](const Bytes& bytes) {
    return IsIp(bytes, IPPROTO_ESP) && bytes[31] != 9;  // not of the extra leg
  };
  NowAndAfterRestart([&] {
    for (const size_t bytes : {1480, 200, 40, 8, 7, 4, 1}) {
      SCOPED_TRACE(bytes);
      client().Send(frame(in, sent, bytes));
      const std::pair<int, Bytes> wanted[] = {
          {1, frame({.destination = "01:00:5e:02:02:02", .source = EgressMac(1)},
                    {.source = "10.0.1.1", .destination = "239.2.2.2", .ttl = 63}, bytes)},
          {2, frame({.destination = "01:00:5e:01:01:01", .source = EgressMac(2)},
                    {.source = "172.16.0.1", .destination = "239.1.1.1", .ttl = 9}, bytes)}};
      for (const auto& [i, copy] : wanted)
        EXPECT_EQ(receivers_[static_cast<size_t>(i)]->Receive(is_esp).value_or(Bytes{}), copy) << i;
    }
  });
  // In a stream.
  StartTallies();
  bench::SendOptions options{
      .device = "c0", .netns = lab().Name("client"), .captured = {{.bytes = frame(in, sent, 1400)}}};
  options.packets_per_second = Modest() / 2;
  options.count = kPackets;
  Ok(Value(bench::Sender::Open(options))->Run());
  ExpectDelivered(1, "10.0.1.1", kPackets);
  ExpectDelivered(2, "172.16.0.1", kPackets);
}

}  // namespace
}  // namespace headgate::testing
