// SPDX-License-Identifier: Apache-2.0
//
// Completion: what may come next, and the scripts by which bash and zsh ask.
#include "cli/completion.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>
#include <absl/strings/str_split.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <set>
#include <string>
#include <vector>

#include "cli/command_line.h"

namespace headgate::cli {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

class CompletionTest : public ::testing::Test {
 protected:
  CompletionTest() { DefineCommandLine(app_, context_); }

  Completion Ask(const std::vector<std::string>& words) {
    return Complete(app_, words, [this](v1::Kind kind, const std::map<std::string, std::string>& globals) {
      globals_ = globals;
      std::vector<std::string> names;
      if (kind == v1::KIND_RULE) names = {"drop-a", "drop-b", "east"};
      if (kind == v1::KIND_INTERFACE) names = {"uplink", "lan"};
      if (kind == v1::KIND_PREFIX_SET) names = {"bogons"};
      if (kind == v1::KIND_COUNTER) names = {"seen"};
      return names;
    });
  }
  std::vector<std::string> Texts(const std::vector<std::string>& words) {
    std::vector<std::string> texts;
    for (const Candidate& candidate : Ask(words).candidates) texts.push_back(candidate.text);
    return texts;
  }

  CLI::App app_;
  Context context_;
  std::map<std::string, std::string> globals_;
};

TEST_F(CompletionTest, VerbsWithTheirHelp) {
  const Completion all = Ask({""});
  std::set<std::string> verbs;
  for (const Candidate& candidate : all.candidates) {
    verbs.insert(candidate.text);
    EXPECT_THAT(candidate.help, Not(IsEmpty())) << candidate.text;
  }
  // The help is made of the same list.
  for (const char* verb : {"apply", "diff", "get", "watch", "stats", "top", "trace", "confirm", "status"}) {
    EXPECT_THAT(verbs, Contains(verb));
  }
  EXPECT_THAT(Texts({"st"}), ElementsAre("stats", "status"));
  EXPECT_THAT(Texts({"set", ""}), ElementsAre("add", "remove"));
  EXPECT_THAT(Texts({"nothing-like-it"}), IsEmpty());
}

TEST_F(CompletionTest, OptionsOnceEach) {
  EXPECT_THAT(Texts({"apply", "--d"}), ElementsAre("--dry-run"));
  EXPECT_THAT(Texts({"apply", "--help"}), ElementsAre("--help"));
  EXPECT_THAT(Texts({"apply", "--"}), AllOf(Contains("--confirm"), Contains("--address"), Contains("--patch")));
  EXPECT_THAT(Texts({"status", "--"}), AllOf(Contains("--output"), Not(Contains("--patch"))));
}

TEST_F(CompletionTest, ValuesOfOptions) {
  EXPECT_THAT(Texts({"-o", ""}), ElementsAre("table", "json", "yaml"));
  EXPECT_THAT(Texts({"get", "--output", "j"}), ElementsAre("json"));
  EXPECT_THAT(Texts({"get", "--output=j"}), ElementsAre("--output=json"));
  EXPECT_THAT(Texts({"top", "--sort", ""}), ElementsAre("packets", "bits", "name"));
  EXPECT_THAT(Texts({"watch", "--types", "sample,dri"}), ElementsAre("sample,drift_repaired"));
  EXPECT_THAT(Texts({"log-level", "d"}), ElementsAre("debug"));
  EXPECT_THAT(Texts({"completion", ""}), ElementsAre("bash", "zsh"));
  EXPECT_TRUE(Ask({"apply", "-f", ""}).files);
  EXPECT_TRUE(Ask({"diff", "--file="}).files);
  EXPECT_TRUE(Ask({"apply", ""}).files);
  EXPECT_TRUE(Ask({"diff", "--patch", ""}).files);
  EXPECT_FALSE(Ask({"apply", "x", ""}).files);
  EXPECT_FALSE(Ask({"get", ""}).files);
}

TEST_F(CompletionTest, KindsAndNames) {
  EXPECT_THAT(Texts({"get", "r"}), ElementsAre("rules"));
  EXPECT_THAT(Texts({"get", ""}), AllOf(Contains("all"), Contains("settings"), Not(Contains("counters"))));
  EXPECT_THAT(Texts({"stats", ""}),
              ElementsAre("interfaces", "rules", "counters", "multicast-routes", "workers", "all"));
  EXPECT_THAT(Texts({"top", ""}), ElementsAre("interfaces", "rules", "multicast-routes", "workers"));
  EXPECT_THAT(Texts({"delete", ""}), Not(Contains("settings")));
  EXPECT_THAT(Texts({"get", "rules", "drop"}), ElementsAre("drop-a", "drop-b"));
  EXPECT_THAT(Texts({"get", "rules", "east", "drop"}), ElementsAre("drop-a", "drop-b"));
  EXPECT_THAT(Texts({"delete", "rule", ""}), ElementsAre("drop-a", "drop-b", "east"));
  EXPECT_THAT(Texts({"stats", "counters", ""}), ElementsAre("seen"));
  EXPECT_THAT(Texts({"set", "add", ""}), ElementsAre("bogons"));
  EXPECT_THAT(Texts({"trace", "--interface", ""}), ElementsAre("uplink", "lan"));
}

TEST_F(CompletionTest, NamesComeFromTheAgentThatIsMeant) {
  Texts({"--address", "unix:/a b", "--insecure", "get", "rules", ""});
  EXPECT_EQ(globals_["address"], "unix:/a b");
  EXPECT_TRUE(globals_.contains("insecure"));
  Texts({"--address=10.0.0.1:1", "get", "--tls-ca", "ca.pem", "rules", ""});
  EXPECT_EQ(globals_["address"], "10.0.0.1:1");
  EXPECT_EQ(globals_["tls-ca"], "ca.pem");
}

TEST_F(CompletionTest, NoWordsAndOddWordsAreNoTrouble) {
  EXPECT_THAT(Ask({}).candidates, Not(IsEmpty()));
  for (const std::vector<std::string>& words : std::vector<std::vector<std::string>>{{"--", ""},
                                                                                     {"-", ""},
                                                                                     {"=", "="},
                                                                                     {"get", "--output=", ""},
                                                                                     {"apply", "-f"},
                                                                                     {"--no=such", "--x="},
                                                                                     {"", "", ""}}) {
    Ask(words);
  }
}

// ---- the scripts -----------------------------------------------------------------------------------------------

std::string Output(const std::string& command) {
  FILE* pipe = popen((command + " 2>&1").c_str(), "r");
  std::string output;
  std::array<char, 4096> buffer;
  while (const size_t size = fread(buffer.data(), 1, buffer.size(), pipe)) output.append(buffer.data(), size);
  const int status = pclose(pipe);
  EXPECT_EQ(status, 0) << command << ": " << output;
  return output;
}

// A script for a shell, in single quotes.
std::string Quoted(const std::string& script) {
  return absl::StrCat("'", absl::StrJoin(absl::StrSplit(script, '\''), "'\\''"), "'");
}

// What bash would offer after this line.
std::vector<std::string> Bash(const std::string& line) {
  const std::string script =
      absl::StrCat("export HEADGATE_ADDRESS=unix:/nonexistent\nsource <(", HG_HGCTL, " completion bash)\n",
                   "complete -p hgctl >/dev/null || echo not registered\n", "COMP_LINE=", Quoted(line),
                   " COMP_POINT=", line.size(), "\n_hgctl ", HG_HGCTL,
                   "\n[ ${#COMPREPLY[@]} = 0 ] || printf '%s\\n' \"${COMPREPLY[@]}\"\n");
  return absl::StrSplit(Output("bash --noprofile --norc -u -c " + Quoted(script)), '\n', absl::SkipEmpty());
}

TEST(BashTest, AsksHgctl) {
  EXPECT_THAT(Bash("hgctl ge"), ElementsAre("get"));
  EXPECT_THAT(Bash("hgctl set "), ElementsAre("add", "remove"));
  EXPECT_THAT(Bash("hgctl get pre"), ElementsAre("prefix-sets"));
  // No agent, no names, no complaint.
  EXPECT_THAT(Bash("hgctl get rules "), IsEmpty());
  EXPECT_THAT(Bash("hgctl zzz"), IsEmpty());
}

TEST(BashTest, GivesWhatFollowsTheEqualsSign) { EXPECT_THAT(Bash("hgctl get --output=j"), ElementsAre("json")); }

TEST(BashTest, OffersFiles) {
  EXPECT_THAT(Bash("hgctl apply -f /etc/host"), Contains("/etc/hostname"));
  EXPECT_THAT(Bash("hgctl diff /etc/hostn"), ElementsAre("/etc/hostname"));
  EXPECT_THAT(Bash("hgctl apply --file=/etc/hostn"), ElementsAre("/etc/hostname"));
}

TEST(ZshTest, ScriptIsMadeForCompsys) {
  EXPECT_THAT(ZshScript(), StartsWith("#compdef hgctl\n"));
  EXPECT_THAT(ZshScript(), AllOf(HasSubstr("__complete"), HasSubstr("_describe"), HasSubstr("_files")));
}

// With stand-ins for what zsh's completion system offers: what would be described.
TEST(ZshTest, AsksHgctl) {
  if (std::system("zsh -f -c true >/dev/null 2>&1") != 0) GTEST_SKIP() << "zsh is not installed";
  const auto zsh = [](const std::string& words, int current) {
    const std::string script = absl::StrCat(
        "export HEADGATE_ADDRESS=unix:/nonexistent\ncompdef() { : }\ncompset() { : }\n_files() { print files }\n"
        "_describe() { print -rl -- \"${(@P)2}\" }\nsource <(",
        HG_HGCTL, " completion zsh)\n", "words=(", words, ") CURRENT=", current, "\n_hgctl || true\n");
    return Output("zsh -f -c " + Quoted(script));
  };
  EXPECT_EQ(zsh(absl::StrCat(HG_HGCTL, " ge"), 2), "get:Show the configuration and the status of its objects\n");
  EXPECT_EQ(zsh(absl::StrCat(HG_HGCTL, " get --output=j"), 3), "--output=json\n");
  EXPECT_EQ(zsh(absl::StrCat(HG_HGCTL, " apply -f ''"), 4), "files\n");
  EXPECT_EQ(zsh(absl::StrCat(HG_HGCTL, " get rules ''"), 4), "");
}

}  // namespace
}  // namespace headgate::cli
