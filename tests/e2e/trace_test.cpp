// SPDX-License-Identifier: Apache-2.0
//
// Trace: a packet told in words or in bytes meets the fate a real one would, the answer says by which way, and
// nothing moves: no counter, no bucket, no sample.
#include <absl/strings/escaping.h>
#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>

#include <thread>

#include "tests/harness/live_gateway.h"

namespace headgate::testing {
namespace {

constexpr int kInvalidArgument = 3;

std::string Hex(const std::string& bytes) { return absl::BytesToHexString(bytes); }

class TraceTest : public LiveGatewayTest {
 protected:
  TraceTest() : LiveGatewayTest("trace", {{"--drift-interval", "3600"}}) {}

  pb::TraceResponse Frame(const Bytes& frame, const std::string& interface = "in") {
    pb::TraceRequest request;
    request.set_frame(frame.data(), frame.size());
    request.set_interface(interface);
    pb::TraceResponse response;
    const CallStatus status = api().Trace(request, response);
    EXPECT_TRUE(status.ok()) << status.message;
    return response;
  }
  CallStatus Refused(const pb::TraceRequest& request) {
    pb::TraceResponse response;
    CallStatus status = api().Trace(request, response);
    EXPECT_EQ(status.code, kInvalidArgument) << status.message << request.ShortDebugString();
    return status;
  }
  // Everything that counts, but for the time of asking.
  std::string Counters() {
    pb::StatsResponse stats = api().Stats();
    stats.clear_time();
    return stats.ShortDebugString();
  }
  // The values of a pinned map, as bpftool shows them.
  std::string Dump(const std::string& map) {
    return Shell(absl::StrCat("bpftool map dump pinned ", agent().pins(), "/maps/", map, " -j"));
  }
};

std::string Stages(const pb::TraceResponse& response) { return absl::StrJoin(response.stages(), " "); }

constexpr char kMore[] = R"(
upsert:
  management: {allow: [{source: 192.0.2.99, protocol: tcp, destination_ports: ["22"]}]}
  default_action: drop
  steer_targets: [{name: app, fallback: drop}]
  interfaces: [{name: late, device: hgt-late}]
  next_hops:
    - {name: routed, interface: out, mac: "02:00:00:00:0d:01", source_mac: "02:00:00:00:0d:02", vlan: 7,
       decrement_ttl: true}
  rules:
    - {name: tx, priority: 101, match: {protocol: udp, destination_ports: ["101"]},
       action: {tx: {swap: ports}}}
    - {name: route, priority: 102, match: {protocol: udp, destination_ports: ["102"]},
       action: {route: {}}}
    - {name: steer, priority: 103, match: {protocol: udp, destination_ports: ["103"]},
       action: {steer: {target: app}}}
    - {name: routed, priority: 104, match: {protocol: udp, destination_ports: ["104"]},
       action: {next_hop: {name: routed}}}
    - {name: late, priority: 105, match: {protocol: udp, destination_ports: ["105"]},
       action: {redirect: {interface: late}}}
    - {name: limited, priority: 106, match: {protocol: udp, destination_ports: ["106"]},
       action: {pass: {}, rate_limit: {bits_per_second: 1000, burst: 12000}, sample: {one_in: 1}, count: {counter: c}}}
    - {name: sourced, priority: 107, match: {protocol: udp, destination_ports: ["107"]},
       action: {pass: {}, rate_limit: {bits_per_second: 1000, burst: 12000, per: source}}}
    - {name: icmp, priority: 108, match: {protocol: icmp, icmp_type: 8, icmp_code: 0}, action: {drop: {}}}
    - {name: six, priority: 109, match: {source: "2001:db8::/32", protocol: tcp, tcp_flags: "syn,!ack"},
       action: {pass: {}}}
    - {name: marked, priority: 110, match: {vlan: 5, inner_vlan: 6, dscp: 46, packet_length: "128"}, action: {pass: {}}}
)";

TEST_F(TraceTest, TellsTheFateOfPacketsInWords) {
  api().PatchYaml(kMore);
  struct Case {
    const char* description;
    const char* rule;
    const char* verdict;
    const char* reason;
    const char* egress;
    const char* stages;
  };
  const Case cases[] = {
      {"udp 192.0.2.1:5 > 192.0.2.2:9 in in", "drop-9", "drop", "drop_rule", "", "parse classify"},
      {"udp 192.0.2.1 > 192.0.2.2:53 in in", "wire", "redirect", "forward_redirect", "out",
       "parse classify forward"},
      {"tcp 198.51.100.9:5 > 192.0.2.2:80 in in", "evil", "drop", "drop_rule", "", "parse classify"},
      {"udp 192.0.2.1:1 > 192.0.2.2:7009 in in", "hop", "redirect", "forward_next_hop", "out",
       "parse classify forward"},
      {"udp 192.0.2.1:1 > 192.0.2.2:101 in in", "tx", "tx", "forward_tx", "in", "parse classify forward"},
      {"udp 192.0.2.1:1 > 192.0.2.2:103 in in", "steer", "drop", "drop_steer_fallback", "",
       "parse classify steer"},
      {"udp 192.0.2.1:1 > 192.0.2.2:104 in in", "routed", "redirect", "forward_next_hop", "out",
       "parse classify forward"},
      {"udp 192.0.2.1:1 > 192.0.2.2:104 in in ttl 1", "routed", "drop", "drop_ttl", "", "parse classify forward"},
      {"udp 192.0.2.1:1 > 192.0.2.2:105 in in", "late", "drop", "drop_no_device", "late",
       "parse classify forward"},
      {"udp 192.0.2.1:1 > 192.0.2.2:106 in in", "limited", "pass", "pass_rule", "", "parse classify police"},
      {"icmp 192.0.2.1 > 192.0.2.2:8/0 in in", "icmp", "drop", "drop_rule", "", "parse classify"},
      {"icmp 192.0.2.1 > 192.0.2.2:8/1 in in", "wire", "redirect", "forward_redirect", "out",
       "parse classify forward"},
      {"tcp 192.0.2.99 > 192.0.2.2:22 in in", "", "pass", "pass_management", "", "parse classify"},
      {"tcp [2001:db8::1]:5 > [2001:db8::2]:80 in out", "six", "pass", "pass_rule", "", "parse classify"},
      {"tcp 2001:db8::1 > 2001:db8::2 in out flags syn,ack", "", "drop", "drop_default", "", "parse classify"},
      {"tcp [2001:db8:bad::1]:5 > [2001:db8::2]:80 in out flags ack", "evil", "drop", "drop_rule", "",
       "parse classify"},
      {"udp 192.0.2.1:1 > 192.0.2.2:5 in out vlan 5 vlan 6 dscp 46 len 128", "marked", "pass", "pass_rule", "",
       "parse classify"},
      {"udp 192.0.2.1:1 > 192.0.2.2:5 in out vlan 5 vlan 6 dscp 46 len 129", "", "drop", "drop_default", "",
       "parse classify"},
      {"89 192.0.2.1 > 224.0.0.5 in out", "", "drop", "drop_default", "", "parse classify"},
      {"udp 192.0.2.1:1 > 192.0.2.2:9 in late", "drop-9", "drop", "drop_rule", "", "parse classify"},
  };
  NowAndAfterRestart([&] {
    const std::string before = Counters(), sources = Dump("hg_sources"), limiters = Dump("hg_limiters");
    const auto samples = api().Watch({pb::EVENT_TYPE_SAMPLE});
    for (const Case& expected : cases) {
      SCOPED_TRACE(expected.description);
      const pb::TraceResponse response = api().Trace(expected.description);
      EXPECT_EQ(response.rule(), expected.rule);
      EXPECT_EQ(response.verdict(), expected.verdict);
      EXPECT_EQ(response.reason(), expected.reason);
      EXPECT_EQ(response.egress_interface(), expected.egress);
      EXPECT_EQ(Stages(response), expected.stages);
      EXPECT_EQ(response.generation(), api().Status().applied_generation());
      EXPECT_GT(response.steps(), 0U);
      EXPECT_FALSE(response.frame().empty());
    }
    EXPECT_EQ(Counters(), before);
    EXPECT_EQ(Dump("hg_sources"), sources);
    EXPECT_EQ(Dump("hg_limiters"), limiters);
    EXPECT_FALSE(samples->Next([](const pb::Event&) { return true; }, std::chrono::milliseconds(300)).has_value());
  });
}

TEST_F(TraceTest, ShowsThePacketThatWouldLeave) {
  api().PatchYaml(kMore);
  NowAndAfterRestart([&] {
    // Built as described: addresses, ports, lengths and checksums as a stack would, to the device's own address.
    std::string mac = api().GetObject(pb::KIND_INTERFACE, "in").interface_state().mac();
    std::erase(mac, ':');
    const pb::TraceResponse plain = api().Trace("udp 192.0.2.1:258 > 192.0.2.2:53 in in len 30 ttl 3 dscp 1");
    EXPECT_EQ(Hex(plain.frame()), mac +
                                      "020000000002"
                                      "0800"
                                      "4504001e00000000"
                                      "0311"
                                      "33c8"
                                      "c0000201"
                                      "c0000202"
                                      "01020035000a7a9f"
                                      "0000");
    EXPECT_EQ(plain.output(), plain.frame());

    const pb::TraceResponse tx = api().Trace("udp 192.0.2.1:258 > 192.0.2.2:101 in in");
    EXPECT_EQ(Hex(tx.output().substr(0, 12)), "020000000002" + mac);
    EXPECT_EQ(Hex(api().Trace("udp 192.0.2.1 > 239.129.1.2:5 in in").frame().substr(0, 6)), "01005e010102");
    EXPECT_EQ(Hex(tx.output().substr(26, 12)), "c0000202c000020100650102");

    const pb::TraceResponse routed = api().Trace("udp 192.0.2.1:258 > 192.0.2.2:104 in in");
    EXPECT_EQ(routed.output().size(), routed.frame().size() + 4);
    EXPECT_EQ(Hex(routed.output().substr(0, 18)), "020000000d01020000000d02810000070800");
    EXPECT_EQ(routed.output()[18 + 8], 63);  // the TTL
    EXPECT_EQ(InternetChecksum(reinterpret_cast<const uint8_t*>(routed.output().data()) + 18, 20), 0);
    // And one that a real packet leaves as.
    const Bytes frame(routed.frame().begin(), routed.frame().end());
    EXPECT_EQ(Fate(frame), "forward_next_hop");
    const auto arrived = server().Receive(
        [](const Bytes& bytes) { return bytes.size() > 12 && bytes[5] == 1 && bytes[4] == 0x0d; });
    ASSERT_TRUE(arrived.has_value());
  });
}

TEST_F(TraceTest, TakesFramesInBytes) {
  const std::pair<Bytes, const char*> frames[] = {
      {Ethernet{} / Ipv4{} / Udp{.destination_port = 9} / Payload(10), "drop_rule"},
      {Ethernet{} / Ipv4{} / Tcp{} / Payload(10), "forward_redirect"},
      {Truncate(Ethernet{} / Ipv4{} / Tcp{}, 20), "ipv4_short"},
      {Truncate(Ethernet{} / Ipv4{} / Tcp{}, 40), "ipv4_length"},
      {Ethernet{} / Ipv4{.ihl = 3} / Tcp{}, "ipv4_ihl"},
      {Ethernet{} / Vlan{} / Vlan{} / Vlan{} / Ipv4{} / Tcp{}, "vlan_depth"},
      {Ethernet{} / Ipv4{} / Tcp{.data_offset = 4}, "tcp_offset"},
      {Ethernet{} / Arp{}, "forward_redirect"},
      {Truncate(Ethernet{.type = 0x1234} / Payload(0), 14), "forward_redirect"},
      {Ethernet{} / Ipv4{} / Udp{} / Payload(3400), "forward_redirect"},
  };
  NowAndAfterRestart([&] {
    for (const auto& [frame, reason] : frames) {
      const pb::TraceResponse traced = Frame(frame);
      EXPECT_EQ(traced.reason(), reason);
      EXPECT_EQ(traced.frame(), std::string(frame.begin(), frame.end()));
      // What is traced and what is sent fare alike, where the wire takes it.
      if (frame.size() > 1514) continue;
      EXPECT_EQ(Fate(frame), reason);
    }
    const pb::TraceResponse malformed = Frame(frames[2].first);
    EXPECT_EQ(malformed.verdict(), "drop");
    EXPECT_EQ(Stages(malformed), "parse");
    EXPECT_EQ(malformed.rule(), "");
  });
}

TEST_F(TraceTest, SeesRateLimitsAndTakesNothingOfThem) {
  api().PatchYaml(kMore);
  for (const auto& [port, rule] : {std::pair(106, "limited"), std::pair(107, "sourced")}) {
    SCOPED_TRACE(rule);
    const Bytes frame = Ethernet{} / Ipv4{} / Udp{.destination_port = static_cast<uint16_t>(port)} /
                        Payload(1458);  // the whole bucket
    for (int i = 0; i < 20; ++i) EXPECT_EQ(Frame(frame).reason(), "pass_rule");
    EXPECT_EQ(Fate(frame), "pass_rule");
    // Now it is empty; it takes twelve seconds to fill.
    const pb::TraceResponse limited = Frame(frame);
    EXPECT_EQ(limited.reason(), "drop_rate_limit");
    EXPECT_EQ(limited.verdict(), "drop");
    EXPECT_EQ(limited.rule(), rule);
    EXPECT_EQ(Stages(limited), "parse classify police");
    EXPECT_EQ(api().Rule(rule).packets(), 1U);
  }
}

TEST_F(TraceTest, ManyAtOnceEachGetTheirOwn) {
  NowAndAfterRestart([&] {
    std::vector<std::thread> threads;
    threads.reserve(8);
    for (int t = 0; t < 8; ++t) {
      threads.emplace_back([&, t] {
        Client other(agent().address());
        for (int i = 0; i < 100; ++i) {
          const bool drop = (t + i) % 2 == 0;
          const pb::TraceResponse response =
              other.Trace(absl::StrCat("udp 192.0.2.1:", 1000 + t, " > 192.0.2.2:", drop ? 9 : 53, " in in"));
          EXPECT_EQ(response.rule(), drop ? "drop-9" : "wire");
          EXPECT_EQ(Hex(response.output().substr(34, 2)), Hex(response.frame().substr(34, 2)));
        }
      });
    }
    // While rules change and packets come.
    for (int i = 0; i < 20; ++i) {
      api().PatchYaml(absl::StrCat("upsert: {default_action: ", i % 2 == 0 ? "drop" : "pass", "}"));
      EXPECT_EQ(FateOfPort(9), "drop_rule");
    }
    for (std::thread& thread : threads) thread.join();
    ExpectDocumentInForce();
  });
}

TEST_F(TraceTest, WhatCannotBeTracedIsRefused) {
  const std::string before = Counters();
  for (const char* description : {"",
                                  "udp",
                                  "udp 192.0.2.1 192.0.2.2",
                                  "udp 192.0.2.1 > ",
                                  "xyz 192.0.2.1 > 192.0.2.2 in in",
                                  "udp 192.0.2 > 192.0.2.2 in in",
                                  "udp 192.0.2.1:99999 > 192.0.2.2 in in",
                                  "udp 192.0.2.1:x > 192.0.2.2 in in",
                                  "udp 192.0.2.1 > 2001:db8::1 in in",
                                  "udp [2001:db8::1 > 2001:db8::2 in in",
                                  "udp 192.0.2.1 > 192.0.2.2 in in len 5",
                                  "udp 192.0.2.1 > 192.0.2.2 in in len 9000",
                                  "udp 192.0.2.1 > 192.0.2.2 in in ttl 256",
                                  "udp 192.0.2.1 > 192.0.2.2 in in vlan 4095",
                                  "udp 192.0.2.1 > 192.0.2.2 in in ttl",
                                  "udp 192.0.2.1 > 192.0.2.2 in in colour 5",
                                  "tcp 192.0.2.1 > 192.0.2.2 in in flags sin",
                                  "gre 192.0.2.1:5 > 192.0.2.2 in in",
                                  "icmp 192.0.2.1:5 > 192.0.2.2 in in",
                                  "udp 192.0.2.1 > 192.0.2.2 in in flags syn",
                                  "icmp 192.0.2.1 > 192.0.2.2:300 in in",
                                  "udp 192.0.2.1 > 192.0.2.2 in in dscp 64",
                                  "udp 192.0.2.1 > 192.0.2.2 in in vlan 1 vlan 2 vlan 3 vlan 4"}) {
    pb::TraceRequest request;
    request.set_description(description);
    const CallStatus status = Refused(request);
    ASSERT_EQ(status.violations.size(), 1U) << description;
    EXPECT_EQ(status.violations[0].first, "description") << description;
  }
  pb::TraceRequest request;
  request.set_description("udp 192.0.2.1 > 192.0.2.2");  // no interface
  EXPECT_EQ(Refused(request).violations.at(0).first, "interface");
  request.set_interface("none");
  EXPECT_TRUE(absl::StrContains(Refused(request).message, "\"none\""));
  request.set_description("udp 192.0.2.1 > 192.0.2.2 in in");
  request.set_interface("out");
  EXPECT_EQ(Refused(request).violations.at(0).first, "interface");
  request.set_interface("in");
  request.set_frame(std::string(13, 'x'));
  EXPECT_TRUE(absl::StrContains(Refused(request).message, "13 bytes"));
  request.set_frame(std::string(3521, 'x'));
  EXPECT_TRUE(absl::StrContains(Refused(request).message, "3521 bytes"));
  EXPECT_EQ(Counters(), before);
  ExpectDocumentInForce();
}

TEST_F(TraceTest, SamplesShowRealPackets) {
  api().PatchYaml(
      "upsert: {rules: [{name: wire, priority: 10, match: {interface: in}, action: {redirect: {interface: out}, "
      "sample: {one_in: 1}}}]}");
  NowAndAfterRestart([&] {
    const auto watcher = api().Watch({pb::EVENT_TYPE_SAMPLE});
    for (const size_t size : {40U, 1000U}) {
      const Bytes frame =
          Ethernet{} / Ipv4{} / Udp{.destination_port = static_cast<uint16_t>(size)} / Payload(size);
      EXPECT_EQ(Fate(frame), "forward_redirect");
      const auto event = watcher->Next([](const pb::Event&) { return true; });
      ASSERT_TRUE(event.has_value());
      EXPECT_EQ(event->sample().rule(), "wire");
      EXPECT_EQ(event->sample().interface(), "in");
      EXPECT_EQ(event->sample().length(), frame.size());
      const size_t captured = std::min<size_t>(frame.size(), 256);
      EXPECT_EQ(Hex(event->sample().data()),
                Hex(std::string(frame.begin(), frame.begin() + static_cast<long>(captured))));
      EXPECT_FALSE(event->sample().reason().empty());
    }
  });
}

}  // namespace
}  // namespace headgate::testing
