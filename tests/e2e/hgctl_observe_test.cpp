// SPDX-License-Identifier: Apache-2.0
//
// hgctl's verbs that look: trace, stats, top, watch, status, and those about the agent and the connection.
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <signal.h>

#include <atomic>
#include <thread>

#include "tests/e2e/hgctl_fixture.h"

namespace headgate::testing {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

// Frames from the client until this goes.
class Sender {
 public:
  Sender(Wire& wire, const Bytes& frame)
      : thread_([&wire, frame](const std::stop_token& stop) {
          while (!stop.stop_requested()) {
            wire.Send(frame);
            std::this_thread::yield();
          }
        }) {}

 private:
  std::jthread thread_;
};

Bytes UdpFrame(uint16_t port) { return Ethernet{} / Ipv4{} / Udp{.destination_port = port} / Payload(50); }

std::string Text(const Bytes& bytes) { return {bytes.begin(), bytes.end()}; }

class HgctlTraceTest : public HgctlTest {
 protected:
  void SetUp() override {
    HgctlTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    // A route with a neighbour, for the route action.
    lab().In("gw", "sysctl -qw net.ipv4.ip_forward=1");
    lab().Ip("gw", "addr replace 10.0.1.1/24 dev g0");
    lab().Ip("gw", "addr replace 10.0.2.1/24 dev g1");
    lab().Ip("gw", "neigh replace 10.0.2.2 lladdr 02:00:00:00:0b:01 dev g1 nud permanent");
    Print({"apply", "--patch", "-f", "-", "--wait"}, R"(
upsert:
  rules:
    - {name: east, priority: 50, match: {destination: 10.0.2.0/24}, action: {route: {}}}
    - {name: limited, priority: 45, match: {protocol: sctp}, action: {rate_limit: {packets_per_second: 5}, pass: {}}}
)");
  }
  pb::TraceResponse Trace(const std::string& description) {
    return Read<pb::TraceResponse>({"trace", description});
  }
};

TEST_F(HgctlTraceTest, SaysWhatBecomesOfAPacketWhileNoCounterMoves) {
  // Something to move.
  EXPECT_EQ(FateOfPort(9), "drop_rule");
  NowAndAfterRestart([&] {
    auto before = Read<pb::StatsResponse>({"stats"});

    const auto drop = Trace("udp 10.0.0.1:1234 > 10.1.1.1:9 in in");
    EXPECT_THAT(drop.stages(), ElementsAre("parse", "classify"));
    EXPECT_EQ(drop.rule(), "drop-9");
    EXPECT_EQ(drop.verdict(), "drop");
    EXPECT_EQ(drop.reason(), "drop_rule");

    const auto route = Trace("tcp 10.0.1.2:5000 > 10.0.2.2:80 in in ttl 9");
    EXPECT_THAT(route.stages(), ElementsAre("parse", "classify", "forward"));
    EXPECT_EQ(route.rule(), "east");
    EXPECT_EQ(route.verdict(), "redirect");
    EXPECT_EQ(route.reason(), "forward_route");
    EXPECT_EQ(route.egress_interface(), "out");
    // The neighbour's address, and one hop less with the checksum to it.
    EXPECT_THAT(route.output(), StartsWith(std::string("\x02\x00\x00\x00\x0b\x01", 6)));
    EXPECT_EQ(route.output()[14 + 8], 8);
    EXPECT_EQ(InternetChecksum(reinterpret_cast<const uint8_t*>(route.output().data()) + 14, 20), 0);

    const auto hop = Trace("udp 10.0.0.1:1 > 10.1.1.1:7005 in in");
    EXPECT_EQ(hop.rule(), "hop");
    EXPECT_EQ(hop.reason(), "forward_next_hop");
    EXPECT_THAT(hop.output(), StartsWith(std::string("\x02\x00\x00\x00\x0c\x01", 6)));

    const auto wire = Trace("udp [2001:db8::1]:1 > [2001:db8::2]:53 in in vlan 5");
    EXPECT_EQ(wire.rule(), "wire");
    EXPECT_EQ(wire.reason(), "forward_redirect");
    EXPECT_EQ(wire.output(), wire.frame());

    const auto evil = Trace("icmp 198.51.100.9 > 10.1.1.1:8/0 in out");
    EXPECT_EQ(evil.rule(), "evil");

    const auto none = Trace("udp 10.0.0.1:1 > 10.1.1.1:2 in out");
    EXPECT_EQ(none.rule(), "");
    EXPECT_EQ(none.verdict(), "pass");
    EXPECT_EQ(none.reason(), "pass_default");

    EXPECT_THAT(Trace("sctp 10.0.0.1:1 > 10.1.1.1:2 in in").stages(), ElementsAre("parse", "classify", "police"));

    auto after = Read<pb::StatsResponse>({"stats"});
    after.clear_time();
    before.clear_time();
    EXPECT_EQ(after.DebugString(), before.DebugString());
  });
}

TEST_F(HgctlTraceTest, TakesFramesInHex) {
  const std::string hex =
      "0200000000010200000000020800450000 1c00000000401163ce0a0000010a010101 04d2 0009 0008 0000";
  NowAndAfterRestart([&] {
    const auto traced = Read<pb::TraceResponse>({"trace", "--hex", hex, "--interface", "in"});
    EXPECT_EQ(traced.rule(), "drop-9");
    EXPECT_EQ(traced.frame().size(), 42u);
    const auto cut =
        Read<pb::TraceResponse>({"trace", "--hex", "ffffffffffff020000000001 0800 45", "--interface", "in"});
    EXPECT_EQ(cut.verdict(), "drop");
    EXPECT_EQ(cut.reason(), "ipv4_short");
    EXPECT_THAT(cut.stages(), ElementsAre("parse"));
  });
}

TEST_F(HgctlTraceTest, IsReadable) {
  EXPECT_THAT(Print({"trace", "tcp", "10.0.1.2:5000", ">", "10.0.2.2:80", "in", "in"}),
              AllOf(StartsWith("packet       tcp 10.0.1.2:5000 > 10.0.2.2:80 flags syn ttl 64, 54 bytes\n"
                               "stages       parse > classify > forward\n"
                               "rule         east\n"
                               "verdict      redirect\n"
                               "reason       forward_route: forwarded by the kernel's routes and neighbours\n"
                               "egress       out\n"
                               "generation   2\n"),
                    HasSubstr("\nleaves, 54 bytes:\n  ethernet "), HasSubstr(" > 02:00:00:00:0b:01 type 0x0800\n"),
                    HasSubstr("ttl 63"), HasSubstr("\n  0000  02 00 00 00 0b 01 ")));
}

TEST_F(HgctlTraceTest, MistakesAreExplained) {
  const auto fails = [&](const std::vector<std::string>& words, int code, const std::string& why) {
    const CommandResult result = Hgctl(words);
    EXPECT_EQ(result.code, code);
    EXPECT_THAT(result.err, HasSubstr(why));
    EXPECT_EQ(result.out, "");
  };
  fails({"trace", "udp 10.0.0.1:1 > 10.0.0.2:2"}, 1, "end the description with \"in NAME\"");
  fails({"trace", "udp 10.0.0.1:1 > 10.0.0.2:2 in nowhere"}, 1, "there is no interface \"nowhere\"");
  fails({"trace", "udq 10.0.0.1:1 > 10.0.0.2:2 in in"}, 1, "\"udq\" is not a protocol");
  fails({"trace", "--hex", "0200", "--interface", "in"}, 1, "14");
  fails({"trace", "udp 10.0.0.1:1 10.0.0.2:2 in in"}, 2, "quote the description");
}

// ---- stats -----------------------------------------------------------------------------------------------------

TEST_F(HgctlTest, StatsAreWhatWasSent) {
  for (int i = 0; i < 7; ++i) client().Send(UdpFrame(9));
  for (int i = 0; i < 5; ++i) client().Send(UdpFrame(53));
  ASSERT_EQ(server().ReceiveCount([](const Bytes& frame) { return IsIp(frame, IPPROTO_UDP); }, 5), 5u);
  NowAndAfterRestart([&] {
    const auto stats = Read<pb::StatsResponse>({"stats"});
    ASSERT_EQ(stats.interfaces_size(), 2);
    EXPECT_EQ(stats.interfaces(0).name(), "in");
    EXPECT_GE(stats.interfaces(0).received_packets(), 12u);
    const auto rules = Read<pb::StatsResponse>({"stats", "rules", "drop-9", "wire"});
    EXPECT_EQ(rules.interfaces_size(), 0);
    ASSERT_EQ(rules.rules_size(), 2);
    EXPECT_EQ(rules.rules(0).packets(), 7u);
    EXPECT_EQ(rules.rules(0).bytes(), 7u * (14 + 20 + 8 + 50));

    const std::string table = Unaligned(Print({"stats"}));
    EXPECT_THAT(table, StartsWith("INTERFACE RECEIVED "));
    EXPECT_THAT(table, HasSubstr("\nin drop_rule drop "));
    EXPECT_THAT(table, HasSubstr("a rule said drop\n"));
    EXPECT_THAT(table, HasSubstr("\ndrop-9 7 644 0\n"));
    EXPECT_THAT(table, HasSubstr("\nevil 0 0\n"));  // the named counter
    EXPECT_THAT(Print({"stats", "rules", "--nonzero"}), AllOf(HasSubstr("drop-9"), Not(HasSubstr("evil"))));
  });
  const CommandResult missing = Hgctl({"stats", "rules", "drop-9", "drop-8"});
  EXPECT_EQ(missing.code, 1);
  EXPECT_EQ(missing.err, "hgctl: nothing is counted by the name \"drop-8\"\n");
}

TEST_F(HgctlTest, StatsStreamAtAnInterval) {
  const std::vector<std::string> words = {"stats", "rules", "drop-9", "--interval", "100ms", "-n", "3", "-o"};
  const auto with = [&](const char* format) {
    std::vector<std::string> all = words;
    all.emplace_back(format);
    return Print(all);
  };
  const std::vector<std::string> lines = Lines(with("json"));
  ASSERT_EQ(lines.size(), 3u);
  for (const std::string& line : lines) {
    pb::StatsResponse stats;
    EXPECT_TRUE(ParseJson(line, "json", stats).ok()) << line;
    EXPECT_EQ(stats.rules_size(), 1);
  }
  const std::vector<std::string> documents = absl::StrSplit(with("yaml"), "---\n", absl::SkipEmpty());
  ASSERT_EQ(documents.size(), 3u);
  pb::StatsResponse stats;
  EXPECT_TRUE(ParseYaml(documents[2], "yaml", stats).ok()) << documents[2];
  EXPECT_EQ(Lines(with("table")).size(), 9u);  // time, titles, the rule
  const CommandResult fast = Hgctl({"stats", "--interval", "1ms"});
  EXPECT_EQ(fast.code, 1);
  EXPECT_THAT(fast.err, HasSubstr("interval must be 100 ms to 1 h"));
}

// ---- top -------------------------------------------------------------------------------------------------------

TEST_F(HgctlTest, TopShowsRates) {
  const Sender sender(client(), UdpFrame(9));
  NowAndAfterRestart([&] {
    std::vector<std::string> rules;
    // However busy the machine is, some interval sees frames.
    EXPECT_TRUE(WaitFor([&] {
      rules = Lines(Print({"top", "rules", "-n", "1", "--interval", "300ms"}));
      return rules.size() >= 3 && ::testing::Matches(::testing::ContainsRegex("^drop-9 +[1-9]"))(rules[2]);
    }));
    ASSERT_GE(rules.size(), 2u);
    EXPECT_THAT(rules[0], HasSubstr(" packets/s  "));
    EXPECT_THAT(rules[1], StartsWith("RULE "));
    const std::vector<std::string> interfaces =
        Lines(Print({"top", "--sort", "name", "-n", "2", "--interval", "200ms"}));
    ASSERT_EQ(interfaces.size(), 8u);  // twice: summary, titles, two interfaces
    EXPECT_THAT(interfaces[1], StartsWith("INTERFACE  PACKETS/S  "));
    EXPECT_THAT(interfaces[2], StartsWith("in "));
    EXPECT_THAT(interfaces[3], StartsWith("out "));
  });
}

TEST_F(HgctlTest, TopTakesTheTerminalAndGivesItBack) {
  CommandOptions options = Options();
  options.terminal = true;
  for (const char* keys : {"bq", "\x03"}) {
    Command top(Words({"top", "--interval", "100ms"}), options);
    ASSERT_TRUE(WaitFor([&] { return top.Out().find("INTERFACE  PACKETS/S") != std::string::npos; })) << top.Out();
    EXPECT_THAT(top.Out(), StartsWith("\x1b[?1049h"));
    top.Type(keys);
    const CommandResult result = top.Wait();
    EXPECT_EQ(result.code, 0);
    EXPECT_THAT(result.out, ::testing::EndsWith("\x1b[?1049l"));
  }
  // The agent goes away: the terminal is given back all the same.
  Command top(Words({"top", "--interval", "100ms"}), options);
  ASSERT_TRUE(WaitFor([&] { return top.Out().find("INTERFACE  PACKETS/S") != std::string::npos; })) << top.Out();
  agent().Kill();
  const CommandResult result = top.Wait();
  EXPECT_EQ(result.code, 4);
  EXPECT_THAT(result.out, HasSubstr("\x1b[?1049lhgctl: "));
  agent().Start();
}

// ---- watch -----------------------------------------------------------------------------------------------------

TEST_F(HgctlTest, WatchPrintsEventsAsTheyHappen) {
  NowAndAfterRestart([&] {
    Command watch(Words({"watch", "-o", "json"}), Options());
    Command yaml(Words({"watch", "-o", "yaml", "-n", "1"}), Options());
    Command text(Words({"watch", "--types", "generation_applied,rolled_back", "-n", "1"}), Options());
    // Until they are connected, nobody knows when.
    ASSERT_TRUE(WaitFor([&] {
      Print({"delete", "rule", "drop-9", "--wait"});
      Print({"apply", "-f", "-", "--wait"}, kDocument);
      return !watch.Out().empty() && !yaml.Running() && !text.Running();
    }));
    const CommandResult line = text.Wait();
    EXPECT_EQ(line.code, 0);
    EXPECT_THAT(line.out, ::testing::ContainsRegex("^20[0-9-]+ [0-9:.]+  generation [0-9]+ applied\n$"));
    pb::Event event;
    EXPECT_TRUE(ParseYaml(yaml.Wait().out.substr(4), "yaml", event).ok());

    lab().Ip("gw", "link set g1 down");
    lab().Ip("gw", "link set g1 up");
    lab().In("gw", "ethtool -K g1 gro on");
    const auto saw = [&](const std::function<bool(const pb::Event&)>& wanted) {
      for (const std::string& json : Lines(watch.Out())) {
        if (ParseJson(json, "json", event).ok() && wanted(event)) return true;
      }
      return false;
    };
    EXPECT_TRUE(WaitFor([&] {
      return saw(
          [](const pb::Event& e) { return e.type() == pb::EVENT_TYPE_INTERFACE_CHANGE && e.name() == "out"; });
    })) << watch.Out();
    watch.Signal(SIGINT);
    EXPECT_EQ(watch.Wait().code, 128 + SIGINT);
  });
}

TEST_F(HgctlTest, WatchShowsSamplesWhenAsked) {
  Print({"apply", "--patch", "-f", "-", "--wait"}, R"(
upsert: {rules: [{name: seen, priority: 60, match: {protocol: udp, destination_ports: ["77"]},
                  action: {sample: {one_in: 1}, next_hop: {name: hop}}}]}
)");
  NowAndAfterRestart([&] {
    Command json(Words({"watch", "--samples", "-n", "3", "-o", "json"}), Options());
    Command text(Words({"watch", "--types", "sample", "-v", "-n", "1"}), Options());
    {
      const Sender sender(client(), UdpFrame(77));
      ASSERT_TRUE(WaitFor([&] { return !json.Running() && !text.Running(); }));
    }
    const std::vector<std::string> lines = Lines(json.Wait().out);
    ASSERT_EQ(lines.size(), 3u);
    pb::Event event;
    ASSERT_TRUE(ParseJson(lines[2], "json", event).ok());
    EXPECT_EQ(event.type(), pb::EVENT_TYPE_SAMPLE);
    EXPECT_EQ(event.sample().rule(), "seen");
    EXPECT_EQ(event.sample().reason(), "forward_next_hop");
    EXPECT_EQ(event.sample().data(), Text(UdpFrame(77)));
    EXPECT_THAT(text.Wait().out,
                AllOf(HasSubstr("  sample in in by seen: forward_next_hop, 92 bytes: udp 192.0.2.1:12345 > "),
                      HasSubstr("\n    payload 50 bytes\n"), HasSubstr("\n    0000  02 00 ")));
  });
}

TEST_F(HgctlTest, WatchEndsWithTheAgent) {
  Command watch(Words({"watch"}), Options());
  ASSERT_TRUE(WaitFor([&] {
    Print({"delete", "rule", "drop-9", "--wait"});
    Print({"apply", "-f", "-", "--wait"}, kDocument);
    return !watch.Out().empty();
  }));
  agent().Kill();
  const CommandResult result = watch.Wait();
  EXPECT_EQ(result.code, 4);
  EXPECT_THAT(result.err, StartsWith("hgctl: "));
  agent().Start();
}

// ---- the agent, the connection ---------------------------------------------------------------------------------

TEST_F(HgctlTest, StatusAndVersionAndLogLevel) {
  NowAndAfterRestart([&] {
    const auto status = Read<pb::StatusResponse>({"status"});
    EXPECT_EQ(status.desired_generation(), 1u);
    EXPECT_GT(status.tables_size(), 10);
    EXPECT_GT(status.resident_bytes(), 1u << 20);
    const std::string text = Print({"status"});
    EXPECT_THAT(text,
                AllOf(HasSubstr("\ngeneration   1, applied\n"), HasSubstr("\nTABLE "), HasSubstr("\nhg_rules ")));
    EXPECT_EQ(Print({"log-level", "debug"}), "log level debug, was info\n");
    EXPECT_EQ(Read<pb::StatusResponse>({"status"}).log_level(), "debug");
    EXPECT_EQ(Print({"version"}), "hgctl " HG_VERSION "\nheadgated " HG_VERSION "\n");
  });
}

TEST_F(HgctlTest, CompletionKnowsTheAgentsNames) {
  EXPECT_EQ(Print({"__complete", "get", "rules", "h"}), "hop\n");
  EXPECT_EQ(Print({"__complete", "set", "add", ""}), "bogons\n");
  EXPECT_EQ(Print({"__complete", "stats", "counters", ""}), "evil\n");
  EXPECT_EQ(Print({"__complete", "--address", "unix:/nonexistent", "get", "rules", ""}), "");
}

TEST_F(HgctlTest, NoAgentIsFour) {
  agent().Kill();
  const CommandResult result = Hgctl({"status"});
  EXPECT_EQ(result.code, 4);
  EXPECT_THAT(result.err, AllOf(StartsWith("hgctl: no connection to the agent at " + agent().address()),
                                HasSubstr("is headgated running?")));
  agent().Start();
  Print({"status"});
}

TEST_F(HgctlTest, TcpIsWithMutualTls) {
  const std::string dir = agent().directory() + "/";
  Shell("cd " + dir + R"( &&
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=ca -keyout ca.key -out ca.pem &&
for who in agent client; do
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=$who -keyout $who.key -out $who.csr &&
  echo subjectAltName=IP:127.0.0.1 > $who.ext &&
  openssl x509 -req -in $who.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 1 -extfile $who.ext -out $who.pem
done)");
  RestartWith({{"--listen", "127.0.0.1:7443"},
               {"--tls-cert", dir + "agent.pem"},
               {"--tls-key", dir + "agent.key"},
               {"--tls-client-ca", dir + "ca.pem"}});
  const auto call = [&](const std::vector<std::string>& with) {
    std::vector<std::string> words = {"--address", "127.0.0.1:7443", "--timeout", "10s", "status"};
    words.insert(words.end(), with.begin(), with.end());
    CommandOptions options = Options();
    options.netns = lab().Name("gw");
    return RunCommand(Words(words), options);
  };
  const CommandResult good =
      call({"--tls-ca", dir + "ca.pem", "--tls-cert", dir + "client.pem", "--tls-key", dir + "client.key"});
  EXPECT_EQ(good.code, 0) << good.err;
  EXPECT_THAT(good.out, HasSubstr("generation   1, applied\n"));
  // Without a certificate, without trust, without TLS.
  EXPECT_EQ(call({"--tls-ca", dir + "ca.pem"}).code, 2);
  EXPECT_EQ(call({"--tls-cert", dir + "client.pem", "--tls-key", dir + "client.key"}).code, 4);
  EXPECT_EQ(call({"--insecure"}).code, 4);
}

}  // namespace
}  // namespace headgate::testing
