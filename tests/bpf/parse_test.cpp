// SPDX-License-Identifier: Apache-2.0
//
// What the parser makes of frames: every class of malformed ones with its reason, frames cut at every byte, and
// the match keys of the sound ones.
#include <absl/strings/str_cat.h>
#include <gtest/gtest.h>
#include <netinet/in.h>

#include "tests/bpf/gateway.h"

namespace headgate::testing {
namespace {

constexpr char kSound[] = "pass_default";
constexpr size_t kEthernet = 14, kIpv4 = 20, kIpv6 = 40;

class Parse : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    if (WhyNoBpf().empty()) gateway_ = std::make_unique<Gateway>("parse");
  }
  static void TearDownTestSuite() {
    const auto* unit = ::testing::UnitTest::GetInstance();
    if (gateway_ && unit->test_to_run_count() == unit->total_test_count()) ExpectEveryMalformedReasonReached();
    gateway_.reset();
  }
  // The counters of the port remember what all the tests met.
  static void ExpectEveryMalformedReasonReached() {
    const auto counted = gateway_->Reasons();
    enum { PASS, FORWARD, DROP, MALFORMED };
#define HG_REACHED(e, name, class, text)                            \
  if (class == MALFORMED && HG_REASON_##e != HG_REASON_ETH_SHORT) { \
    EXPECT_TRUE(counted.contains(name)) << name;                    \
  }
    HG_REASONS(HG_REACHED)
#undef HG_REACHED
  }
  void SetUp() override { HG_REQUIRE_BPF(); }

  struct Case {
    const char* name;
    Bytes frame;
    const char* reason;
  };
  void Expect(const std::vector<Case>& cases) {
    for (const Case& c : cases) {
      SCOPED_TRACE(c.name);
      EXPECT_EQ(gateway_->Run(c.frame).reason, c.reason);
    }
  }

  static std::unique_ptr<Gateway> gateway_;
};
std::unique_ptr<Gateway> Parse::gateway_;

Bytes Set(Bytes frame, size_t at, std::initializer_list<uint8_t> bytes) {
  std::copy(bytes.begin(), bytes.end(), frame.begin() + static_cast<ptrdiff_t>(at));
  return frame;
}

Bytes Padded(Bytes frame, size_t bytes) {
  frame.resize(frame.size() + bytes);
  return frame;
}

// The frame's first `size` bytes, with the length of the IP header at `l3` made to say so.
Bytes Shortened(const Bytes& frame, size_t size, size_t l3) {
  Bytes cut = Truncate(frame, size);
  const bool ipv4 = cut[l3] >> 4 == 4;
  const size_t length = size - l3 - (ipv4 ? 0 : kIpv6), at = l3 + (ipv4 ? 2 : 4);
  return Set(std::move(cut), at, {static_cast<uint8_t>(length >> 8), static_cast<uint8_t>(length)});
}

TEST_F(Parse, Ethernet) {
  Expect({
      {"header alone", Ethernet{.type = 0x88b5} / Payload(0), kSound},
      {"802.3 length instead of a type", Ethernet{.type = 38} / Payload(46), kSound},
      {"IPv4 type, nothing after it", Ethernet{.type = 0x0800} / Payload(0), "ipv4_short"},
      {"IPv6 type, nothing after it", Ethernet{.type = 0x86dd} / Payload(0), "ipv6_short"},
  });
}

TEST_F(Parse, EthernetShort) {
  // A test run takes no frame below 14 bytes; of one with metadata before it, some kernels count those too.
  gateway_->program().SetIngress({.metadata = 16});
  std::string refused;
  for (size_t size = 1; size < kEthernet && refused.empty(); ++size) {
    try {
      gateway_->program().Verdict(Bytes(size));
    } catch (const std::runtime_error& error) {
      refused = error.what();
    }
  }
  if (refused.empty()) {
    for (size_t size = 1; size < kEthernet; ++size)
      EXPECT_EQ(gateway_->Run(Bytes(size, 0xff)).reason, "eth_short");
  }
  gateway_->program().SetIngress({});
  if (!refused.empty()) GTEST_SKIP() << "this kernel runs no frame that short: " << refused;
}

