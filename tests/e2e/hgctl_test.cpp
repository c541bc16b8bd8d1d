// SPDX-License-Identifier: Apache-2.0
//
// hgctl's verbs that change and show the configuration: apply, diff, get, set, delete, confirm, and how each ends.
#include <gtest/gtest.h>

#include <filesystem>

#include "tests/e2e/hgctl_fixture.h"

namespace headgate::testing {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

constexpr char kOther[] = R"(
interfaces:
  - {name: in, device: g0, mode: auto}
  - {name: later, device: g9, mode: generic}
  - {name: out, device: g1, mode: auto}
default_action: drop
management: {allow: [{source: 192.0.2.0/24, protocol: tcp, destination_ports: ["22"]}]}
prefix_sets: [{name: bogons, prefixes: [198.51.100.0/24, 203.0.113.0/24]}]
rules:
  - {name: drop-9, priority: 40, match: {protocol: udp, destination_ports: ["9", "10"]}, action: {drop: {}}}
  - {name: limit, priority: 35, match: {protocol: udp}, action: {rate_limit: {packets_per_second: 10}, pass: {}}}
  - {name: wire, priority: 10, match: {interface: in}, action: {redirect: {interface: out}}}
)";

// A file with 50 mistakes, a line each from the third on.
std::string FiftyMistakes() {
  std::string yaml = "interfaces: [{name: in, device: g0}]\nrules:\n";
  for (int i = 0; i < 50; ++i) {
    absl::StrAppend(&yaml, "  - {name: r", i, ", priority: ", i + 1, ", match: {",
                    i % 2 == 0 ? "source: 10.0.0.0/33" : "interface: no-such", "}, action: {drop: {}}}\n");
  }
  return yaml;
}

TEST_F(HgctlTest, DiffSaysWhatApplyThenDoes) {
  const std::string file = File("other.yaml", kOther);
  const CommandResult diff = Hgctl({"diff", "-f", file});
  EXPECT_EQ(diff.code, 3) << diff.err;
  const std::vector<std::string> lines = Lines(diff.out);
  EXPECT_THAT(lines,
              ::testing::IsSupersetOf({"+ interface later", "~ prefix-set bogons", "+ rule limit", "- rule evil",
                                       "- next-hop hop", "~ rule drop-9", "- rule hop", "~ settings"}));
  EXPECT_THAT(diff.out, HasSubstr("    default_action: pass -> drop\n"));
  EXPECT_THAT(diff.out, HasSubstr("    match.destination_ports: +1 (10)\n"));
  EXPECT_THAT(diff.out, HasSubstr("    prefixes: +1 (203.0.113.0/24) -1 (2001:db8:bad::/48)\n"));
  EXPECT_THAT(diff.out, HasSubstr("    priority 35: udp: limit 10 pps, pass\n"));
  EXPECT_EQ(lines.back(), "2 created, 3 updated, 3 deleted");
  EXPECT_THAT(Print({"apply", "-f", file, "--dry-run"}),
              "would be generation 2: 2 created, 3 updated, 3 deleted; nothing was changed\n");
  ExpectDocumentInForce();

  // By its place as by its option.
  EXPECT_EQ(Hgctl({"diff", file}).out, diff.out);
  EXPECT_EQ(Hgctl({"diff", "-"}, kOther).out, diff.out);
  EXPECT_EQ(Print({"apply", file, "--wait"}), "generation 2: 2 created, 3 updated, 3 deleted\n");
  NowAndAfterRestart([&] {
    EXPECT_EQ(Print({"diff", "-f", file}), "");
    EXPECT_EQ(FateOfPort(10), "drop_rule");
    EXPECT_EQ(Print({"apply", "-f", file, "--wait"}), "generation 2: no changes\n");
    EXPECT_EQ(Print({"apply", "-"}, kOther), "generation 2: no changes\n");
  });
}

TEST_F(HgctlTest, DiffTakesDefaultsForWhatIsLeftOut) {
  Print({"apply", "-f", "-", "--wait"}, kOther);
  EXPECT_EQ(Hgctl({"diff", "-f", "-"}, "interfaces: [{name: in, device: g9}]").out,
            "~ settings\n"
            "    default_action: drop -> pass\n"
            "    management.allow: -1 "
            "({\"source\":\"192.0.2.0/24\",\"protocol\":\"tcp\",\"destination_ports\":[\"22\"]})\n"
            "~ interface in\n"
            "    device: g0 -> g9\n"
            "- interface later\n"
            "- interface out\n"
            "- rule drop-9\n"
            "- rule limit\n"
            "- rule wire\n"
            "- prefix-set bogons\n"
            "2 updated, 6 deleted\n");
}

