// SPDX-License-Identifier: Apache-2.0
//
// hgbench's command line.
#include <gtest/gtest.h>

#include "tests/unit/bench_options.h"

namespace headgate::bench {
namespace {

TEST(BenchOptionsTest, SendHasDefaults) {
  const auto send = Get<SendCommand>({"send", "eth0", "--destination-mac", "02:00:00:00:00:09"});
  EXPECT_EQ(send.options.device, "eth0");
  EXPECT_EQ(send.options.netns, "");
  EXPECT_EQ(send.options.frame.destination_mac, (MacAddress{2, 0, 0, 0, 0, 9}));
  EXPECT_FALSE(send.has_source_mac);
  EXPECT_EQ(ToString(send.options.frame.source), "198.18.0.1");
  EXPECT_EQ(ToString(send.options.frame.destination), "198.19.0.1");
  EXPECT_EQ(send.options.frame.transport, Transport::kUdp);
  EXPECT_EQ(send.options.frame.size, 64u);
  EXPECT_EQ(send.options.count, 0u);
  EXPECT_EQ(send.options.packets_per_second, 0u);
  EXPECT_FALSE(send.options.duration.has_value());
  EXPECT_FALSE(send.options.scheduling.cpu.has_value());
  EXPECT_TRUE(BuildTemplate(send.options.frame).ok());
}

TEST(BenchOptionsTest, SendTakesAll) {
  const auto send = Get<SendCommand>({"send",
                                      "eth0",
                                      "--netns",
                                      "client",
                                      "--destination-mac",
                                      "02:00:00:00:00:01",
                                      "--source-mac",
                                      "02:00:00:00:00:02",
                                      "--source",
                                      "2001:db8::1",
                                      "--destination",
                                      "2001:db8::2",
                                      "--protocol",
                                      "tcp",
                                      "--source-port",
                                      "1",
                                      "--destination-port",
                                      "2",
                                      "--size",
                                      "1400",
                                      "--flows",
                                      "3",
                                      "--stream",
                                      "4",
                                      "--rate",
                                      "5",
                                      "--count",
                                      "6",
                                      "--duration",
                                      "1.5",
                                      "--cpu",
                                      "1",
                                      "--realtime"});
  EXPECT_EQ(send.options.netns, "client");
  EXPECT_TRUE(send.has_source_mac);
  EXPECT_EQ(send.options.frame.source_mac, (MacAddress{2, 0, 0, 0, 0, 2}));
  EXPECT_EQ(ToString(send.options.frame.destination), "2001:db8::2");
  EXPECT_EQ(send.options.frame.transport, Transport::kTcp);
  EXPECT_EQ(send.options.frame.source_port, 1);
  EXPECT_EQ(send.options.frame.destination_port, 2);
  EXPECT_EQ(send.options.frame.size, 1400u);
  EXPECT_EQ(send.options.frame.flows, 3u);
  EXPECT_EQ(send.options.frame.stream, 4);
  EXPECT_EQ(send.options.packets_per_second, 5u);
  EXPECT_EQ(send.options.count, 6u);
  EXPECT_EQ(send.options.duration, std::chrono::milliseconds(1500));
  EXPECT_EQ(send.options.scheduling.cpu, 1);
  EXPECT_EQ(send.options.scheduling.realtime, 1);
}

TEST(BenchOptionsTest, GroupsBringTheirMac) {
  const auto group = Get<SendCommand>({"send", "eth0", "--destination", "239.1.2.3", "--groups", "4"});
  EXPECT_EQ(group.options.frame.groups, 4u);
  EXPECT_TRUE(group.options.frame.group_macs);
  EXPECT_TRUE(BuildTemplate(group.options.frame).ok());
  const auto given =
      Get<SendCommand>({"send", "eth0", "--destination", "239.1.2.3", "--destination-mac", "02:00:00:00:00:01"});
  EXPECT_FALSE(given.options.frame.group_macs);
  EXPECT_EQ(given.options.frame.destination_mac, (MacAddress{2, 0, 0, 0, 0, 1}));
  EXPECT_EQ(given.options.frame.groups, 1u);
}

TEST(BenchOptionsTest, Geneve) {
  const auto plain = Get<SendCommand>({"send", "eth0", "--destination-mac", "02:00:00:00:00:01"});
  EXPECT_FALSE(plain.options.frame.wrapped);
  const auto wrapped =
      Get<RunCommand>({"run", "a", "b", "--destination-mac", "02:00:00:00:00:01", "--size", "200", "--geneve",
                       "77", "--geneve-source", "fd00::1", "--geneve-destination", "fd00::2", "--geneve-option",
                       "0108:1:0123456789abcdef", "--geneve-option", "0108:3:cafef00d"});
  ASSERT_TRUE(wrapped.send.options.frame.wrapped);
  const GeneveSpec& geneve = wrapped.send.options.frame.geneve;
  EXPECT_EQ(geneve.vni, 77u);
  EXPECT_EQ(ToString(geneve.source), "fd00::1");
  EXPECT_EQ(ToString(geneve.destination), "fd00::2");
  EXPECT_EQ(geneve.options.size(), 20u);
  EXPECT_EQ(geneve.options[14], 3);
  EXPECT_TRUE(BuildTemplate(wrapped.send.options.frame).ok());
  // The outer destination is what the Ethernet address belongs to.
  const auto group = Get<SendCommand>({"send", "eth0", "--geneve", "0", "--geneve-destination", "239.0.0.9"});
  EXPECT_EQ(group.options.frame.destination_mac, (MacAddress{1, 0, 0x5e, 0, 0, 9}));
  EXPECT_FALSE(group.options.frame.group_macs);
  EXPECT_EQ(Parse({"send", "eth0", "--geneve", "0", "--destination", "239.0.0.9"}).exit_code, 2);
}

TEST(BenchOptionsTest, PcapKeepsItsTimesUnlessARateIsGiven) {
  const auto own = Get<SendCommand>({"send", "eth0", "--pcap", "f"});
  EXPECT_EQ(own.pcap, "f");
  EXPECT_EQ(own.loop, 1u);
  EXPECT_EQ(own.options.speed, 1);
  const auto faster = Get<RunCommand>({"run", "a", "b", "--pcap", "f", "--speed", "2.5", "--loop", "0"});
  EXPECT_EQ(faster.send.options.speed, 2.5);
  EXPECT_EQ(faster.send.loop, 0u);
  const auto rate = Get<SendCommand>({"send", "eth0", "--pcap", "f", "--pps", "1000", "--loop", "3"});
  EXPECT_FALSE(rate.options.speed.has_value());
  EXPECT_EQ(rate.options.packets_per_second, 1000u);
  EXPECT_EQ(rate.loop, 3u);
  EXPECT_FALSE(Get<SendCommand>({"send", "eth0", "--pcap", "f", "--rate", "0"}).options.speed.has_value());
}

TEST(BenchOptionsTest, Engine) {
  const auto given = Get<SendCommand>(
      {"send", "eth0", "--destination-mac", "02:00:00:00:00:09", "--engine", "xdp", "--queue", "3"});
  EXPECT_EQ(given.options.engine, EngineKind::kXdp);
  EXPECT_EQ(given.options.queue, 3u);
  const auto defaults = Get<SendCommand>({"send", "eth0", "--destination-mac", "02:00:00:00:00:09"});
  EXPECT_EQ(defaults.options.engine, EngineKind::kProg);
  EXPECT_EQ(defaults.options.queue, 0u);
}

TEST(BenchOptionsTest, Receive) {
  const auto receive = Get<ReceiveCommand>({"receive", "eth1", "--netns", "server", "--pass", "--count", "9"});
  EXPECT_EQ(receive.options.device, "eth1");
  EXPECT_EQ(receive.options.netns, "server");
  EXPECT_TRUE(receive.options.pass);
  EXPECT_FALSE(receive.options.count_only);
  EXPECT_EQ(receive.count, 9u);
}

TEST(BenchOptionsTest, RunHasTwoDevices) {
  const auto run = Get<RunCommand>({"run", "c0", "s0", "--from-netns", "client", "--to-netns", "server",
                                    "--destination-mac", "02:00:00:00:00:01", "--count", "10"});
  EXPECT_EQ(run.send.options.device, "c0");
  EXPECT_EQ(run.send.options.netns, "client");
  EXPECT_EQ(run.receive.device, "s0");
  EXPECT_EQ(run.receive.netns, "server");
  EXPECT_EQ(run.send.options.count, 10u);
}

TEST(BenchOptionsTest, SizesMayBeAMix) {
  const auto send = Get<SendCommand>({"send", "eth0", "--destination-mac", "02:00:00:00:00:09", "--size", "imix"});
  EXPECT_EQ(send.options.frame.size, 1514u);
  EXPECT_EQ(send.options.frame.sizes.size(), 12u);
  EXPECT_TRUE(BuildTemplate(send.options.frame).ok());
  EXPECT_EQ(Parse({"send", "eth0", "--destination-mac", "02:00:00:00:00:09", "--size", "64:0"}).exit_code, 2);
}

TEST(BenchOptionsTest, JsonAndQuietStandAnywhere) {
  for (const auto& words :
       {std::vector<const char*>{"--json", "f", "-q", "redirect"}, {"redirect", "--json", "f", "-q"}}) {
    const Parsed parsed = Parse(words);
    ASSERT_TRUE(parsed.command.has_value()) << parsed.err;
    EXPECT_EQ(parsed.command->json, "f");
    EXPECT_TRUE(parsed.command->quiet);
  }
}

TEST(BenchOptionsTest, WrongUsageIsTwoAndSaysWhatIsWrong) {
  const std::vector<std::pair<std::vector<const char*>, std::string>> cases = {
      {{}, "subcommand"},
      {{"fly"}, "subcommand"},
      {{"send", "eth0"}, "--destination-mac"},
      {{"send", "eth0", "--destination-mac", "nonsense"}, "nonsense"},
      {{"send", "eth0", "--destination-mac", "02:00:00:00:00:01", "--source", "300.1.1.1"}, "300.1.1.1"},
      {{"send", "eth0", "--destination-mac", "02:00:00:00:00:01", "--duration", "-1"}, "--duration"},
      {{"send", "eth0", "--destination-mac", "02:00:00:00:00:01", "--protocol", "icmp"}, "icmp"},
      {{"send", "eth0", "--destination-mac", "02:00:00:00:00:01", "--source-port", "70000"}, "70000"},
      {{"send", "eth0", "--destination-mac", "02:00:00:00:00:01", "--flows", "0"}, "--flows"},
      {{"send", "eth0", "--destination", "239.0.0.1", "--groups", "0"}, "--groups"},
      {{"send", "eth0", "--geneve", "16777216"}, "--geneve"},
      {{"send", "eth0", "--geneve", "1", "--geneve-option", "nonsense"}, "nonsense"},
      {{"send", "eth0", "--destination", "239.0.0.1", "--geneve-option", "1:1:"}, "--geneve"},
      {{"send", "eth0", "--pcap", "f", "--size", "100"}, "--size"},
      {{"send", "eth0", "--pcap", "f", "--geneve", "1"}, "--geneve"},
      {{"send", "eth0", "--pcap", "f", "--speed", "2", "--rate", "5"}, "--speed"},
      {{"send", "eth0", "--pcap", "f", "--speed", "0"}, "--speed"},
      {{"send", "eth0", "--destination-mac", "02:00:00:00:00:01", "--loop", "2"}, "--pcap"},
      {{"send", "eth0", "--destination-mac", "02:00:00:00:00:01", "--engine", "dpdk"}, "dpdk"},
      {{"receive"}, "device"},
      {{"run", "a", "--destination-mac", "02:00:00:00:00:01"}, "to"},
      {{"redirect", "--rounds", "0"}, "--rounds"},
      {{"redirect", "--placement", "above"}, "above"},
      {{"control", "--prefixes", "1000001"}, "--prefixes"},
      {{"control", "--prefixes", "1"}, "--prefixes"},
      {{"filter", "--headers", "16383"}, "--no-flow-cache"},
      {{"replace", "--rate", "0"}, "--rate"},
      {{"replace", "--flows", "257"}, "--flows"},
  };
  for (const auto& [words, needle] : cases) {
    const Parsed parsed = Parse(words);
    EXPECT_FALSE(parsed.command.has_value()) << needle;
    EXPECT_EQ(parsed.exit_code, 2) << needle;
    EXPECT_NE(parsed.err.find(needle), std::string::npos) << parsed.err;
    EXPECT_EQ(parsed.out, "");
  }
}

TEST(BenchOptionsTest, HelpAndVersionAreZero) {
  for (const auto& words : {std::vector<const char*>{"--help"},
                            {"send", "--help"},
                            {"receive", "-h"},
                            {"run", "--help"},
                            {"redirect", "--help"},
                            {"control", "--help"},
                            {"replace", "--help"},
                            {"--version"}}) {
    const Parsed parsed = Parse(words);
    EXPECT_FALSE(parsed.command.has_value());
    EXPECT_EQ(parsed.exit_code, 0);
    EXPECT_FALSE(parsed.out.empty());
    EXPECT_EQ(parsed.err, "");
  }
}

}  // namespace
}  // namespace headgate::bench
