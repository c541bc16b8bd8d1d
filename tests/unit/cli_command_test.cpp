// SPDX-License-Identifier: Apache-2.0
//
// The command line without an agent: exit codes, usage errors that help, invalid files.
#include "cli/command_line.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_split.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "agent/base/fd.h"

namespace headgate::cli {
namespace {

using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

struct Outcome {
  int code = -1;
  std::string out, err;
};

Outcome Hgctl(const std::vector<std::string>& words, const std::string& input = "") {
  std::istringstream in(input);
  std::ostringstream out, err;
  Context context(in, out, err);
  std::vector<const char*> argv = {"hgctl"};
  for (const std::string& word : words) argv.push_back(word.c_str());
  const int code = RunCommandLine(context, static_cast<int>(argv.size()), argv.data());
  return {code, out.str(), err.str()};
}

class CommandTest : public ::testing::Test {
 protected:
  void SetUp() override {
    // Whoever runs the tests may have an agent.
    unsetenv("HEADGATE_ADDRESS");
    std::string name = "/tmp/hg-command-XXXXXX";
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    directory_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  std::string File(const std::string& name, const std::string& text) const {
    std::ofstream(directory_ + "/" + name) << text;
    return directory_ + "/" + name;
  }
  std::string NoAgent() const { return absl::StrCat("--address=unix:", directory_, "/none.sock"); }

  std::string directory_;
};

TEST_F(CommandTest, HelpAndVersionAreFine) {
  for (const std::vector<std::string>& words : std::vector<std::vector<std::string>>{
           {"--help"}, {"apply", "--help"}, {"set", "add", "-h"}, {"--version"}, {"completion", "zsh"}}) {
    const Outcome outcome = Hgctl(words);
    EXPECT_EQ(outcome.code, 0) << words[0];
    EXPECT_THAT(outcome.out,
                AnyOf(HasSubstr("Usage: "), HasSubstr("hgctl " HG_VERSION "\n"), HasSubstr("_hgctl")));
    EXPECT_THAT(outcome.err, IsEmpty());
  }
}

TEST_F(CommandTest, HelpNamesEveryExitStatus) {
  const std::string help = Hgctl({"--help"}).out;
  for (const char* part : {"0 done", "1 refused", "2 wrong usage", "3 diff", "4 no connection", "5 invalid"}) {
    EXPECT_THAT(help, HasSubstr(part));
  }
}

TEST_F(CommandTest, WrongUsageIsTwoAndSaysWhatIsRight) {
  const std::pair<std::vector<std::string>, std::string> wrong[] = {
      {{}, "a command is needed: apply, diff, "},
      {{"gte"}, "\"gte\" is not a command; did you mean \"get\"?"},
      {{"set"}, "hgctl set: a command is needed: add, remove"},
      {{"set", "ad", "x"}, "did you mean \"add\"?"},
      {{"get", "--bogus"}, "--bogus"},
      {{"get", "rulez"},
       "interfaces, rules, prefix-sets, next-hops, steer-targets, multicast-routes, settings or all is needed"},
      {{"get", "counters"}, "settings or all is needed"},
      {{"stats", "settings"}, "interfaces, rules, counters, multicast-routes, workers or all is needed"},
      {{"stats", "steer-targets"}, "workers or all is needed"},
      {{"stats", "workers", "0"}, "\"0\": workers have no names"},
      {{"top", "counters"}, "interfaces, rules, multicast-routes or workers is needed"},
      {{"top", "-o", "json"}, "stats --interval"},
      {{"apply"}, "file: a file is needed, - for standard input"},
      {{"apply", "x", "-f", "y"}, "excludes"},
      {{"apply", "x", "y"}, "not expected: y"},
      {{"apply", "-f", "x", "--expect", "no"}, "--expect"},
      {{"diff"}, "file: a file is needed, - for standard input"},
      {{"diff", "--file", "x", "y"}, "excludes"},
      {{"delete", "settings", "x"},
       "interface, prefix-set, rule, next-hop, steer-target or multicast-route is needed"},
      {{"delete", "rule"}, "name is required"},
      {{"set", "add", "s"}, "give prefixes, or a file"},
      {{"set", "add", "s", "1.1.1.1", "-f", "x"}, "excludes"},
      {{"trace"}, "describe a packet, or give one with --hex"},
      {{"trace", "udp", "10.0.0.1:1", "in", "a"}, "quote the description"},
      {{"trace", "--hex", "0g"}, "pairs of hex digits"},
      {{"watch", "--types", "samples"}, "samples not in"},
      {{"log-level", "loud"}, "loud not in {trace,debug,info,warn,error}"},
      {{"completion", "fish"}, "fish not in {bash,zsh}"},
      {{"confirm", "x"}, "generation"},
      {{"-o", "xml", "status"}, "xml not in {table,json,yaml}"},
      {{"--timeout", "5", "status"}, "\"5\" is not a duration: write a number and a unit"},
      {{"--timeout", "0s", "status"}, "must be more than nothing"},
      {{"--address", "127.0.0.1:7443", "status"}, "--tls-cert and --tls-key"},
      {{"--address", "127.0.0.1:7443", "--tls-cert", "x", "status"}, "--tls-key"},
  };
  for (const auto& [words, what] : wrong) {
    const Outcome outcome = Hgctl(words);
    EXPECT_EQ(outcome.code, 2) << what;
    EXPECT_THAT(outcome.err,
                AllOf(StartsWith("hgctl"), HasSubstr(what), HasSubstr(" --help\" says what there is.\n")));
    EXPECT_THAT(outcome.out, IsEmpty());
  }
}

TEST_F(CommandTest, FilesThatCannotBeReadAreOne) {
  for (const std::string& path : {directory_ + "/missing.yaml", directory_}) {
    for (const char* verb : {"apply", "diff"}) {
      const Outcome outcome = Hgctl({verb, "-f", path});
      EXPECT_EQ(outcome.code, 1);
      EXPECT_THAT(outcome.err, StartsWith("hgctl: reading " + path + ": "));
      EXPECT_EQ(Hgctl({verb, path}).err, outcome.err);
    }
    EXPECT_EQ(Hgctl({"set", "add", "s", "-f", path}).code, 1);
    EXPECT_EQ(Hgctl({"--address=127.0.0.1:1", "--tls-cert", path, "--tls-key", path, "status"}).code, 1);
  }
  const std::string empty = File("empty.pem", "");
  EXPECT_THAT(Hgctl({"--address=127.0.0.1:1", "--tls-cert", empty, "--tls-key", empty, "status"}).err,
              HasSubstr("is empty: a PEM file is needed"));
}

TEST_F(CommandTest, NoAgentIsFourAndSaysWhereItWasSought) {
  const std::string file = File("config.yaml", "{}");
  for (const std::vector<std::string>& words :
       std::vector<std::vector<std::string>>{{"status"},
                                             {"get"},
                                             {"stats"},
                                             {"stats", "--interval", "1s"},
                                             {"stats", "workers"},
                                             {"stats", "mroute", "feed"},
                                             {"watch"},
                                             {"top"},
                                             {"top", "mroute"},
                                             {"top", "worker"},
                                             {"confirm"},
                                             {"trace", "--hex", "00"},
                                             {"apply", "-f", file},
                                             {"diff", "-f", file},
                                             {"apply", file, "--wait"},
                                             {"diff", "--patch", file},
                                             {"log-level", "info"},
                                             {"delete", "rule", "r"},
                                             {"set", "add", "s", "1.1.1.1"}}) {
    std::vector<std::string> all = {NoAgent()};
    all.insert(all.end(), words.begin(), words.end());
    const Outcome outcome = Hgctl(all);
    EXPECT_EQ(outcome.code, 4) << words[0] << ": " << outcome.err;
    EXPECT_THAT(outcome.err, AllOf(HasSubstr(directory_ + "/none.sock"), HasSubstr("is headgated running?"),
                                   HasSubstr("--address or HEADGATE_ADDRESS")));
  }
  // The environment's address, and a path without unix: before it.
  setenv("HEADGATE_ADDRESS", (directory_ + "/other.sock").c_str(), 1);
  EXPECT_THAT(Hgctl({"status"}).err, HasSubstr("unix:" + directory_ + "/other.sock"));
  unsetenv("HEADGATE_ADDRESS");
}

TEST_F(CommandTest, AnAgentThatDoesNotAnswerIsFour) {
  const std::string path = directory_ + "/silent.sock";
  const Fd listener(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{.sun_family = AF_UNIX};
  path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  ASSERT_EQ(bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  ASSERT_EQ(listen(listener.get(), 16), 0);
  for (const char* verb : {"status", "watch"}) {
    const Outcome outcome = Hgctl({"--address=" + path, "--timeout=300ms", verb});
    EXPECT_EQ(outcome.code, 4);
    EXPECT_THAT(outcome.err, AllOf(HasSubstr("within 300ms"), HasSubstr("--timeout gives it longer")));
  }
}

TEST_F(CommandTest, VersionIsShownWithoutAnAgent) {
  const Outcome outcome = Hgctl({NoAgent(), "version"});
  EXPECT_EQ(outcome.code, 4) << "half of the answer";
  EXPECT_EQ(outcome.out, "hgctl " HG_VERSION "\nheadgated (not reached)\n");
  EXPECT_THAT(Hgctl({NoAgent(), "-o", "json", "version"}).out, HasSubstr("\"hgctl\": \"" HG_VERSION "\""));
}

TEST_F(CommandTest, InvalidFilesAreFiveWithLineAndColumnOfEveryMistake) {
  const std::string yaml =
      "interfaces:\n"
      "  - {name: a, devise: eth0}\n"
      "rules:\n"
      "  - name: r\n"
      "    priority: high\n"
      "    colour: red\n";
  const std::string path = File("bad.yaml", yaml);
  for (const auto& [source, name] : {std::pair(path, path), std::pair<std::string, std::string>("-", "stdin")}) {
    const Outcome outcome = Hgctl({NoAgent(), "apply", "-f", source}, yaml);
    EXPECT_EQ(outcome.code, 5);
    const std::vector<std::string> lines = absl::StrSplit(outcome.err, '\n', absl::SkipEmpty());
    ASSERT_EQ(lines.size(), 3u) << outcome.err;
    EXPECT_THAT(lines[0], AllOf(StartsWith(name + ":2:15: interfaces[0]"), HasSubstr("did you mean \"device\"?")));
    EXPECT_THAT(lines[1], StartsWith(name + ":5:15: rules[0].priority"));
    EXPECT_THAT(lines[2], StartsWith(name + ":6:5: rules[0]: unknown key \"colour\""));
  }
  // Not YAML at all, nothing at all, and a patch that is a configuration.
  EXPECT_THAT(Hgctl({NoAgent(), "diff", "-f", "-"}, "rules: [").err, StartsWith("stdin:1:"));
  EXPECT_EQ(Hgctl({NoAgent(), "diff", "-f", "-"}, "rules: [").code, 5);
  // By its place, too.
  EXPECT_THAT(Hgctl({NoAgent(), "diff", "-"}, "rules: [").err, StartsWith("stdin:1:"));
  EXPECT_THAT(Hgctl({NoAgent(), "apply", path}, "").err, StartsWith(path + ":2:15: "));
  const Outcome empty = Hgctl({NoAgent(), "apply", "-f", "-"}, "# nothing\n");
  EXPECT_EQ(empty.code, 5);
  EXPECT_THAT(empty.err, HasSubstr("the document is empty"));
  EXPECT_EQ(Hgctl({NoAgent(), "apply", "--patch", "-f", "-"}, "rules: []").code, 5);
}

TEST_F(CommandTest, JsonFilesAreReadLikeYaml) {
  // Far enough to look for an agent.
  EXPECT_EQ(Hgctl({NoAgent(), "apply", "-f", "-"}, R"({"interfaces": [{"name": "a"}]})").code, 4);
  EXPECT_EQ(Hgctl({NoAgent(), "apply", "-f", "-"}, R"({"interfaces": [{"name": 7, "x": 1}]})").code, 5);
}

TEST(ExitCodeTest, StatusesHaveTheDocumentedCodes) {
  EXPECT_EQ(ExitCodeOf(absl::OkStatus()), ExitCode::kOk);
  EXPECT_EQ(ExitCodeOf(absl::UnavailableError("")), ExitCode::kUnreachable);
  EXPECT_EQ(ExitCodeOf(absl::DeadlineExceededError("")), ExitCode::kUnreachable);
  EXPECT_EQ(ExitCodeOf(absl::FailedPreconditionError("")), ExitCode::kFailed);
  EXPECT_EQ(ExitCodeOf(absl::ResourceExhaustedError("")), ExitCode::kFailed);
  // Invalid is what is said of a configuration, not of a call.
  EXPECT_EQ(ExitCodeOf(absl::InvalidArgumentError("")), ExitCode::kFailed);
  EXPECT_EQ(ExitCodeOf(InvalidConfiguration("a\nb")), ExitCode::kInvalid);
  EXPECT_EQ(static_cast<int>(ExitCode::kDifferent), 3);
}

}  // namespace
}  // namespace headgate::cli