TEST_F(Parse, VlanStacks) {
  const auto ip = Ipv4{};
  Expect({
      {"802.1Q", Ethernet{} / Vlan{} / ip / Udp{}, kSound},
      {"802.1ad", Ethernet{} / Vlan{.tpid = 0x88a8} / ip / Udp{}, kSound},
      {"802.1ad then 802.1Q", Ethernet{} / Vlan{.tpid = 0x88a8} / Vlan{} / ip / Udp{}, kSound},
      {"802.1Q twice", Ethernet{} / Vlan{} / Vlan{} / ip / Udp{}, kSound},
      {"802.1Q then 802.1ad", Ethernet{} / Vlan{} / Vlan{.tpid = 0x88a8} / ip / Udp{}, kSound},
      {"three tags", Ethernet{} / Vlan{} / Vlan{} / Vlan{} / ip / Udp{}, "vlan_depth"},
      {"three 802.1ad tags", Ethernet{} / Vlan{.tpid = 0x88a8} / Vlan{.tpid = 0x88a8} / Vlan{.tpid = 0x88a8} / ip,
       "vlan_depth"},
      {"a third tag announced, none there", Ethernet{} / Vlan{} / Vlan{.type = 0x8100}, "vlan_depth"},
      {"four tags", Ethernet{} / Vlan{} / Vlan{} / Vlan{} / Vlan{} / ip / Udp{}, "vlan_depth"},
      {"0x9100 is not a tag", Ethernet{} / Vlan{.tpid = 0x9100, .type = 0x0800} / Payload(2), kSound},
      {"tag, then bad IPv4", Ethernet{} / Vlan{} / Ipv4{.version = 5} / Udp{}, "ipv4_version"},
      {"tags, then bad IPv6", Ethernet{} / Vlan{} / Vlan{} / Ipv6{.version = 4} / Udp{}, "ipv6_version"},
  });
}

TEST_F(Parse, Ipv4Header) {
  const auto eth = Ethernet{};
  const auto udp = Udp{};
  Expect({
      {"options of 40 bytes", eth / Ipv4{.options = Bytes(40, 1)} / udp, kSound},
      {"padding after the packet", Padded(eth / Ipv4{} / udp, 40), kSound},
      {"total length of the header alone", eth / Ipv4{.protocol = 253, .total_length = 20}, kSound},
      {"version 0", eth / Ipv4{.version = 0} / udp, "ipv4_version"},
      {"version 6", eth / Ipv4{.version = 6} / udp, "ipv4_version"},
      {"version 15", eth / Ipv4{.version = 15} / udp, "ipv4_version"},
      {"IHL 0", eth / Ipv4{.ihl = 0} / udp, "ipv4_ihl"},
      {"IHL 4", eth / Ipv4{.ihl = 4} / udp, "ipv4_ihl"},
      {"IHL beyond the total length", eth / Ipv4{.ihl = 15} / udp, "ipv4_length"},
      {"IHL up to the total length", eth / Ipv4{.protocol = 253, .ihl = 6} / Payload(4), kSound},
      {"total length 0", eth / Ipv4{.total_length = 0} / udp, "ipv4_length"},
      {"total length 19", eth / Ipv4{.total_length = 19} / udp, "ipv4_length"},
      {"total length below IHL", eth / Ipv4{.options = Bytes(4), .total_length = 23} / udp, "ipv4_length"},
      {"total length beyond the frame", eth / Ipv4{.total_length = 29} / udp, "ipv4_length"},
      {"total length 65535", eth / Ipv4{.total_length = 65535} / udp, "ipv4_length"},
      {"multicast source", eth / Ipv4{.source = "224.0.0.1"} / udp, "source_group"},
      {"last multicast source", eth / Ipv4{.source = "239.255.255.255"} / udp, "source_group"},
      {"broadcast source", eth / Ipv4{.source = "255.255.255.255"} / udp, "source_group"},
      {"reserved source", eth / Ipv4{.source = "240.0.0.1"} / udp, kSound},
      {"source before multicast", eth / Ipv4{.source = "223.255.255.255"} / udp, kSound},
      {"unspecified source", eth / Ipv4{.source = "0.0.0.0", .destination = "255.255.255.255"} / udp, kSound},
      {"wrong checksum: not the gateway's to judge", eth / Ipv4{.checksum = 1} / udp, kSound},
  });
}

