// SPDX-License-Identifier: Apache-2.0
//
// The real hgctl against the real agent.
#pragma once

#include <absl/strings/str_cat.h>
#include <absl/strings/str_split.h>
#include <gmock/gmock.h>
#include <google/protobuf/util/message_differencer.h>

#include <fstream>
#include <string>
#include <vector>

#include "agent/api/text.h"
#include "tests/harness/command.h"
#include "tests/harness/live_gateway.h"

namespace headgate::testing {

class HgctlTest : public LiveGatewayTest {
 protected:
  HgctlTest() : LiveGatewayTest("hgctl") {}

  CommandOptions Options(const std::string& input = "") {
    return {.input = input, .environment = {"HEADGATE_ADDRESS=" + agent().address(), "TZ=UTC"}};
  }
  CommandResult Hgctl(const std::vector<std::string>& words, const std::string& input = "") {
    return RunCommand(Words(words), Options(input));
  }
  // One that must succeed; what it printed.
  std::string Print(const std::vector<std::string>& words, const std::string& input = "") {
    const CommandResult result = Hgctl(words, input);
    EXPECT_EQ(result.code, 0) << words[0] << ": " << result.err;
    EXPECT_EQ(result.err, "") << words[0];
    return result.out;
  }
  // The same with -o json and with -o yaml, which say the same; read back.
  template <typename Message>
  Message Read(std::vector<std::string> words, const std::string& input = "") {
    words.insert(words.end(), {"-o", "json"});
    Message json, yaml;
    absl::Status status = ParseJson(Print(words, input), "json", json);
    EXPECT_TRUE(status.ok()) << status;
    words.back() = "yaml";
    status = ParseYaml(Print(words, input), "yaml", yaml);
    EXPECT_TRUE(status.ok()) << status;
    // Readings of different moments.
    if constexpr (requires { yaml.mutable_time(); }) *yaml.mutable_time() = json.time();
    if constexpr (requires { yaml.resident_bytes(); }) yaml.set_resident_bytes(json.resident_bytes());
    EXPECT_TRUE(google::protobuf::util::MessageDifferencer::Equals(json, yaml))
        << words[0] << ":\n"
        << json.DebugString() << yaml.DebugString();
    return json;
  }
  // What the command line ends in, without and with a leading program.
  static std::vector<std::string> Words(std::vector<std::string> words) {
    words.insert(words.begin(), HG_HGCTL);
    return words;
  }
  std::string File(const std::string& name, const std::string& text) {
    std::ofstream(agent().directory() + "/" + name) << text;
    return agent().directory() + "/" + name;
  }
  static std::vector<std::string> Lines(const std::string& text) {
    return absl::StrSplit(text, '\n', absl::SkipEmpty());
  }
  // With one space between columns: how wide they are depends on what the host's numbers are.
  static std::string Unaligned(const std::string& text) {
    std::string out;
    for (const char c : text) {
      if (c == ' ' && (out.empty() || out.back() == ' ' || out.back() == '\n')) continue;
      out += c;
    }
    return out;
  }
};

}  // namespace headgate::testing
