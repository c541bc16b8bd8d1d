// SPDX-License-Identifier: Apache-2.0
//
// Multicast in the data path: which packet finds which route, and what comes before routes.
#include <netinet/in.h>

#include "tests/bpf/multicast_gateway.h"

namespace headgate::testing {
namespace {

class MulticastRoutes : public MulticastProgramTest {};
INSTANTIATE_TEST_SUITE_P(Ip, MulticastRoutes, ::testing::ValuesIn(kIpNames), NameOf);

// By group, then by source, then by port, whatever order they are written in.
TEST_P(MulticastRoutes, TheLongestMatchWins) {
  Use(R"(
  - {name: any, input: {interfaces: [in], group: "$G"}, legs: [{interface: out}]}
  - {name: host-port, input: {interfaces: [in], group: "$G", sources: {include: ["$HOST"]}, port: 5001}, legs: [{interface: out}]}
  - {name: site, input: {interfaces: [in], group: "$G", sources: {include: [$SITE]}}, legs: [{interface: gone}]}
  - {name: wide, input: {interfaces: [in], group: $WIDE}, legs: [{interface: out}]}
  - {name: host, input: {interfaces: [in], group: "$G", sources: {include: ["$HOST"]}}, legs: [{interface: gone}]}
  - {name: wide-port, input: {interfaces: [in], group: $WIDE, sources: {include: ["$HOST"]}, port: 5003}, legs: [{interface: out}]}
  - {name: any-port, input: {interfaces: [in], group: "$G", port: 5002}, legs: [{interface: out}, {interface: gone}]}
  - {name: net, input: {interfaces: [in], group: "$G", sources: {include: [$NET]}}, legs: [{interface: out}]}
  - {name: large-port, input: {interfaces: [in], group: "$G3", sources: {include: [$LARGE]}, port: 5001}, legs: [{interface: out}]}
  - {name: small, input: {interfaces: [in], group: "$G3", sources: {include: [$SMALL]}}, legs: [{interface: out}]}
)");
  ExpectRoutes({
      {"source and port", Datagram("$HOST", "$G", 5001), "host-port"},
      {"source before port", Datagram("$HOST", "$G", 5002), "host"},
      {"network", Datagram("$IN_NET", "$G", 5001), "net"},
      {"network before port", Datagram("$IN_NET", "$G", 5002), "net"},
      {"site", Datagram("$IN_SITE", "$G", 5001), "site"},
      {"port", Datagram("$FAR", "$G", 5002), "any-port"},
      {"all senders", Datagram("$FAR", "$G", 5001), "any"},
      {"group before source and port", Datagram("$FAR", "$G", 5003), "any"},
      {"wider group", Datagram("$FAR", "$G2", 5001), "wide"},
      {"wider group with source and port", Datagram("$HOST", "$G2", 5003), "wide-port"},
      {"wider group, another source", Datagram("$IN_NET", "$G2", 5003), "wide"},
      {"one bit of the source before port", Datagram("$HOST", "$G3", 5001), "small"},
      {"another group", Datagram("$FAR", "$G3", 5001), ""},
      {"first fragment", FirstFragment("$HOST", "$G", 5001), "host-port"},
      {"first fragment, another port", FirstFragment("$FAR", "$G", 5002), "any-port"},
      {"later fragment has no port", LaterFragment("$HOST", "$G"), "host"},
      {"later fragment of the wider group", LaterFragment("$HOST", "$G2"), "wide"},
  });
}

TEST_P(MulticastRoutes, LaterFragmentsNeedARouteWithoutPort) {
  Use(R"(
  - {name: port, input: {interfaces: [in], group: "$G", port: 5001}, legs: [{interface: out}]}
  - {name: all, input: {interfaces: [in], group: "$G2"}, legs: [{interface: out}]}
)");
  ExpectRoutes({
      {"whole", Datagram("$FAR", "$G"), "port"},
      {"first", FirstFragment("$FAR", "$G", 5001), "port"},
      {"later", LaterFragment("$FAR", "$G"), ""},
      {"first, any port", FirstFragment("$FAR", "$G2", 7), "all"},
      {"later, any port", LaterFragment("$FAR", "$G2"), "all"},
  });
}

TEST_P(MulticastRoutes, SendersAreTakenAndLeftOut) {
  Use(R"(
  - {name: part, input: {interfaces: [in], group: "$G", sources: {include: [$SITE], exclude: [$NET]}}, legs: [{interface: out}]}
  - {name: back, input: {interfaces: [in], group: "$G", sources: {include: ["$HOST"]}}, legs: [{interface: out}]}
  - {name: wide, input: {interfaces: [in], group: $WIDE}, legs: [{interface: out}]}
  - {name: others, input: {interfaces: [in], group: "$G2", sources: {exclude: [$NET, "$FAR"]}}, legs: [{interface: out}]}
  - {name: theirs, input: {interfaces: [in], group: "$G2", sources: {include: [$NET]}}, legs: [{interface: gone}]}
  - {name: port, input: {interfaces: [in], group: "$G3", sources: {exclude: [$NET]}, port: 5001}, legs: [{interface: out}]}
  - {name: ports, input: {interfaces: [in], group: "$G3"}, legs: [{interface: out}]}
)");
  ExpectRoutes({
      {"included", Datagram("$IN_SITE", "$G"), "part"},
      {"left out, by less specific routes too", Datagram("$IN_NET", "$G"), ""},
      {"left out, taken by a more specific one", Datagram("$HOST", "$G"), "back"},
      {"not included", Datagram("$FAR", "$G"), "wide"},
      {"another group", Datagram("$IN_NET", "$G2"), "theirs"},
      {"what one leaves out another of the same right takes", Datagram("$HOST", "$G2"), "theirs"},
      {"not left out", Datagram("$IN_SITE", "$G2"), "others"},
      {"left out and nobody's", Datagram("$FAR", "$G2"), ""},
      {"of the port", Datagram("$FAR", "$G3", 5001), "port"},
      {"left out of the port", Datagram("$HOST", "$G3", 5001), ""},
      {"of another port nobody is left out", Datagram("$HOST", "$G3", 5002), "ports"},
      {"a later fragment neither", LaterFragment("$HOST", "$G3"), "ports"},
  });
}

TEST_P(MulticastRoutes, InputInterfaces) {
  Use(R"(
  - {name: there, input: {interfaces: [out], group: "$G"}, legs: [{interface: gone}]}
  - {name: both, input: {interfaces: [out, in], group: "$G2"}, legs: [{interface: gone}]}
  - {name: more, input: {interfaces: [in], group: $WIDE, sources: {include: ["$HOST"]}}, legs: [{interface: out}]}
)");
  ExpectRoutes({
      {"another interface's", Datagram("$FAR", "$G"), ""},
      {"a less specific one of this interface", Datagram("$HOST", "$G"), "more"},
      {"one of two", Datagram("$FAR", "$G2"), "both"},
  });
  program().SetIngress({.ifindex = LabGateway::Index("out0")});
  for (const char* group : {"$G", "$G2"}) {
    EXPECT_EQ(program().Run(Datagram("$HOST", group), gateway().Port("out")).reason, "forward_multicast") << group;
  }
  EXPECT_EQ(gateway().RouteCount("there").packets, 1U);
  EXPECT_EQ(gateway().RouteCount("both").packets, 3U);
}

TEST_P(MulticastRoutes, Protocols) {
  const std::string icmp = ip().ipv6 ? "icmpv6" : "icmp";
  Use(R"(
  - {name: udp, input: {interfaces: [in], group: "$G"}, legs: [{interface: out}]}
  - {name: esp, input: {interfaces: [in], group: "$G", protocol: esp}, legs: [{interface: out}]}
  - {name: tcp, input: {interfaces: [in], group: "$G", protocol: tcp, port: 80}, legs: [{interface: out}]}
  - {name: sctp, input: {interfaces: [in], group: "$G", protocol: sctp, port: 5001}, legs: [{interface: out}]}
  - {name: lite, input: {interfaces: [in], group: "$G", protocol: udplite}, legs: [{interface: out}]}
  - {name: ping, input: {interfaces: [in], group: "$G", protocol: )" +
      icmp + R"(}, legs: [{interface: out}]}
  - {name: odd, input: {interfaces: [in], group: "$G2", protocol: "200"}, legs: [{interface: out}]}
)");
  const auto of = [&](const char* group, const auto& rest) -> Bytes {
    return kEth / ip().Ip("$FAR", group) / rest;
  };
  const Bytes ports = {0x0f, 0xa0, 0x13, 0x89, 0, 0, 0, 0, 0, 0, 0, 0};  // 4000 and 5001
  ExpectRoutes({
      {"UDP", Datagram("$FAR", "$G"), "udp"},
      {"ESP", of("$G", Protocol{.number = IPPROTO_ESP, .bytes = Bytes(60)}), "esp"},
      {"TCP", of("$G", Tcp{.destination_port = 80}), "tcp"},
      {"TCP, another port", of("$G", Tcp{.destination_port = 81}), ""},
      {"SCTP", of("$G", Protocol{.number = IPPROTO_SCTP, .bytes = ports}), "sctp"},
      {"SCTP, another port", of("$G", Protocol{.number = IPPROTO_SCTP}), ""},
      {"UDP-Lite", of("$G", Protocol{.number = IPPROTO_UDPLITE, .bytes = ports}), "lite"},
      {"echo", ip().ipv6 ? of("$G", Icmpv6{} / Payload(20)) : of("$G", Icmp{} / Payload(20)), "ping"},
      {"nobody's protocol", of("$G", Protocol{.number = 201}), ""},
      {"a number", of("$G2", Protocol{.number = 200}), "odd"},
      {"UDP to that group", Datagram("$FAR", "$G2"), ""},
  });
}

// Nothing but what is sent to groups, and of that not what hosts and routers of the link tell each other.
TEST_P(MulticastRoutes, WhatIsNeverTaken) {
  const std::string reports = ip().ipv6 ? "icmpv6" : "igmp";
  const std::string routes = R"(
  - {name: wide, input: {interfaces: [in], group: )" +
                             std::string(ip().ipv6 ? "\"ff3e::/16\"" : "239.0.0.0/8") +
                             R"(}, legs: [{interface: out}]}
  - {name: reports, input: {interfaces: [in], group: $WIDE, protocol: )" +
                             reports + "}, legs: [{interface: out}]}\n";
  const auto report = [&](const char* group, uint8_t type, uint8_t hops) -> Bytes {
    if (!ip().ipv6) return kEth / ip().Ip("$FAR", group) / Protocol{.number = IPPROTO_IGMP, .bytes = Bytes(8)};
    return kEth / Ipv6{.source = ip().Expand("$FAR"), .destination = ip().Expand(group), .hop_limit = hops} /
           Icmpv6{.type = type} / Payload(20);
  };
  const Bytes to_host = kEth / ip().Ip("$FAR", "$HOST") / Udp{} / Payload(40),
              link_local = kEth / ip().Ip("$FAR", ip().ipv6 ? "ff02::5" : "224.0.0.5") / Udp{} / Payload(40),
              broadcast = Ethernet{.destination = "ff:ff:ff:ff:ff:ff"} / Ipv4{.destination = "255.255.255.255"} /
                          Udp{} / Payload(40),
              own_link = Ethernet{.destination = LabGateway::kIn, .source = kEth.source} / ip().Ip("$FAR", "$G") /
                         Udp{} / Payload(40);
  for (const char* action : {"pass", "drop"}) {
    SCOPED_TRACE(action);
    Use(routes, std::string("default_action: ") + action + "\n");
    const char* spared = *action == 'p' ? "pass_default" : "pass_essential";
    const char* fate = *action == 'p' ? "pass_default" : "drop_default";
    Expect({
        {"a host, sent to a group's MAC", to_host, fate},
        {"a group, sent to a host's MAC", own_link, "forward_multicast", "wide"},
        {"link-local", link_local, fate},
        {"broadcast", broadcast, fate},
        {"ARP", Ethernet{.destination = "ff:ff:ff:ff:ff:ff"} / Arp{}, spared},
        {"neither IP", Ethernet{.destination = kEth.destination, .type = 0x88b5} / Payload(60), fate},
        {"a report of membership", report("$G", 131, 1), spared},
        {"a query", report("$G", 130, 1), spared},
        {"malformed", Truncate(Datagram("$FAR", "$G"), 30), ip().ipv6 ? "ipv6_short" : "ipv4_short"},
        {"sent by a group", kEth / ip().Ip("$G", "$G") / Udp{}, "source_group"},
    });
    if (!ip().ipv6) continue;
    Expect({{"neighbour solicitation", report("$G", 135, 255), spared},
            {"the same from beyond the link", report("$G", 135, 254), "forward_multicast", "reports"}});
  }
}

TEST_P(MulticastRoutes, RulesComeFirst) {
  const auto tagged = [&](uint16_t vlan, const std::string& source = "$FAR", uint16_t port = 5001) -> Bytes {
    return kEth / Vlan{.id = vlan} / ip().Ip(source, "$G") / Udp{.destination_port = port} / Payload(40);
  };
  for (const char* action : {"pass", "drop"}) {
    SCOPED_TRACE(action);
    Use("  - {name: feed, input: {interfaces: [in], group: \"$G\"}, legs: [{interface: out}, {interface: "
        "gone}]}\n",
        std::string("default_action: ") + action + R"(
management: {allow: [{source: "$HOST", protocol: udp, destination_ports: ["22"]}]}
next_hops: [{name: h, interface: out, mac: "02:00:00:00:00:77"}]
steer_targets: [{name: t, fallback: drop}, {name: p}]
rules:
  - {name: drop, priority: 9, match: {vlan: 1}, action: {drop: {}}}
  - {name: away, priority: 8, match: {vlan: 2}, action: {redirect: {interface: out}}}
  - {name: steer, priority: 7, match: {vlan: 3}, action: {steer: {target: t}}}
  - {name: steer-or-pass, priority: 6, match: {vlan: 4}, action: {steer: {target: p}}}
  - {name: tx, priority: 4, match: {vlan: 6}, action: {tx: {}}}
  - {name: pass, priority: 3, match: {vlan: 7}, action: {pass: {}}}
  - {name: pass-all, priority: 1, match: {vlan: 9}, action: {pass: {}, count: {counter: passed}}}
)");
    const char* fate = *action == 'p' ? "pass_default" : "drop_default";
    Expect({
        {"drop", tagged(1), "drop_rule", "", "drop"},
        {"redirect", tagged(2), "forward_redirect", "", "away"},
        {"steer", tagged(3), "drop_steer_fallback", "", "steer"},
        {"steer, and nobody takes it", tagged(4), "pass_steer_fallback", "", "steer-or-pass"},
        {"tx", tagged(6), "drop_tx_group", "", "tx"},
        {"pass", tagged(7), "forward_multicast", "feed", "pass"},
        {"no rule", tagged(8), "forward_multicast", "feed"},
        {"of another group, by the rule", kEth / Vlan{.id = 7} / ip().Ip("$FAR", "$G2") / Udp{}, "pass_rule", "",
         "pass"},
        {"of another group", kEth / ip().Ip("$FAR", "$G2") / Udp{}, fate},
        {"management", tagged(8, "$HOST", 22), "pass_management"},
        {"management before rules", tagged(1, "$HOST", 22), "pass_management"},
        {"the same sender, another port", tagged(8, "$HOST", 23), "forward_multicast", "feed"},
    });
    // What the rule is for goes on, whatever the route does.
    EXPECT_EQ(gateway().Run(tagged(9)).counters, (std::map<std::string, uint64_t>{{"passed", 1}}));
  }
}

TEST_P(MulticastRoutes, NextHopsAndRateLimitsComeFirst) {
  const std::string feed =
      "  - {name: feed, input: {interfaces: [in], group: \"$G\"}, legs: [{interface: out}]}\n";
  Use(feed, R"(
next_hops: [{name: h, interface: out, mac: "02:00:00:00:00:77"}]
rules: [{name: r, priority: 1, action: {next_hop: {name: h}}}]
)");
  EXPECT_EQ(gateway().Run(Datagram("$FAR", "$G")).reason, "forward_next_hop");
  Use(feed,
      "rules: [{name: r, priority: 1, action: {rate_limit: {packets_per_second: 1, burst: 2}, pass: {}}}]\n");
  for (const char* reason : {"forward_multicast", "forward_multicast", "drop_rate_limit"}) {
    const Outcome outcome = gateway().Run(Datagram("$FAR", "$G"));
    EXPECT_EQ(outcome.reason, reason);
    EXPECT_EQ(outcome.route, outcome.limited ? "" : "feed");
    EXPECT_EQ(outcome.rule, "r");
  }
}

// More than a page of routes and of legs: each packet finds its own, before and after others go.
TEST_P(MulticastRoutes, ManyRoutes) {
  constexpr int kRoutes = 100;
  const auto group = [&](int i) { return (ip().ipv6 ? "ff3e:7::" : "239.7.7.") + std::to_string(i); };
  const auto routes = [&](int step) {
    std::string all;
    for (int i = 1; i <= kRoutes; i += step) {
      absl::StrAppend(&all, "  - {name: r", i, ", input: {interfaces: [in], group: \"", group(i),
                      "\"}, legs: [{interface: out}", i % 3 == 0 ? ", {interface: gone}" : "", "]}\n");
    }
    return all;
  };
  const auto check = [&](int step) {
    for (int i = 1; i <= kRoutes; ++i) {
      SCOPED_TRACE(i);
      const Outcome outcome = gateway().Run(Datagram("$FAR", group(i)));
      EXPECT_EQ(outcome.route, (i - 1) % step == 0 ? "r" + std::to_string(i) : "");
      EXPECT_EQ(outcome.reason, (i - 1) % step == 0 ? "forward_multicast" : "pass_default");
    }
  };
  Use(routes(1));
  check(1);
  gateway().Configure("multicast_routes:\n" + routes(4));
  check(4);
  EXPECT_EQ(gateway().RouteCount("r1").packets, 2U) << "what stays goes on counting";
  gateway().Configure("multicast_routes:\n" + routes(1));
  check(1);
  EXPECT_EQ(gateway().RouteCount("r1").packets, 3U);
  EXPECT_EQ(gateway().RouteCount("r2").packets, 1U) << "what comes again begins anew";
}

}  // namespace
}  // namespace headgate::testing