TEST_F(Parse, Ipv6Header) {
  const auto eth = Ethernet{};
  const auto udp = Udp{};
  Expect({
      {"padding after the packet", Padded(eth / Ipv6{} / udp, 40), kSound},
      {"no next header", eth / Ipv6{}, kSound},
      {"version 0", eth / Ipv6{.version = 0} / udp, "ipv6_version"},
      {"version 4", eth / Ipv6{.version = 4} / udp, "ipv6_version"},
      {"payload length beyond the frame", eth / Ipv6{.payload_length = 9} / udp, "ipv6_length"},
      {"payload length 65535", eth / Ipv6{.payload_length = 65535} / udp, "ipv6_length"},
      {"payload length 0", eth / Ipv6{.payload_length = 0} / udp, "udp_short"},
      {"multicast source", eth / Ipv6{.source = "ff02::1"} / udp, "source_group"},
      {"source before multicast", eth / Ipv6{.source = "feff::1"} / udp, kSound},
      {"unspecified source", eth / Ipv6{.source = "::"} / udp, kSound},
  });
}

// `count` extension headers of a type with 8 bytes each (12 for authentication), then UDP.
Packet Chain(uint8_t type, int count, uint8_t extra_units = 0) {
  Packet packet = Ethernet{} / Ipv6{};
  for (int i = 0; i < count; ++i) packet = packet / Ipv6Extension{.type = type, .extra_units = extra_units};
  return packet / Udp{};
}

TEST_F(Parse, Ipv6Extensions) {
  for (const int type :
       std::initializer_list<int>{IPPROTO_HOPOPTS, IPPROTO_ROUTING, IPPROTO_DSTOPTS, IPPROTO_AH, IPPROTO_MH}) {
    SCOPED_TRACE(type);
    const auto number = static_cast<uint8_t>(type);
    // Of 8 and, for authentication, 12 bytes.
    const size_t size = type == IPPROTO_AH ? 12 : 8;
    const auto wrong_length = [&](unsigned length) -> Bytes {
      return Ethernet{} / Ipv6{} / Ipv6Extension{.type = number, .length_field = static_cast<uint8_t>(length)} /
             Udp{};
    };
    Expect({
        {"one", Chain(number, 1), kSound},
        {"eight", Chain(number, 8), kSound},
        {"nine", Chain(number, 9), "ipv6_ext_depth"},
        {"twenty", Chain(number, 20), "ipv6_ext_depth"},
        {"eight of 128 bytes", Chain(number, 8, type == IPPROTO_AH ? 29 : 15), kSound},
        {"the longest there is", wrong_length(255), "ipv6_ext_short"},
        {"ends with the payload", Shortened(Chain(number, 1), kEthernet + kIpv6 + size, kEthernet), "udp_short"},
        {"longer than the payload", wrong_length(type == IPPROTO_AH ? 4 : 2), "ipv6_ext_short"},
        {"fills the payload", wrong_length(type == IPPROTO_AH ? 3 : 1), "udp_short"},
    });
  }
}

