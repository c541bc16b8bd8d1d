// SPDX-License-Identifier: Apache-2.0
//
// What legs make of tags, TTLs, and protocols whose payload is nobody's business.
#include <functional>

#include "tests/e2e/multicast_rewrite.h"

namespace headgate::testing {
namespace {

class MulticastRewriteLegs : public MulticastRewrite {
 protected:
  Ethernet Out(int i) { return {.destination = kMac, .source = EgressMac(i)}; }
};

// Tags are kept, taken off and put on: where there is one it is written, and its priority stays.
TEST_F(MulticastRewriteLegs, Vlans) {
  Apply(R"(
  - name: feed
    input: {interfaces: [in], group: 239.1.1.1}
    legs: [{interface: out1}, {interface: out2, vlan: 0}, {interface: out3, vlan: 42, source: 10.9.9.9}]
)");
  const Ethernet in{.destination = kMac};
  const auto rest = [](const char* source, int ttl) {
    return Ipv4{.source = source, .destination = "239.1.1.1", .ttl = static_cast<uint8_t>(ttl)} / Udp{} /
           Payload(100);
  };
  const Packet sent = rest("172.16.9.9", 64), kept = rest("172.16.9.9", 63), changed = rest("10.9.9.9", 63);
  const Vlan tag{.id = 7, .priority = 5}, outer{.id = 8, .priority = 3, .tpid = 0x88a8};
  NowAndAfterRestart([&] {
    ExpectCopies("untagged", in / sent,
                 {{1, Out(1) / kept}, {2, Out(2) / kept}, {3, Out(3) / Vlan{.id = 42} / changed}});
    ExpectCopies(
        "one tag", in / tag / sent,
        {{1, Out(1) / tag / kept}, {2, Out(2) / kept}, {3, Out(3) / Vlan{.id = 42, .priority = 5} / changed}});
    ExpectCopies("two tags", in / outer / tag / sent,
                 {{1, Out(1) / outer / tag / kept},
                  {2, Out(2) / tag / kept},
                  {3, Out(3) / Vlan{.id = 42, .priority = 3, .tpid = 0x88a8} / tag / changed}});
    ExpectCopies("a priority tag", in / Vlan{.id = 0, .priority = 6} / sent,
                 {{1, Out(1) / Vlan{.id = 0, .priority = 6} / kept},
                  {2, Out(2) / kept},
                  {3, Out(3) / Vlan{.id = 42, .priority = 6} / changed}});
  });
}

// Beyond its MTU the kernel takes the Ethernet header and one tag: of a frame that it would not take there are no
// copies to miss.
TEST_F(MulticastRewriteLegs, TagsAndTheMtu) {
  Apply(
      "  - {name: feed, input: {interfaces: [in], group: 239.1.1.1}, legs: [{interface: out1}, {interface: "
      "out2}]}\n");
  lab().Ip("client", "link set c0 mtu 1600");
  lab().Ip("gw", "link set g0 mtu 1600");
  const Packet one = Ethernet{.destination = kMac} / Vlan{.id = 7},
               two = Ethernet{.destination = kMac} / Vlan{.id = 8, .tpid = 0x88a8} / Vlan{.id = 7};
  const auto of_size = [](const Packet& link, size_t bytes) -> Bytes {
    return link / Ipv4{.destination = "239.1.1.1", .dont_fragment = true} / Udp{} /
           Payload(bytes - kIpv4Header - 8);
  };
  const struct {
    Bytes frame;
    bool copied;
  } cases[] = {{of_size(one, 1500), true},
               {of_size(one, 1501), false},
               {of_size(two, 1496), true},
               {of_size(two, 1497), false}};
  uint64_t too_big = 0;
  for (const auto& [frame, copied] : cases) {
    SCOPED_TRACE(frame.size());
    if (!copied) {
      EXPECT_TRUE(WaitFor([&] { return Fate(frame) == "forward_multicast_worker"; }));
      EXPECT_TRUE(WaitFor([&] { return Leg("feed", "out1").dropped_too_big_packets() > too_big; }));
      too_big = Leg("feed", "out1").dropped_too_big_packets();
      continue;
    }
    EXPECT_EQ(Fate(frame), "forward_multicast");
    for (const int i : {1, 2}) EXPECT_EQ(Copy(i).size(), frame.size()) << i;
  }
  EXPECT_EQ(Leg("feed", "out1").dropped_no_device_packets(), 0U);
}

// What leaves, leaves with at least the threshold; what expires does not, and is counted.
TEST_F(MulticastRewriteLegs, Ttls) {
  Apply(R"(
  - name: feed
    input: {interfaces: [in], group: 239.1.1.1}
    legs: [{interface: out1, ttl: {threshold: 10}}, {interface: out2, ttl: {set: 1}}, {interface: out3}]
  - name: six
    input: {interfaces: [in], group: "ff3e::1234"}
    legs: [{interface: out1, ttl: {threshold: 10}}, {interface: out2, ttl: {set: 1}}, {interface: out3}]
)");
  const auto four = [](const Ethernet& link, int ttl, uint8_t mark) -> Bytes {
    return link / Ipv4{.destination = "239.1.1.1", .ttl = static_cast<uint8_t>(ttl)} / Udp{} / Payload(60, mark);
  };
  const auto six = [](const Ethernet& link, int ttl, uint8_t mark) -> Bytes {
    return Ethernet{.destination = kMac6, .source = link.source} /
           Ipv6{.destination = "ff3e::1234", .hop_limit = static_cast<uint8_t>(ttl)} / Udp{} / Payload(60, mark);
  };
  // The mark tells one frame from another with the same TTL: each receiver gets those it is to get in order.
  const int ttls[] = {255, 12, 11, 10, 9, 2, 1, 0, 64};
  for (const auto& frame : {std::function(four), std::function(six)}) {
    for (uint8_t mark = 0; mark < std::size(ttls); ++mark) {
      SCOPED_TRACE(ttls[mark]);
      client().Send(frame({.destination = kMac}, ttls[mark], mark));
      const int left = ttls[mark] - 1;
      if (left >= 10) {
        EXPECT_EQ(Copy(1), frame(Out(1), left, mark));
      }
      EXPECT_EQ(Copy(2), frame(Out(2), 1, mark));
      if (left >= 1) {
        EXPECT_EQ(Copy(3), frame(Out(3), left, mark));
      }
    }
  }
  for (const char* route : {"feed", "six"}) {
    SCOPED_TRACE(route);
    EXPECT_EQ(Leg(route, "out1").sent_packets(), 4U);
    EXPECT_EQ(Leg(route, "out1").dropped_ttl_packets(), 5U);
    EXPECT_EQ(Leg(route, "out2").dropped_ttl_packets(), 0U);
    EXPECT_EQ(Leg(route, "out3").sent_packets(), 7U);
    EXPECT_EQ(Leg(route, "out3").dropped_ttl_packets(), 2U);
  }
}

// The checksum covers the header alone, as many applications want it (RFC 3828), and the addresses.
Bytes UdpLite(const std::string& source, const std::string& destination) {
  Bytes bytes = {0x0f, 0xa0, 0x13, 0x89, 0, 8, 0, 0};
  bytes.resize(60, 0x99);
  uint32_t sum = IPPROTO_UDPLITE + static_cast<uint32_t>(bytes.size());
  const Bytes header = Ipv4{.source = source, .destination = destination} / Payload(0);
  for (size_t at = 12; at < kIpv4Header; at += 2) sum += static_cast<uint32_t>(Word(header, at));
  SetWord(bytes, kUdpChecksum, InternetChecksum(bytes.data(), 8, sum));
  return bytes;
}

// Addresses are written in the IP header; what protocols have of them in a checksum is kept for UDP-Lite, and of
// the others nothing is touched.
TEST_F(MulticastRewriteLegs, OtherProtocols) {
  std::string routes;
  for (const char* protocol : {"udplite", "esp", "sctp", "gre", "\"200\""}) {
    absl::StrAppend(&routes, "  - {name: p", routes.size(),
                    ", input: {interfaces: [in], group: 239.1.1.1, protocol: ", protocol,
                    "}, legs: [{interface: out1}, {interface: out2, group: 239.2.2.2, source: egress}]}\n");
  }
  Apply(routes);
  const auto frame = [](const Ethernet& link, Ipv4 ip, int protocol, const Bytes& bytes) -> Bytes {
    return link / ip / Protocol{.number = static_cast<uint8_t>(protocol), .bytes = bytes};
  };
  const Ipv4 sent{.source = "172.16.9.9", .destination = "239.1.1.1"};
  const Ipv4 first{.source = "172.16.9.9", .destination = "239.1.1.1", .ttl = 63};
  const Ipv4 second{.source = "10.0.2.1", .destination = "239.2.2.2", .ttl = 63};
  const Ethernet in{.destination = kMac}, out2{.destination = kMac2, .source = EgressMac(2)};
  Bytes numbers(90);
  for (size_t i = 0; i < numbers.size(); ++i) numbers[i] = static_cast<uint8_t>(i + 1);
  for (const int protocol : std::initializer_list<int>{IPPROTO_ESP, IPPROTO_SCTP, IPPROTO_GRE, 200}) {
    ExpectCopies(absl::StrCat("protocol ", protocol).c_str(), frame(in, sent, protocol, numbers),
                 {{1, frame(Out(1), first, protocol, numbers)}, {2, frame(out2, second, protocol, numbers)}});
  }
  const Bytes same = UdpLite("172.16.9.9", "239.1.1.1");
  ExpectCopies("UDP-Lite", frame(in, sent, IPPROTO_UDPLITE, same),
               {{1, frame(Out(1), first, IPPROTO_UDPLITE, same)},
                {2, frame(out2, second, IPPROTO_UDPLITE, UdpLite("10.0.2.1", "239.2.2.2"))}});
}

}  // namespace
}  // namespace headgate::testing