// Another way to write the same is no difference.
TEST_F(HgctlTest, DiffComparesWhatIsMeant) {
  Print({"apply", "--patch", "-", "--wait"}, R"(upsert:
  prefix_sets: [{name: six, prefixes: ["2001:db8:5::/64", 192.0.2.7]}]
  rules:
    - name: spelled
      priority: 6000
      match: {source: 192.0.2.200/32, protocol: udp, destination_ports: [53]}
      action: {redirect: {interface: out, destination_mac: "02:aa:00:00:00:01"}, rate_limit: {packets_per_second: 100}}
)");
  EXPECT_EQ(Hgctl({"diff", "--patch", "-"}, R"(upsert:
  prefix_sets: [{name: six, prefixes: [192.0.2.7/32, "2001:db8:5:0::/64", 192.0.2.8]}]
  rules:
    - name: spelled
      priority: 6000
      match: {source: 192.0.2.200, protocol: "17", destination_ports: ["53-53"]}
      action: {redirect: {interface: out, destination_mac: "02:AA:00:00:00:01"}, rate_limit: {packets_per_second: 200}}
)")
                .out,
            "~ rule spelled\n"
            "    action.rate_limit.packets_per_second: 100 -> 200\n"
            "~ prefix-set six\n"
            "    prefixes: +1 (192.0.2.8/32)\n"
            "2 updated\n");
  EXPECT_EQ(
      Hgctl({"diff", "--patch", "-"}, "prefix_set_changes: [{name: six, add: [\"2001:db8:5:0::/64\", 10.0.0.1]}]")
          .out,
      "~ prefix-set six\n"
      "    prefixes: +1 (10.0.0.1/32)\n"
      "1 updated\n");
}

TEST_F(HgctlTest, DocumentsComeBackAsTheyWereGiven) {
  EXPECT_THAT(Print({"apply", "-f", "-", "--wait"}, kOther), StartsWith("generation 2: "));
  NowAndAfterRestart([&] {
    // Objects come back by kind and name, rules by priority.
    const auto config = Read<pb::GatewayConfig>({"get"});
    EXPECT_EQ(config.DebugString(), FromYaml<pb::GatewayConfig>(kOther).DebugString());
    EXPECT_EQ(Print({"apply", "-f", "-"}, Print({"get", "-o", "yaml"})), "generation 2: no changes\n");
    EXPECT_EQ(Print({"apply", "-f", "-"}, Print({"get", "-o", "json"})), "generation 2: no changes\n");
    EXPECT_EQ(Read<pb::GatewayConfig>({"get", "rules", "limit"}).rules_size(), 1);
  });
}

TEST_F(HgctlTest, TablesShowObjectsWithTheirStatus) {
  Print({"apply", "-f", "-", "--wait"}, kOther);
  NowAndAfterRestart([&] {
    const std::string all = Unaligned(Print({"get"}));
    EXPECT_THAT(all, HasSubstr("default action drop\n"));
    EXPECT_THAT(all, HasSubstr("management allow tcp 192.0.2.0/24 > *:22\n"));
    EXPECT_THAT(all, HasSubstr("\n40 drop-9 udp * > *:9,10 drop applied\n"));
    EXPECT_THAT(all, HasSubstr("\nlater g9 (generic) - - - - pending: "));
    EXPECT_THAT(Print({"get", "rules", "wire", "--applied"}), HasSubstr("redirect out"));
    const auto objects = Read<pb::GetResponse>({"get", "interfaces", "--status"});
    ASSERT_EQ(objects.objects_size(), 3);
    EXPECT_EQ(objects.objects(1).status().state(), pb::ObjectStatus::STATE_PENDING);
    EXPECT_EQ(objects.objects(0).interface_state().mtu(), 1500u);

    const CommandResult missing = Hgctl({"get", "rules", "wire", "wires"});
    EXPECT_EQ(missing.code, 1);
    EXPECT_THAT(missing.out, HasSubstr("redirect out"));
    EXPECT_EQ(missing.err, "hgctl: there is no rule \"wires\"\n");
  });
}

