// SPDX-License-Identifier: Apache-2.0
//
// Mutated YAML and JSON: never a crash or a hang, every error is inside the document, and what is accepted says
// the same after it is written and read again. Runs for HG_FUZZ_SECONDS (default 20).
#include <absl/strings/numbers.h>
#include <absl/strings/str_split.h>
#include <absl/time/clock.h>
#include <absl/time/time.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "agent/api/text.h"
#include "headgate/v1/gateway.pb.h"
#include "tests/harness/random.h"
#include "tests/harness/random_message.h"

namespace headgate {
namespace {

using google::protobuf::util::MessageDifferencer;

constexpr unsigned kHangSeconds = 30;
constexpr size_t kMaxInput = 1 << 16;

std::vector<std::string> LoadCorpus() {
  std::vector<std::string> corpus;
  std::vector<std::filesystem::path> paths;
  for (const auto& entry : std::filesystem::directory_iterator(HG_FUZZ_CORPUS)) paths.push_back(entry.path());
  std::sort(paths.begin(), paths.end());
  for (const auto& path : paths) {
    std::ifstream file(path, std::ios::binary);
    corpus.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  return corpus;
}

class Mutator {
 public:
  Mutator(std::mt19937_64& random, std::vector<std::string> corpus)
      : random_(random), corpus_(std::move(corpus)) {}

  std::string Next() {
    std::string text = Pick(corpus_);
    for (size_t n = 1 + Below(6); n > 0; --n) Mutate(text);
    text.resize(std::min(text.size(), kMaxInput));
    return text;
  }

  // What the parser accepted is a start for more.
  void Add(std::string text) {
    if (corpus_.size() < 2000) {
      corpus_.push_back(std::move(text));
    } else {
      corpus_[Below(corpus_.size())] = std::move(text);
    }
  }

 private:
  size_t Below(size_t bound) { return static_cast<size_t>(random_() % bound); }
  const std::string& Pick(const std::vector<std::string>& from) { return from[Below(from.size())]; }
  // Some part of the text, more often a short one.
  std::pair<size_t, size_t> Range(const std::string& text) {
    if (text.empty()) return {0, 0};
    const size_t start = Below(text.size());
    return {start, std::min(text.size() - start, 1 + Below(Below(2) == 0 ? 8 : 400))};
  }

  void Mutate(std::string& text) {
    static const std::vector<std::string> kTokens = {"\n",          "\n  ",
                                                     "\n- ",        ": ",
                                                     "- ",          "? ",
                                                     "{",           "}",
                                                     "[",           "]",
                                                     ",",           "#",
                                                     " #",          "&a ",
                                                     "*a",          "<<: ",
                                                     "<<: *a",      "!!str ",
                                                     "!x ",         "|\n",
                                                     "|+2\n ",      ">-\n ",
                                                     "'",           "\"",
                                                     "\\",          "\\u0000",
                                                     "\\ud800",     "\\x04",
                                                     "\x04",        "\xef\xbb\xbf",
                                                     "\xff",        "---\n",
                                                     "...\n",       "%YAML 1.2\n",
                                                     "%TAG ! x\n",  "\t",
                                                     "\r",          "\r\n",
                                                     "~",           "null",
                                                     "true",        "0",
                                                     "-1",          "18446744073709551616",
                                                     "1e9",         "0x1",
                                                     ".inf",        "60s",
                                                     "rules",       "match: ",
                                                     "action: ",    "drop",
                                                     "name: ",      "{}",
                                                     "[]",          "interfaces:\n",
                                                     "mode: native"};
    const auto [start, size] = Range(text);
    switch (Below(8)) {
      case 0:
        text.erase(start, size);
        break;
      case 1:
        text.insert(start, Pick(kTokens));
        break;
      case 2:
        text.insert(start, text.substr(start, size));
        break;
      case 3: {
        const std::string& other = Pick(corpus_);
        const auto [from, length] = Range(other);
        text.insert(start, other.substr(from, length));
        break;
      }
      case 4:
        if (!text.empty()) text[start] = static_cast<char>(random_());
        break;
      case 5:
        if (!text.empty()) text.replace(start, 1, Pick(kTokens));
        break;
      case 6: {
        // The same again and again: depth and width.
        const std::string piece = Below(2) == 0 ? Pick(kTokens) : text.substr(start, std::min<size_t>(size, 16));
        for (size_t n = Below(300); n > 0; --n) text.insert(start, piece);
        break;
      }
      default: {
        const auto [other_start, other_size] = Range(text);
        const std::string moved = text.substr(other_start, other_size);
        text.erase(other_start, other_size);
        text.insert(std::min(start, text.size()), moved);
        break;
      }
    }
  }

  std::mt19937_64& random_;
  std::vector<std::string> corpus_;
};

void CheckErrors(const std::string& text, const absl::Status& status) {
  const auto lines = static_cast<uint32_t>(std::count(text.begin(), text.end(), '\n') +
                                           std::count(text.begin(), text.end(), '\r') + 1);
  ASSERT_FALSE(status.message().empty());
  for (const absl::string_view error : absl::StrSplit(status.message(), '\n')) {
    // A scalar shown in an error may have line breaks of its own.
    if (error.substr(0, 2) != "f:" || error.substr(0, 6) == "f: and") continue;
    const std::vector<absl::string_view> parts = absl::StrSplit(error, absl::MaxSplits(':', 3));
    uint32_t line = 0;
    uint32_t column = 0;
    ASSERT_EQ(parts.size(), 4U) << error;
    ASSERT_TRUE(absl::SimpleAtoi(parts[1], &line) && absl::SimpleAtoi(parts[2], &column)) << error;
    ASSERT_GE(line, 1U);
    ASSERT_LE(line, lines) << error;
    ASSERT_GE(column, 1U);
  }
}

// True when the text was accepted.
template <typename Message>
bool Check(const std::string& text) {
  alarm(kHangSeconds);
  Message message;
  SourceMap map;
  const absl::Status status = ParseYaml(text, "f", message, &map);
  map.Find("rules[2].match.source");
  map.Find("upsert.prefix_sets[0].prefixes[9]");
  ParseJson(text, "f", *std::make_unique<Message>()).IgnoreError();
  // A message with errors was read in part: it has to be as sound as another.
  Message back;
  const absl::Status from_yaml = ParseYaml(ToYaml(message), "yaml", back);
  EXPECT_TRUE(from_yaml.ok()) << from_yaml << '\n' << ToYaml(message);
  EXPECT_TRUE(MessageDifferencer::Equals(message, back)) << ToYaml(message);
  const absl::Status from_json = ParseJson(ToJsonText(message), "json", back);
  EXPECT_TRUE(from_json.ok()) << from_json << '\n' << ToJsonText(message);
  EXPECT_TRUE(MessageDifferencer::Equals(message, back)) << ToJsonText(message);
  if (!status.ok()) CheckErrors(text, status);
  alarm(0);
  return status.ok();
}

TEST(TextFuzz, MutatedDocuments) {
  std::mt19937_64 random = testing::MakeRandom();
  std::vector<std::string> corpus = LoadCorpus();
  ASSERT_FALSE(corpus.empty()) << "no corpus in " << HG_FUZZ_CORPUS;
  testing::RandomMessage messages(random);
  for (int i = 0; i < 20; ++i) {
    v1::GatewayConfig config;
    v1::Patch patch;
    messages.Fill(config);
    messages.Fill(patch);
    corpus.push_back(ToYaml(config));
    corpus.push_back(ToJsonText(patch));
  }
  for (const std::string& text : corpus) {
    Check<v1::GatewayConfig>(text);
    Check<v1::Patch>(text);
  }

  const char* given = std::getenv("HG_FUZZ_SECONDS");
  const absl::Time end = absl::Now() + absl::Seconds(given != nullptr ? std::atoi(given) : 20);
  Mutator mutator(random, corpus);
  size_t inputs = 0;
  size_t accepted = 0;
  while (absl::Now() < end && !HasFailure()) {
    const std::string text = mutator.Next();
    const bool ok = inputs % 4 == 0 ? Check<v1::Patch>(text) : Check<v1::GatewayConfig>(text);
    if (HasFailure()) ADD_FAILURE() << "input " << inputs << ":\n" << text;
    if (ok) mutator.Add(text);
    accepted += ok ? 1 : 0;
    ++inputs;
  }
  std::printf("%zu inputs, %zu accepted\n", inputs, accepted);
  EXPECT_GT(accepted, 0U);
  EXPECT_LT(accepted, inputs);
}

}  // namespace
}  // namespace headgate
