// SPDX-License-Identifier: Apache-2.0
//
// Flows that differ in one field alone are told apart: two packets of which a rule on the field hits one, in turn
// and under one generation, so that the second round is answered by what is remembered of the first, or must not
// be.
#include <gtest/gtest.h>
#include <linux/bpf.h>
#include <net/if.h>
#include <netinet/in.h>

#include <array>
#include <functional>

#include "tests/bpf/lab_gateway.h"
#include "tests/harness/cpus.h"
#include "tests/harness/header_frame.h"
#include "tests/harness/random.h"

namespace headgate::testing {
namespace {

// Many times the slots that flows are remembered in: some pairs meet in one, and there each field is all that
// tells its two flows apart.
constexpr uint64_t kPairs = 20'000;

struct Field {
  const char* name;
  const char* match;  // of a rule
  // A packet that the rule hits or does not hit. The other one of the pair has the same base, and differs in the
  // field alone, by as much as it allows.
  std::function<Bytes(bool hit, Header base, std::mt19937_64& random)> frame;
};
void PrintTo(const Field& field, std::ostream* out) { *out << field.name; }

uint32_t Draw(std::mt19937_64& random) { return static_cast<uint32_t>(random()); }

// The first bit is clear in packets that a rule hits.
uint32_t FirstBit(bool hit, std::mt19937_64& random) { return (hit ? 0 : 0x80000000) | (Draw(random) >> 1); }

// A number below `end` that is not `other`.
template <typename Number>
Number DrawOther(uint32_t end, Number other, std::mt19937_64& random) {
  const auto drawn = static_cast<Number>(random() % (end - 1));
  return drawn < other ? drawn : static_cast<Number>(drawn + 1);
}

Ipv4 From(const Header& header) { return {.source = ToString(IpAddress{header.source, Family::kIpv4})}; }

Field AddressField(const char* name, const char* match, std::array<uint32_t, 4> Header::*address, size_t word) {
  return {name, match, [=](bool hit, Header header, std::mt19937_64& random) {
            header.family = Family::kIpv6;
            header.source = header.destination = {0x20010db8};
            const uint32_t drawn = FirstBit(hit, random);
            (header.*address)[word] = word == 0 ? 0x20000000 | drawn >> 8 : drawn;
            return FrameOf(header);
          }};
}

const Field kFields[] = {
    {"Source", "{source: 10.0.0.0/9}",
     [](bool hit, Header header, std::mt19937_64& random) {
       header.source[0] = 0x0a000000 | FirstBit(hit, random) >> 8;
       return FrameOf(header);
     }},
    {"Destination", "{destination: 10.0.0.0/9}",
     [](bool hit, Header header, std::mt19937_64& random) {
       header.destination[0] = 0x0a000000 | FirstBit(hit, random) >> 8;
       return FrameOf(header);
     }},
    {"SourcePort", "{source_ports: ['0-32767']}",
     [](bool hit, Header header, std::mt19937_64& random) {
       header.source_port = static_cast<uint16_t>(FirstBit(hit, random) >> 16);
       return FrameOf(header);
     }},
    {"DestinationPort", "{destination_ports: ['0-32767']}",
     [](bool hit, Header header, std::mt19937_64& random) {
       header.destination_port = static_cast<uint16_t>(FirstBit(hit, random) >> 16);
       return FrameOf(header);
     }},
    {"Protocol", "{protocol: udp}",
     [](bool hit, Header header, std::mt19937_64&) {
       header.protocol = hit ? IPPROTO_UDP : IPPROTO_TCP;
       return FrameOf(header);
     }},
    {"ProtocolWithoutPorts", "{protocol: gre}",
     [](bool hit, Header header, std::mt19937_64& random) {
       // 61 to 127: nothing that the parser looks into.
       header.protocol = static_cast<uint8_t>(hit ? uint64_t{IPPROTO_GRE} : 61 + random() % 67);
       return FrameOf(header);
     }},
    {"TcpFlags", "{protocol: tcp, tcp_flags: syn}",
     [](bool hit, Header header, std::mt19937_64& random) {
       header.protocol = IPPROTO_TCP;
       header.tcp_flags = static_cast<uint8_t>((Draw(random) & 0xfd) | (hit ? 2 : 0));
       return FrameOf(header);
     }},
    {"IcmpType", "{protocol: icmp, icmp_type: 8}",
     [](bool hit, const Header& base, std::mt19937_64& random) -> Bytes {
       return Ethernet{} / From(base) / Icmp{.type = hit ? uint8_t{8} : DrawOther<uint8_t>(256, 8, random)};
     }},
    {"IcmpCode", "{protocol: icmp, icmp_type: 3, icmp_code: 4}",
     [](bool hit, const Header& base, std::mt19937_64& random) -> Bytes {
       return Ethernet{} / From(base) /
              Icmp{.type = 3, .code = hit ? uint8_t{4} : DrawOther<uint8_t>(256, 4, random)};
     }},
    {"Dscp", "{dscp: 46}",
     [](bool hit, Header header, std::mt19937_64& random) {
       header.dscp = hit ? uint8_t{46} : DrawOther<uint8_t>(64, 46, random);
       return FrameOf(header);
     }},
    {"Vlan", "{vlan: 7}",
     [](bool hit, Header header, std::mt19937_64& random) {
       header.vlan = hit ? uint16_t{7} : DrawOther<uint16_t>(4095, 7, random);
       return FrameOf(header);
     }},
    {"InnerVlan", "{inner_vlan: 7}",
     [](bool hit, Header header, std::mt19937_64& random) {
       header.vlan = static_cast<uint16_t>(1 + header.source_port % 4000);
       header.inner_vlan = hit ? uint16_t{7} : DrawOther<uint16_t>(4095, 7, random);
       return FrameOf(header);
     }},
    {"Fragment", "{fragment: any}",
     [](bool hit, const Header& base, std::mt19937_64&) -> Bytes {
       Ipv4 ip = From(base);
       ip.more_fragments = hit;
       return Ethernet{} / ip / Udp{.source_port = base.source_port} / Payload(16);
     }},
    {"Version", "{destination: 0.0.0.0/0}",
     [](bool hit, Header header, std::mt19937_64&) {
       // The same words, of which IPv4 has one.
       header.family = hit ? Family::kIpv4 : Family::kIpv6;
       return FrameOf(header);
     }},
    AddressField("Ipv6SourceWord0", "{source: '2000::/9'}", &Header::source, 0),
    AddressField("Ipv6SourceWord1", "{source: '2001:db8::/33'}", &Header::source, 1),
    AddressField("Ipv6SourceWord2", "{source: '2001:db8::/65'}", &Header::source, 2),
    AddressField("Ipv6SourceWord3", "{source: '2001:db8::/97'}", &Header::source, 3),
    AddressField("Ipv6DestinationWord0", "{destination: '2000::/9'}", &Header::destination, 0),
    AddressField("Ipv6DestinationWord1", "{destination: '2001:db8::/33'}", &Header::destination, 1),
    AddressField("Ipv6DestinationWord2", "{destination: '2001:db8::/65'}", &Header::destination, 2),
    AddressField("Ipv6DestinationWord3", "{destination: '2001:db8::/97'}", &Header::destination, 3),
};

std::string RulesFor(const std::string& match) {
  return "rules:\n  - {name: field, priority: 2, match: " + match +
         ", action: {drop: {}}}\n  - {name: rest, priority: 1, action: {pass: {}}}\n";
}

Header DrawBase(std::mt19937_64& random) {
  Header header;
  header.source[0] = 0x0a000000 | (Draw(random) >> 8);
  header.destination[0] = 0x0b000000 | (Draw(random) >> 8);
  header.source_port = static_cast<uint16_t>(random());
  header.destination_port = static_cast<uint16_t>(random());
  header.protocol = IPPROTO_UDP;
  return header;
}

// One packet, then the other, and both again: by verdict and by the rules' counts.
void ExpectPair(Program& program, const Bytes& miss, const Bytes& hit, uint64_t pair) {
  for (int round = 0; round < 2; ++round) {
    ASSERT_EQ(program.Verdict(miss), XDP_PASS) << "pair " << pair << ", round " << round;
    ASSERT_EQ(program.Verdict(hit), XDP_DROP) << "pair " << pair << ", round " << round;
  }
}

void ExpectCounts(const Gateway& gateway, uint64_t pairs) {
  EXPECT_EQ(gateway.RuleCount("field").packets, 2 * pairs);
  EXPECT_EQ(gateway.RuleCount("rest").packets, 2 * pairs);
}

class FlowField : public ::testing::TestWithParam<Field> {};

TEST_P(FlowField, TellsFlowsApart) {
  HG_REQUIRE_BPF();
  std::mt19937_64 random = MakeRandom();
  Gateway gateway("flow-field");
  gateway.Configure(RulesFor(GetParam().match));
  const OnCpu here(AllowedCpus().front());
  for (uint64_t pair = 0; pair < kPairs && !HasFatalFailure(); ++pair) {
    const Header base = DrawBase(random);
    const Bytes miss = GetParam().frame(false, base, random), hit = GetParam().frame(true, base, random);
    ExpectPair(gateway.program(), miss, hit, pair);
  }
  if (!HasFatalFailure()) ExpectCounts(gateway, kPairs);
}
INSTANTIATE_TEST_SUITE_P(Fields, FlowField, ::testing::ValuesIn(kFields),
                         [](const auto& field) { return std::string(field.param.name); });

// Where it came in by is a field, too.
TEST(FlowFieldInterface, TellsFlowsApart) {
  HG_REQUIRE_BPF();
  HG_REQUIRE_LAB();
  std::mt19937_64 random = MakeRandom();
  LabGateway lab("flow-field");
  lab.gateway.Configure(RulesFor("{interface: out}"));
  Program& program = lab.gateway.program();
  const OnCpu here(AllowedCpus().front());
  for (uint64_t pair = 0; pair < kPairs; ++pair) {
    const Bytes frame = FrameOf(DrawBase(random));
    for (int round = 0; round < 2; ++round) {
      program.SetIngress({.ifindex = LabGateway::Index("in0")});
      ASSERT_EQ(program.Verdict(frame), XDP_PASS) << "pair " << pair << ", round " << round;
      program.SetIngress({.ifindex = LabGateway::Index("out0")});
      ASSERT_EQ(program.Verdict(frame), XDP_DROP) << "pair " << pair << ", round " << round;
    }
  }
  ExpectCounts(lab.gateway, kPairs);
}

}  // namespace
}  // namespace headgate::testing