TEST_F(HgctlTest, PatchesSetsAndDeletes) {
  const std::string patch = File("patch.yaml", R"(
upsert: {rules: [{name: drop-11, priority: 41, match: {protocol: udp, destination_ports: ["11"]}, action: {drop: {}}}]}
delete_rules: [drop-9]
)");
  EXPECT_THAT(Hgctl({"diff", "--patch", "-f", patch}).out, HasSubstr("+ rule drop-11\n"));
  EXPECT_EQ(Print({"apply", "--patch", "-f", patch, "--wait"}), "generation 2: 1 created, 1 deleted\n");
  EXPECT_EQ(FateOfPort(9), "forward_redirect");

  EXPECT_EQ(FateOfPort(100, "192.0.2.77"), "forward_redirect");
  EXPECT_EQ(Print({"set", "add", "bogons", "192.0.2.77", "192.0.2.78/32", "--wait"}), "generation 3: 1 updated\n");
  Print({"set", "add", "bogons", "-f", "-", "--wait"}, "# more\n192.0.2.79  # this one\n\n2001:db8::/32\n");
  Print({"set", "remove", "bogons", "192.0.2.78", "--wait"});
  EXPECT_THAT(Print({"set", "remove", "bogons", "192.0.2.77", "--dry-run"}),
              StartsWith("would be generation 6: 1 updated"));
  NowAndAfterRestart([&] {
    EXPECT_EQ(FateOfPort(100, "192.0.2.77"), "drop_rule");
    EXPECT_EQ(FateOfPort(100, "192.0.2.78"), "forward_redirect");
    EXPECT_EQ(FateOfPort(100, "192.0.2.79"), "drop_rule");
    EXPECT_EQ(FateOfPort(11), "drop_rule");
  });

  EXPECT_EQ(Print({"delete", "rule", "drop-11", "hop", "--wait"}), "generation 6: 2 deleted\n");
  EXPECT_EQ(FateOfPort(11), "forward_redirect");
  const CommandResult again = Hgctl({"delete", "rule", "drop-11"});
  EXPECT_EQ(again.code, 0);
  EXPECT_EQ(again.out, "generation 6: no changes\n");
  EXPECT_EQ(again.err, "hgctl: there was no rule \"drop-11\"\n");
  const CommandResult used = Hgctl({"delete", "interface", "out"});
  EXPECT_EQ(used.code, 5);
  EXPECT_THAT(used.err, HasSubstr("interface \"out\" is deleted by this change but still used here\n"));
}

TEST_F(HgctlTest, SetsFromAFileAreCheckedLineByLine) {
  const std::string file = File("prefixes.txt", "10.0.0.0/8\n# comment\n10.0.0.300\n\n10.1.0.0/33\n");
  const CommandResult bad = Hgctl({"set", "add", "bogons", "-f", file});
  EXPECT_EQ(bad.code, 5);
  EXPECT_THAT(Lines(bad.err), ElementsAre(AllOf(StartsWith(file + ":3: "), HasSubstr("10.0.0.300")),
                                          AllOf(StartsWith(file + ":5: "), HasSubstr("10.1.0.0/33"))));
  EXPECT_THAT(Hgctl({"set", "add", "bogons", "nonsense"}).err, StartsWith("\"nonsense\" is not an IP address"));
  const CommandResult nowhere = Hgctl({"set", "add", "nowhere", "-f", "-"}, "10.0.0.0/8\n");
  EXPECT_EQ(nowhere.code, 5);
  EXPECT_EQ(nowhere.err, "there is no prefix set \"nowhere\" to change\n");
  ExpectDocumentInForce();
}

TEST_F(HgctlTest, FiftyMistakesAreFiftyLinesInTheOrderOfTheFile) {
  const std::string file = File("bad.yaml", FiftyMistakes());
  for (const std::vector<std::string>& words : std::vector<std::vector<std::string>>{
           {"apply", "-f", file}, {"apply", "-f", file, "--dry-run"}, {"diff", "-f", file}}) {
    const CommandResult result = Hgctl(words);
    EXPECT_EQ(result.code, 5);
    EXPECT_EQ(result.out, "");
    const std::vector<std::string> lines = Lines(result.err);
    ASSERT_EQ(lines.size(), 50u) << result.err;
    for (int i = 0; i < 50; ++i) {
      EXPECT_THAT(lines[i], StartsWith(absl::StrCat(file, ":", i + 3, ":"))) << i;
      EXPECT_THAT(lines[i],
                  HasSubstr(absl::StrCat("rules[", i, "].match.", i % 2 == 0 ? "source: " : "interface: ")));
    }
    EXPECT_THAT(lines[0], HasSubstr("the prefix length must be 0 to 32"));
    EXPECT_THAT(lines[1], HasSubstr("there is no interface \"no-such\""));
  }
  // Programs get them as what they are.
  const CommandResult json = Hgctl({"apply", "-f", file, "-o", "json"});
  EXPECT_EQ(json.code, 5);
  pb::ApplyResponse response;
  ASSERT_TRUE(ParseJson(json.out, "json", response).ok()) << json.out;
  EXPECT_EQ(response.violations_size(), 50);
  EXPECT_EQ(response.violations(7).field(), "config.rules[7].match.interface");
  ExpectDocumentInForce();
}