TEST_F(Parse, Ipv6ExtensionsMixed) {
  const auto eth = Ethernet{};
  const auto ip = Ipv6{};
  const Packet usual = eth / ip / Ipv6Extension{.type = IPPROTO_HOPOPTS} / Ipv6Extension{.type = IPPROTO_DSTOPTS} /
                       Ipv6Extension{.type = IPPROTO_ROUTING} / Ipv6Fragment{} /
                       Ipv6Extension{.type = IPPROTO_AH} / Ipv6Extension{.type = IPPROTO_DSTOPTS};
  Expect({
      {"in the order of RFC 8200", usual / Udp{}, kSound},
      {"then ESP", usual / Protocol{.number = IPPROTO_ESP}, kSound},
      {"then no next header", usual, kSound},
      {"then nothing though TCP is announced", usual / Protocol{.number = IPPROTO_TCP, .bytes = {}}, "tcp_short"},
      {"a ninth announced, none there",
       eth / ip / Ipv6Extension{} / Ipv6Extension{} / Ipv6Extension{} / Ipv6Extension{} / Ipv6Extension{} /
           Ipv6Extension{} / Ipv6Extension{} / Ipv6Extension{.next_header = IPPROTO_DSTOPTS},
       "ipv6_ext_depth"},
      {"hop-by-hop announced, none there", eth / Ipv6{.next_header = IPPROTO_HOPOPTS}, "ipv6_ext_short"},
      {"fragment announced, none there", eth / Ipv6{.next_header = IPPROTO_FRAGMENT}, "ipv6_ext_short"},
      {"nothing but a first buffer's worth of options", Chain(IPPROTO_DSTOPTS, 1, 255), kSound},
      {"headers go on beyond the first buffer", Chain(IPPROTO_DSTOPTS, 8, 255), "header_split"},
      {"beyond the frame, not only the buffer",
       Shortened(Chain(IPPROTO_DSTOPTS, 8, 255), kEthernet + kIpv6 + 2 * 2048 + 1, kEthernet), "ipv6_ext_short"},
  });
}

TEST_F(Parse, Jumbograms) {
  // Payload length 0 with a jumbo payload option: the frame's length is the packet's (RFC 2675).
  const auto jumbogram = [](size_t payload, uint16_t udp_length) -> Bytes {
    return Ethernet{} / Ipv6{.payload_length = 0} / Ipv6Extension{.type = IPPROTO_HOPOPTS} /
           Udp{.length = udp_length} / Payload(payload);
  };
  Expect({
      {"small, UDP length right", jumbogram(100, 108), kSound},
      {"small, UDP length 0", jumbogram(100, 0), "udp_length"},
      {"UDP of 65,535 bytes, length 0", jumbogram(65527, 0), "udp_length"},
      {"UDP of 65,536 bytes, length 0", jumbogram(65528, 0), kSound},
      {"UDP of 65,536 bytes, length 8", jumbogram(65528, 8), kSound},
  });
}

TEST_F(Parse, Fragments) {
  const auto eth = Ethernet{};
  const auto v4 = [](bool more, uint16_t offset, uint8_t protocol, size_t bytes) -> Bytes {
    return Ethernet{} / Ipv4{.more_fragments = more, .fragment_offset = offset, .protocol = protocol} /
           Payload(bytes, 0x55);
  };
  const auto v6 = [](bool more, uint16_t offset, uint8_t protocol, size_t bytes) -> Bytes {
    return Ethernet{} / Ipv6{.next_header = IPPROTO_FRAGMENT} /
           Ipv6Fragment{.offset = offset, .more = more, .next_header = protocol} / Payload(bytes, 0x55);
  };
  for (const bool ipv4 : {true, false}) {
    SCOPED_TRACE(ipv4 ? "IPv4" : "IPv6");
    const auto frame = [&](bool more, uint16_t offset, int protocol, size_t bytes) {
      return ipv4 ? v4(more, offset, static_cast<uint8_t>(protocol), bytes)
                  : v6(more, offset, static_cast<uint8_t>(protocol), bytes);
    };
    Expect({
        {"first, TCP header whole", frame(true, 0, IPPROTO_TCP, 24), kSound},
        {"first, TCP header cut", frame(true, 0, IPPROTO_TCP, 16), "tcp_short"},
        {"first, UDP header alone", frame(true, 0, IPPROTO_UDP, 8), kSound},
        {"first, UDP header cut", frame(true, 0, IPPROTO_UDP, 0), "udp_short"},
        {"later TCP at 8: may rewrite the flags", frame(true, 1, IPPROTO_TCP, 8), "fragment_overlap"},
        {"last TCP at 8", frame(false, 1, IPPROTO_TCP, 8), "fragment_overlap"},
        {"later TCP at 16", frame(true, 2, IPPROTO_TCP, 8), kSound},
        {"later UDP at 8", frame(false, 1, IPPROTO_UDP, 8), kSound},
        {"later, empty", frame(false, 100, IPPROTO_UDP, 0), kSound},
        {"up to byte 65,535", frame(false, 8191, IPPROTO_UDP, 7), kSound},
        {"beyond byte 65,535", frame(false, 8191, IPPROTO_UDP, 8), "fragment_overrun"},
        {"far beyond", frame(false, 8000, IPPROTO_TCP, 1536), "fragment_overrun"},
        {"later ICMP: no header to read", frame(false, 10, IPPROTO_ICMP, 1), kSound},
    });
  }
  Expect({
      {"don't fragment is no fragment", eth / Ipv4{.dont_fragment = true, .protocol = IPPROTO_TCP}, "tcp_short"},
      {"reserved flag is no fragment", Set(v4(false, 0, IPPROTO_TCP, 1), kEthernet + 6, {0x80}), "tcp_short"},
      {"IPv6 atomic fragment is whole", v6(false, 0, IPPROTO_TCP, 19), "tcp_short"},
      {"IPv6 later fragment of a chain", v6(false, 4, IPPROTO_DSTOPTS, 1), kSound},
      {"IPv6 first fragment with half a chain", v6(true, 0, IPPROTO_DSTOPTS, 8), "ipv6_ext_short"},
      {"fragment header within a fragment",
       eth / Ipv6{} / Ipv6Fragment{.more = true} / Ipv6Fragment{} / Udp{} / Payload(8), kSound},
  });
}

