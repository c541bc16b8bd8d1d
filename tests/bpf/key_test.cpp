// SPDX-License-Identifier: Apache-2.0
//
// The match keys that the parser makes of sound frames, field by field.
#include <gtest/gtest.h>
#include <netinet/in.h>

#include "tests/bpf/gateway.h"

namespace headgate::testing {
namespace {

// A key in words of its own.
struct Fields {
  std::string source;
  std::string destination;
  uint16_t source_port = 0;
  uint16_t destination_port = 0;  // ICMP: type << 8 | code
  uint8_t protocol = 0;
  uint8_t dscp = 0;
  uint8_t tcp_flags = 0;
  uint8_t kind = 0;
  uint16_t vlan = 0;
  uint16_t inner_vlan = 0;
  uint16_t length = 0;
};

std::array<uint32_t, HG_WORDS> KeyOf(const Fields& fields, uint32_t port) {
  std::array<uint32_t, HG_WORDS> key{};
  const auto put = [&key](int word, const std::string& address) {
    if (address.empty()) return;
    const IpAddress parsed = *ParseAddress(address);
    std::copy(parsed.words.begin(), parsed.words.end(), key.begin() + word);
  };
  put(HG_WORD_SRC, fields.source);
  put(HG_WORD_DST, fields.destination);
  key[HG_WORD_PORTS] = static_cast<uint32_t>(fields.source_port) << 16 | fields.destination_port;
  key[HG_WORD_PROTO] = static_cast<uint32_t>(fields.protocol) << HG_PROTO_SHIFT |
                       static_cast<uint32_t>(fields.dscp) << HG_DSCP_SHIFT |
                       static_cast<uint32_t>(fields.tcp_flags) << HG_TCP_FLAGS_SHIFT | fields.kind;
  key[HG_WORD_INGRESS] = port << 16 | fields.vlan;
  key[HG_WORD_EXTRA] = static_cast<uint32_t>(fields.inner_vlan) << 16 | fields.length;
  return key;
}

constexpr uint8_t kV4 = HG_KIND_IPV4 | HG_KIND_IP, kV6 = HG_KIND_IPV6 | HG_KIND_IP;

struct Case {
  const char* name;
  Bytes frame;
  Fields fields;
};

std::vector<Case> Ipv4Cases() {
  const std::string a = "192.0.2.1", b = "192.0.2.2";
  const Ethernet eth;
  return {
      {"TCP with every flag",
       eth / Ipv4{.tos = 0xb9} / Tcp{.flags = 0xff},
       {a, b, 12345, 80, IPPROTO_TCP, 46, 0xff, kV4 | HG_KIND_PORTS, 0, 0, 40}},
      {"TCP with none",
       eth / Ipv4{} / Tcp{.flags = 0},
       {a, b, 12345, 80, IPPROTO_TCP, 0, 0, kV4 | HG_KIND_PORTS, 0, 0, 40}},
      {"UDP behind options",
       eth / Ipv4{.options = Bytes(40, 1)} / Udp{.source_port = 0xffff, .destination_port = 0},
       {a, b, 0xffff, 0, IPPROTO_UDP, 0, 0, kV4 | HG_KIND_PORTS, 0, 0, 68}},
      {"length without padding",
       Bytes(eth / Ipv4{.tos = 3} / Udp{} / Payload(2)),
       {a, b, 12345, 53, IPPROTO_UDP, 0, 0, kV4 | HG_KIND_PORTS, 0, 0, 30}},
      {"ICMP",
       eth / Ipv4{} / Icmp{.type = 3, .code = 4},
       {a, b, 0, 0x304, IPPROTO_ICMP, 0, 0, kV4 | HG_KIND_ICMP, 0, 0, 28}},
      {"SCTP",
       eth / Ipv4{} / Protocol{.number = IPPROTO_SCTP, .bytes = {1, 2, 3, 4}},
       {a, b, 0x102, 0x304, IPPROTO_SCTP, 0, 0, kV4 | HG_KIND_PORTS, 0, 0, 24}},
      {"UDP-Lite",
       eth / Ipv4{} / Protocol{.number = IPPROTO_UDPLITE, .bytes = {1, 2, 3, 4}},
       {a, b, 0x102, 0x304, IPPROTO_UDPLITE, 0, 0, kV4 | HG_KIND_PORTS, 0, 0, 24}},
      {"GRE has no ports",
       eth / Ipv4{} / Protocol{.number = IPPROTO_GRE, .bytes = {1, 2, 3, 4}},
       {a, b, 0, 0, IPPROTO_GRE, 0, 0, kV4, 0, 0, 24}},
      {"first fragment",
       eth / Ipv4{.more_fragments = true} / Tcp{} / Payload(4),
       {a, b, 12345, 80, IPPROTO_TCP, 0, 2, kV4 | HG_KIND_PORTS | HG_KIND_FRAGMENT, 0, 0, 44}},
      {"later fragment",
       eth / Ipv4{.more_fragments = true, .fragment_offset = 9} / Udp{},
       {a, b, 0, 0, IPPROTO_UDP, 0, 0, kV4 | HG_KIND_FRAGMENT | HG_KIND_LATER, 0, 0, 28}},
      {"last fragment",
       eth / Ipv4{.fragment_offset = 9} / Udp{},
       {a, b, 0, 0, IPPROTO_UDP, 0, 0, kV4 | HG_KIND_FRAGMENT | HG_KIND_LATER, 0, 0, 28}},
      {"one tag, its priority no part of the id",
       eth / Vlan{.id = 4094, .priority = 7} / Ipv4{} / Udp{},
       {a, b, 12345, 53, IPPROTO_UDP, 0, 0, kV4 | HG_KIND_PORTS, 4094, 0, 28}},
      {"priority tag",
       eth / Vlan{.id = 0, .priority = 5} / Ipv4{} / Udp{},
       {a, b, 12345, 53, IPPROTO_UDP, 0, 0, kV4 | HG_KIND_PORTS, 0, 0, 28}},
      {"two tags",
       eth / Vlan{.id = 100, .tpid = 0x88a8} / Vlan{.id = 200, .priority = 7} / Ipv4{} / Udp{},
       {a, b, 12345, 53, IPPROTO_UDP, 0, 0, kV4 | HG_KIND_PORTS, 100, 200, 28}},
  };
}

std::vector<Case> Ipv6Cases() {
  const std::string a = "2001:db8::1", b = "2001:db8::2";
  const Ethernet eth;
  const auto udp = Udp{};
  return {
      {"all words of the addresses",
       eth / Ipv6{.source = "2001:db8:1:2:3:4:5:6", .destination = "fedc:ba98:7654:3210:123:4567:89ab:cdef"} / udp,
       {"2001:db8:1:2:3:4:5:6", "fedc:ba98:7654:3210:123:4567:89ab:cdef", 12345, 53, IPPROTO_UDP, 0, 0,
        kV6 | HG_KIND_PORTS, 0, 0, 48}},
      {"DSCP over both bytes",
       eth / Ipv6{.traffic_class = 0xb9} / Tcp{.flags = 0x12},
       {a, b, 12345, 80, IPPROTO_TCP, 46, 0x12, kV6 | HG_KIND_PORTS, 0, 0, 60}},
      {"ICMPv6",
       eth / Ipv6{} / Icmpv6{.type = 1, .code = 4},
       {a, b, 0, 0x104, IPPROTO_ICMPV6, 0, 0, kV6 | HG_KIND_ICMP, 0, 0, 48}},
      {"behind extension headers",
       eth / Ipv6{} / Ipv6Extension{} / Ipv6Extension{.type = IPPROTO_ROUTING, .extra_units = 2} /
           Ipv6Extension{.type = IPPROTO_AH, .extra_units = 3} / udp,
       {a, b, 12345, 53, IPPROTO_UDP, 0, 0, kV6 | HG_KIND_PORTS, 0, 0, 40 + 8 + 24 + 24 + 8}},
      {"no next header", eth / Ipv6{}, {a, b, 0, 0, 59, 0, 0, kV6, 0, 0, 40}},
      {"ESP is the last to be seen",
       eth / Ipv6{} / Ipv6Extension{} / Protocol{.number = IPPROTO_ESP},
       {a, b, 0, 0, IPPROTO_ESP, 0, 0, kV6, 0, 0, 60}},
      {"atomic fragment",
       eth / Ipv6{} / Ipv6Fragment{} / udp,
       {a, b, 12345, 53, IPPROTO_UDP, 0, 0, kV6 | HG_KIND_PORTS, 0, 0, 56}},
      {"first fragment",
       eth / Ipv6{} / Ipv6Fragment{.more = true} / udp,
       {a, b, 12345, 53, IPPROTO_UDP, 0, 0, kV6 | HG_KIND_PORTS | HG_KIND_FRAGMENT, 0, 0, 56}},
      {"later fragment",
       eth / Ipv6{} / Ipv6Fragment{.offset = 4} / udp,
       {a, b, 0, 0, IPPROTO_UDP, 0, 0, kV6 | HG_KIND_FRAGMENT | HG_KIND_LATER, 0, 0, 56}},
      {"later fragment of a chain: its first header is not the protocol",
       eth / Ipv6{} / Ipv6Fragment{.offset = 4, .next_header = IPPROTO_DSTOPTS} / Payload(8),
       {a, b, 0, 0, IPPROTO_DSTOPTS, 0, 0, kV6 | HG_KIND_FRAGMENT | HG_KIND_LATER, 0, 0, 56}},
      {"two tags",
       eth / Vlan{.id = 1} / Vlan{.id = 2} / Ipv6{} / udp,
       {a, b, 12345, 53, IPPROTO_UDP, 0, 0, kV6 | HG_KIND_PORTS, 1, 2, 48}},
  };
}

std::vector<Case> OtherCases() {
  return {
      {"ARP", Ethernet{} / Arp{}, {"", "", 0, 0, 0, 0, 0, 0, 0, 0, 28}},
      {"tagged, unknown type",
       Ethernet{} / Vlan{.id = 9, .type = 0x88b5} / Payload(46),
       {"", "", 0, 0, 0, 0, 0, 0, 9, 0, 46}},
  };
}

TEST(Key, OfSoundFrames) {
  HG_REQUIRE_BPF();
  Gateway gateway("key");
  for (const auto& cases : {Ipv4Cases(), Ipv6Cases(), OtherCases()}) {
    for (const Case& c : cases) {
      SCOPED_TRACE(c.name);
      EXPECT_EQ(gateway.Key(c.frame), KeyOf(c.fields, gateway.Port("in")));
      Bytes padded = c.frame;
      padded.resize(c.frame.size() + 6);
      if (!c.fields.source.empty()) {
        EXPECT_EQ(gateway.Key(padded), KeyOf(c.fields, gateway.Port("in"))) << "with padding";
      }
    }
  }
}

}  // namespace
}  // namespace headgate::testing