TEST_F(HgctlTest, TextThatIsNotADocumentIsRefusedWithLineAndColumn) {
  const CommandResult result = Hgctl({"apply", "-f", "-"}, "interfaces:\n  - {name: in, devise: g0}\nrules: 7\n");
  EXPECT_EQ(result.code, 5);
  EXPECT_THAT(Lines(result.err), ElementsAre(StartsWith("stdin:2:16: interfaces[0]: unknown key \"devise\""),
                                             StartsWith("stdin:3:8: rules: ")));
  ExpectDocumentInForce();
}

TEST_F(HgctlTest, AnExpectedGenerationMustHold) {
  const CommandResult stale = Hgctl({"apply", "-f", "-", "--expect", "7"}, kOther);
  EXPECT_EQ(stale.code, 1);
  EXPECT_THAT(stale.err, AllOf(StartsWith("hgctl: "), HasSubstr("generation 1"), HasSubstr("7")));
  EXPECT_EQ(Hgctl({"delete", "rule", "wire", "--expect", "7"}).code, 1);
  ExpectDocumentInForce();
  const auto response =
      Read<pb::ApplyResponse>({"apply", "-f", "-", "--expect", "1", "--wait", "--dry-run"}, kOther);
  EXPECT_EQ(response.generation(), 2u);
  EXPECT_EQ(response.difference_count(), 8u);
}

TEST_F(HgctlTest, WaitIsAnsweredWhenTheDataPathUsesIt) {
  pb::ApplyResponse response;
  ASSERT_TRUE(ParseJson(Print({"apply", "-f", "-", "--wait", "-o", "json"}, kOther), "json", response).ok());
  EXPECT_EQ(response.generation(), 2u);
  EXPECT_EQ(response.applied_generation(), 2u);
  EXPECT_EQ(FateOfPort(10), "drop_rule");
}

TEST_F(HgctlTest, UnconfirmedChangesRollBack) {
  EXPECT_THAT(Print({"apply", "-f", "-", "--wait", "--confirm", "1s"}, kOther),
              HasSubstr("rolls back in 1s unless confirmed: hgctl confirm 2\n"));
  EXPECT_THAT(Unaligned(Print({"status"})), HasSubstr("\nunconfirmed generation 2 rolls back at "));
  ASSERT_TRUE(WaitFor([&] { return absl::StrContains(Unaligned(Print({"status"})), "generation 3, applied\n"); }));
  ExpectDocumentInForce();
  const CommandResult late = Hgctl({"confirm", "2"});
  EXPECT_EQ(late.code, 1);
  EXPECT_THAT(late.err, HasSubstr("nothing waits for confirmation"));
}

TEST_F(HgctlTest, ConfirmedChangesStay) {
  Print({"apply", "-f", "-", "--wait", "--confirm", "10m"}, kOther);
  const CommandResult other = Hgctl({"apply", "-f", "-"}, kOther);
  EXPECT_EQ(other.code, 1);
  EXPECT_THAT(other.err, HasSubstr("waits for confirmation"));
  EXPECT_EQ(Hgctl({"confirm", "9"}).code, 1);
  // It still waits after a restart.
  agent().Restart();
  EXPECT_THAT(Unaligned(Print({"status"})), HasSubstr("\nunconfirmed generation 2 rolls back at "));
  EXPECT_EQ(Print({"confirm"}), "generation 2 is kept\n");
  NowAndAfterRestart([&] {
    EXPECT_THAT(Print({"status"}), Not(HasSubstr("unconfirmed")));
    EXPECT_EQ(FateOfPort(10), "drop_rule");
  });
  // Nothing changes, nothing waits.
  EXPECT_EQ(Print({"apply", "-f", "-", "--confirm", "10m"}, kOther), "generation 2: no changes\n");
}

// Every example in the repository is one.
TEST_F(HgctlTest, ExamplesAreValid) {
  int examples = 0;
  for (const auto& entry : std::filesystem::directory_iterator(HG_EXAMPLES)) {
    if (entry.path().extension() != ".yaml" || entry.path().stem() == "patch") continue;
    SCOPED_TRACE(entry.path());
    EXPECT_THAT(Print({"apply", "--dry-run", "-f", entry.path()}), HasSubstr("nothing was changed"));
    ++examples;
  }
  EXPECT_GE(examples, 3);
  Print({"apply", "-f", HG_EXAMPLES "/gateway.yaml"});
  EXPECT_THAT(Hgctl({"diff", "--patch", "-f", HG_EXAMPLES "/patch.yaml"}).out,
              HasSubstr("1 created, 2 updated\n"));
}

}  // namespace
}  // namespace headgate::testing