TEST_F(Parse, Tcp) {
  const auto frame = [](uint8_t offset, size_t options) -> Bytes {
    return Ethernet{} / Ipv4{} / Tcp{.data_offset = offset} / Payload(options, 1);
  };
  const auto first = [](uint8_t offset) -> Bytes {
    return Ethernet{} / Ipv4{.more_fragments = true} / Tcp{.data_offset = offset} / Payload(4, 1);
  };
  Expect({
      {"offset 0", frame(0, 0), "tcp_offset"},
      {"offset 4", frame(4, 0), "tcp_offset"},
      {"offset 5", frame(5, 0), kSound},
      {"offset 6, options missing", frame(6, 3), "tcp_offset"},
      {"offset 6", frame(6, 4), kSound},
      {"offset 15, options missing", frame(15, 39), "tcp_offset"},
      {"offset 15", frame(15, 40), kSound},
      {"options in padding", Padded(frame(6, 0), 40), "tcp_offset"},
      {"first fragment, options go on in the next", first(15), kSound},
      {"first fragment, offset 4", first(4), "tcp_offset"},
  });
}

TEST_F(Parse, Udp) {
  const auto frame = [](uint16_t length, size_t payload) -> Bytes {
    return Ethernet{} / Ipv4{} / Udp{.length = length} / Payload(payload);
  };
  const auto first = [](uint16_t length) -> Bytes {
    return Ethernet{} / Ipv4{.more_fragments = true} / Udp{.length = length} / Payload(8);
  };
  Expect({
      {"length 0", frame(0, 10), "udp_length"},
      {"length 1", frame(1, 10), "udp_length"},
      {"length 7", frame(7, 10), "udp_length"},
      {"length 8 of more", frame(8, 10), kSound},
      {"length right", frame(18, 10), kSound},
      {"length one beyond", frame(19, 10), "udp_length"},
      {"length 65535", frame(65535, 10), "udp_length"},
      {"length into padding", Padded(frame(10, 0), 40), "udp_length"},
      {"first fragment states the whole datagram's", first(65000), kSound},
      {"first fragment, length 7", first(7), "udp_length"},
      {"first fragment, length 0", first(0), "udp_length"},
  });
}

// A frame cut after each of its bytes: `bounds` are the bytes that come before a header's end, with the reason of
// a frame that ends within it. Once as a frame that lost its tail, once with an IP header that says so.
struct Bound {
  size_t end;
  const char* reason;
};

