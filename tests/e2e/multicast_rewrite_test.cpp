// SPDX-License-Identifier: Apache-2.0
//
// What legs make of packets that are not as simple as most: options, fragments, and checksums at their edges.
#include <functional>

#include "tests/e2e/multicast_rewrite.h"

namespace headgate::testing {
namespace {

// By the addresses and ports that it has at one place, a frame that carries one payload.
template <typename Ip>
struct Flow {
  const char* name;
  std::function<Bytes(const Packet& link, const Ip& ip, uint16_t from, uint16_t to)> frame;
  Ip ip = {};
};

class MulticastRewriteIpv4 : public MulticastRewrite {
 protected:
  void SetUp() override {
    MulticastRewrite::SetUp();
    if (IsSkipped()) return;
    Apply(R"(
  - name: feed
    input: {interfaces: [in], group: 239.1.1.1}
    legs:
      - {interface: out1}
      - {interface: out2, group: 239.2.2.2, port: 5002, source: egress, source_port: 6000, ttl: {set: 16}, dscp: 46}
      - {interface: out3, source: 10.9.9.9, vlan: 42}
)");
  }
  void Expect(const Flow<Ipv4>& flow) {
    Ipv4 sent = flow.ip, aged = flow.ip;
    sent.source = aged.source = "172.16.9.9";
    sent.destination = aged.destination = "239.1.1.1";
    aged.ttl = static_cast<uint8_t>(sent.ttl - 1);
    Ipv4 second = sent, third = aged;
    second.source = "10.0.2.1";
    second.destination = "239.2.2.2";
    second.ttl = 16;
    second.tos = static_cast<uint8_t>(46 << 2 | (sent.tos & 3));
    third.source = "10.9.9.9";
    const auto link = [this](const char* mac, int i) {
      return Ethernet{.destination = mac, .source = EgressMac(i)};
    };
    ExpectCopies(flow.name, flow.frame(Packet(Ethernet{.destination = kMac}), sent, 4000, 5001),
                 {{1, flow.frame(Packet(link(kMac, 1)), aged, 4000, 5001)},
                  {2, flow.frame(Packet(link(kMac2, 2)), second, 6000, 5002)},
                  {3, flow.frame(link(kMac, 3) / Vlan{.id = 42}, third, 4000, 5001)}});
  }
};

size_t Network(const Bytes& frame) { return frame[12] == 0x81 ? kLink + kTag : kLink; }

template <typename Ip>
auto Datagram(const Bytes& payload) {
  return [payload](const Packet& link, const Ip& ip, uint16_t from, uint16_t to) -> Bytes {
    return link / ip / Udp{.source_port = from, .destination_port = to} / Payload(payload);
  };
}

// A datagram without a checksum.
template <typename Ip>
auto ZeroChecksum(size_t ip_header, Bytes payload) {
  return [=](const Packet& link, const Ip& ip, uint16_t from, uint16_t to) {
    Bytes frame = Datagram<Ip>(payload)(link, ip, from, to);
    SetWord(frame, Network(frame) + ip_header + kUdpChecksum, 0);
    return frame;
  };
}

// Where a checksum comes to zero, which UDP sends as ffff, and where folding its sum carries twice, in either byte
// order.
constexpr int kEdges[] = {0,      1,      0xfffe, 0xfffd, 0xfffc, 0xfffb, 0xfffa, 0xfff9, 0xfff8,
                          0x0100, 0xfeff, 0xfdff, 0xfcff, 0xfbff, 0xfaff, 0xf9ff, 0xf8ff};

// The word by which a checksum comes to `wanted` that would be `without` it.
int WordFor(int wanted, int without) {
  const int sum = 0xffff - wanted + without;
  return (sum & 0xffff) + (sum >> 16);
}

// Two bytes by which this flow's datagram has the checksum.
template <typename Ip>
Bytes PayloadFor(int wanted, const Ip& ip, size_t ip_header, uint16_t from, uint16_t to) {
  const Bytes frame = Datagram<Ip>({0, 0})(Packet(Ethernet{}), ip, from, to);
  Bytes payload(2);
  SetWord(payload, 0, WordFor(wanted, Word(frame, kLink + ip_header + kUdpChecksum)));
  return payload;
}

// The identification by which this IPv4 header has the checksum.
uint16_t IdFor(int wanted, Ipv4 ip) {
  ip.id = 0;
  const Bytes frame = Datagram<Ipv4>(Bytes(2))(Packet(Ethernet{}), ip, 4000, 5001);
  return static_cast<uint16_t>(WordFor(wanted, Word(frame, kLink + kIpv4Checksum)));
}

// A datagram's checksum is in its first fragment, and is over what the others carry, too.
Bytes FirstFragment(const Packet& link, const Ipv4& ip, uint16_t from, uint16_t to) {
  const Bytes payload(600, 0x71), part(payload.begin(), payload.begin() + 96);
  const Bytes whole = Datagram<Ipv4>(payload)(Packet(Ethernet{}), ip, from, to);
  Ipv4 first = ip;
  first.more_fragments = true;
  const int checksum = Word(whole, kLink + kIpv4Header + kUdpChecksum);
  return link / first /
         Udp{.source_port = from,
             .destination_port = to,
             .length = static_cast<uint16_t>(8 + payload.size()),
             .checksum = static_cast<uint16_t>(checksum)} /
         Payload(part);
}

TEST_F(MulticastRewriteIpv4, HeadersAndPayloads) {
  const Bytes payload(100, 0x37);
  NowAndAfterRestart([&] {
    Expect({"plain", Datagram<Ipv4>(payload)});
    Expect({"odd length", Datagram<Ipv4>(Bytes(33, 0xfe))});
    Expect({"nothing in it", Datagram<Ipv4>({})});
    Expect({"one byte", Datagram<Ipv4>({0xff})});
    Expect({"a full packet", Datagram<Ipv4>(Bytes(1472, 0x11))});
    Expect({"a router alert", Datagram<Ipv4>(payload), {.options = {0x94, 4, 0, 0}}});
    Expect({"all the options there may be", Datagram<Ipv4>(payload), {.options = Bytes(40, 1)}});
    Expect({"DSCP and ECN", Datagram<Ipv4>(payload), {.tos = 0xff}});
    Expect({"id and DF", Datagram<Ipv4>(payload), {.id = 0xffff, .dont_fragment = true}});
    Expect({"the highest TTL", Datagram<Ipv4>(payload), {.ttl = 255}});
    Expect({"no checksum", ZeroChecksum<Ipv4>(kIpv4Header, payload)});
    Expect({"first fragment", FirstFragment});
    Expect({"later fragment, whose payload is no header",
            [&](const Packet& link, const Ipv4& ip, uint16_t, uint16_t) -> Bytes {
              return link / ip / Payload(100, 0x71);
            },
            {.fragment_offset = 13, .protocol = IPPROTO_UDP}});
  });
}

// As they are sent, and as the legs make them.
TEST_F(MulticastRewriteIpv4, ChecksumsAtTheirEdges) {
  const Ipv4 sent{.source = "172.16.9.9", .destination = "239.1.1.1"};
  const Ipv4 first{.source = "172.16.9.9", .destination = "239.1.1.1", .ttl = 63};
  const Ipv4 second{.source = "10.0.2.1", .destination = "239.2.2.2", .ttl = 16, .tos = 46 << 2};
  const Ipv4 third{.source = "10.9.9.9", .destination = "239.1.1.1", .ttl = 63};
  for (const int edge : kEdges) {
    SCOPED_TRACE(edge);
    Expect({"sent", Datagram<Ipv4>(PayloadFor(edge, sent, kIpv4Header, 4000, 5001))});
    Expect({"by the second leg", Datagram<Ipv4>(PayloadFor(edge, second, kIpv4Header, 6000, 5002))});
    Expect({"by the third leg", Datagram<Ipv4>(PayloadFor(edge, third, kIpv4Header, 4000, 5001))});
    for (const Ipv4& header : {sent, first, second, third}) {
      Expect({"IPv4 header", Datagram<Ipv4>(Bytes(2)), {.id = IdFor(edge, header)}});
    }
  }
}

class MulticastRewriteIpv6 : public MulticastRewrite {
 protected:
  void SetUp() override {
    MulticastRewrite::SetUp();
    if (IsSkipped()) return;
    Apply(R"(
  - name: feed
    input: {interfaces: [in], group: "ff3e::1234"}
    legs:
      - {interface: out1}
      - {interface: out2, group: "ff3e::8000:1", port: 5002, source: egress, source_port: 6000, ttl: {set: 16}, dscp: 46}
      - {interface: out3, source: "2001:db8:77::77", vlan: 42}
)");
  }
  void Expect(const Flow<Ipv6>& flow) {
    Ipv6 sent = flow.ip, aged = flow.ip;
    sent.source = aged.source = "2001:db8:9::9";
    sent.destination = aged.destination = "ff3e::1234";
    aged.hop_limit = static_cast<uint8_t>(sent.hop_limit - 1);
    Ipv6 second = sent, third = aged;
    second.source = "2001:db8:2::1";
    second.destination = "ff3e::8000:1";
    second.hop_limit = 16;
    second.traffic_class = static_cast<uint8_t>(46 << 2 | (sent.traffic_class & 3));
    third.source = "2001:db8:77::77";
    const auto link = [this](const char* mac, int i) {
      return Ethernet{.destination = mac, .source = EgressMac(i)};
    };
    ExpectCopies(flow.name, flow.frame(Packet(Ethernet{.destination = kMac6}), sent, 4000, 5001),
                 {{1, flow.frame(Packet(link(kMac6, 1)), aged, 4000, 5001)},
                  {2, flow.frame(Packet(link(kMac62, 2)), second, 6000, 5002)},
                  {3, flow.frame(link(kMac6, 3) / Vlan{.id = 42}, third, 4000, 5001)}});
  }
};

Bytes FirstFragment6(const Packet& link, const Ipv6& ip, uint16_t from, uint16_t to) {
  const Bytes payload(600, 0x71), part(payload.begin(), payload.begin() + 96);
  const Bytes whole = Datagram<Ipv6>(payload)(Packet(Ethernet{}), ip, from, to);
  const int checksum = Word(whole, kLink + kIpv6Header + kUdpChecksum);
  return link / ip / Ipv6Fragment{.more = true} /
         Udp{.source_port = from,
             .destination_port = to,
             .length = static_cast<uint16_t>(8 + payload.size()),
             .checksum = static_cast<uint16_t>(checksum)} /
         Payload(part);
}

// The flow label's first bits share a byte with the traffic class.
Bytes WithFlowLabel(const Packet& link, const Ipv6& ip, uint16_t from, uint16_t to) {
  Bytes frame = Datagram<Ipv6>(Bytes(100, 0x37))(link, ip, from, to);
  const size_t at = Network(frame) + 1;
  frame[at] = static_cast<uint8_t>((frame[at] & 0xf0) | 0xd);
  SetWord(frame, at + 1, 0xbeef);
  return frame;
}

TEST_F(MulticastRewriteIpv6, HeadersAndPayloads) {
  const Bytes payload(100, 0x37);
  NowAndAfterRestart([&] {
    Expect({"plain", Datagram<Ipv6>(payload)});
    Expect({"odd length", Datagram<Ipv6>(Bytes(33, 0xfe))});
    Expect({"nothing in it", Datagram<Ipv6>({})});
    Expect({"a full packet", Datagram<Ipv6>(Bytes(1452, 0x11))});
    Expect({"flow label", WithFlowLabel, {.traffic_class = 0}});
    Expect({"flow label, DSCP and ECN", WithFlowLabel, {.traffic_class = 0xff}});
    Expect({"the highest hop limit", Datagram<Ipv6>(payload), {.hop_limit = 255}});
    Expect({"no checksum", ZeroChecksum<Ipv6>(kIpv6Header, payload)});
    Expect({"first fragment", FirstFragment6});
    Expect({"later fragment", [&](const Packet& link, const Ipv6& ip, uint16_t, uint16_t) -> Bytes {
              return link / ip / Ipv6Fragment{.offset = 13, .next_header = IPPROTO_UDP} / Payload(100, 0x71);
            }});
  });
}

TEST_F(MulticastRewriteIpv6, ChecksumsAtTheirEdges) {
  const Ipv6 sent{.source = "2001:db8:9::9", .destination = "ff3e::1234"};
  const Ipv6 second{.source = "2001:db8:2::1", .destination = "ff3e::8000:1"};
  const Ipv6 third{.source = "2001:db8:77::77", .destination = "ff3e::1234"};
  for (const int edge : kEdges) {
    SCOPED_TRACE(edge);
    Expect({"sent", Datagram<Ipv6>(PayloadFor(edge, sent, kIpv6Header, 4000, 5001))});
    Expect({"by the second leg", Datagram<Ipv6>(PayloadFor(edge, second, kIpv6Header, 6000, 5002))});
    Expect({"by the third leg", Datagram<Ipv6>(PayloadFor(edge, third, kIpv6Header, 4000, 5001))});
  }
}

}  // namespace
}  // namespace headgate::testing