TEST_F(Parse, CutAtEveryByte) {
  const size_t tags = 8, v4 = kEthernet + tags, v6 = v4 + kIpv6;
  const auto eth = Ethernet{} / Vlan{.tpid = 0x88a8} / Vlan{};
  struct Cut {
    const char* name;
    Bytes frame;
    std::vector<Bound> bounds;
  };
  const std::vector<Bound> to_ipv4 = {{v4, "vlan_short"}, {v4 + kIpv4, "ipv4_short"}};
  const std::vector<Bound> to_ipv6 = {{v4, "vlan_short"}, {v6, "ipv6_short"}};
  const auto with = [](std::vector<Bound> bounds, std::initializer_list<Bound> more) {
    bounds.insert(bounds.end(), more);
    return bounds;
  };
  const size_t l4 = v4 + kIpv4;
  const std::vector<Cut> cuts = {
      {"IPv4 options, TCP", eth / Ipv4{.options = Bytes(8, 1)} / Tcp{} / Payload(5),
       with(to_ipv4, {{l4 + 8, "ipv4_length"}, {l4 + 28, "tcp_short"}})},
      {"IPv4 UDP", eth / Ipv4{} / Udp{} / Payload(5),
       with(to_ipv4, {{l4 + 8, "udp_short"}, {l4 + 13, "udp_length"}})},
      {"IPv4 ICMP", eth / Ipv4{} / Icmp{} / Payload(5), with(to_ipv4, {{l4 + 8, "icmp_short"}})},
      {"IPv4 SCTP", eth / Ipv4{} / Protocol{.number = IPPROTO_SCTP}, with(to_ipv4, {{l4 + 4, "l4_short"}})},
      {"IPv4 DCCP", eth / Ipv4{} / Protocol{.number = IPPROTO_DCCP}, with(to_ipv4, {{l4 + 4, "l4_short"}})},
      {"IPv4 UDP-Lite", eth / Ipv4{} / Protocol{.number = IPPROTO_UDPLITE}, with(to_ipv4, {{l4 + 4, "l4_short"}})},
      {"IPv4 GRE", eth / Ipv4{} / Protocol{.number = IPPROTO_GRE}, to_ipv4},
      {"IPv6 TCP", eth / Ipv6{} / Tcp{} / Payload(5), with(to_ipv6, {{v6 + 20, "tcp_short"}})},
      {"IPv6 UDP", eth / Ipv6{} / Udp{} / Payload(5),
       with(to_ipv6, {{v6 + 8, "udp_short"}, {v6 + 13, "udp_length"}})},
      {"IPv6 ICMPv6", eth / Ipv6{} / Icmpv6{} / Payload(5), with(to_ipv6, {{v6 + 4, "icmp_short"}})},
      {"IPv6 options, authentication, fragment, SCTP",
       eth / Ipv6{} / Ipv6Extension{.type = IPPROTO_HOPOPTS, .extra_units = 1} /
           Ipv6Extension{.type = IPPROTO_AH} / Ipv6Fragment{.more = true} / Protocol{.number = IPPROTO_SCTP},
       with(to_ipv6, {{v6 + 16 + 12 + 8, "ipv6_ext_short"}, {v6 + 16 + 12 + 8 + 4, "l4_short"}})},
  };
  for (const Cut& cut : cuts) {
    for (size_t size = kEthernet; size <= cut.frame.size(); ++size) {
      SCOPED_TRACE(absl::StrCat(cut.name, ", ", size, " of ", cut.frame.size(), " bytes"));
      const char* inside = kSound;
      for (const Bound& bound : cut.bounds) {
        if (size < bound.end && inside == kSound) inside = bound.reason;
      }
      const bool ip_whole = size >= (cut.frame[v4] >> 4 == 4 ? l4 : v6);
      const char* const overall = cut.frame[v4] >> 4 == 4 ? "ipv4_length" : "ipv6_length";
      EXPECT_EQ(gateway_->Run(Truncate(cut.frame, size)).reason, size == cut.frame.size() ? kSound
                                                                 : ip_whole               ? overall
                                                                                          : inside);
      if (ip_whole) {
        EXPECT_EQ(gateway_->Run(Shortened(cut.frame, size, v4)).reason, inside);
      }
    }
  }
}

}  // namespace
}  // namespace headgate::testing
