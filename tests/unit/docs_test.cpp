// SPDX-License-Identifier: Apache-2.0
//
// Documentation that follows from the code is what the code says. HG_WRITE_DOCS=1 writes it.
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <map>
#include <sstream>
#include <string>

#include "bpf/hg_abi.h"

namespace headgate {
namespace {

struct Row {
  const char* name;
  const char* reason_class;
  const char* text;
};

constexpr Row kReasons[] = {
#define HG_ROW(enumerator, name, reason_class, text) {name, #reason_class, text},
    HG_REASONS(HG_ROW)
#undef HG_ROW
};

std::string ReasonsPage() {
  std::ostringstream page;
  page << "# Reasons\n\n"
          "Every packet that arrives on an interface is counted once, under the reason for which it left the way "
          "it\n"
          "did; the reasons of an interface add up to what it received. `hgctl stats`, the metrics' label "
          "`reason`\n"
          "and the rows of `hg_port_stats` (port id * "
       << HG_REASON_SLOTS
       << " + number) use this list.\n\n"
          "This page is made from `bpf/hg_abi.h` (`HG_WRITE_DOCS=1 build/release/tests/unit/docs_test`).\n";
  const std::pair<const char*, const char*> classes[] = {
      {"PASS", "Pass: to the local network stack"},
      {"FORWARD", "Forward: out of a device, or to an AF_XDP socket"},
      {"DROP", "Drop: by policy, or for want of a way out"},
      {"MALFORMED", "Malformed: dropped because it could not be parsed"},
  };
  for (const auto& [reason_class, title] : classes) {
    page << "\n## " << title << "\n\n| Number | Reason | Meaning |\n|---|---|---|\n";
    for (size_t i = 0; i < std::size(kReasons); ++i) {
      if (std::string(kReasons[i].reason_class) != reason_class) continue;
      page << "| " << i << " | `" << kReasons[i].name << "` | " << kReasons[i].text << " |\n";
    }
  }
  return page.str();
}

TEST(DocsTest, ReasonsAreThoseOfTheProgram) {
  const std::string path = std::string(HG_DOCS) + "/reasons.md";
  if (std::getenv("HG_WRITE_DOCS") != nullptr) std::ofstream(path) << ReasonsPage();
  std::ifstream file(path);
  std::stringstream content;
  content << file.rdbuf();
  EXPECT_EQ(content.str(), ReasonsPage()) << "run this test with HG_WRITE_DOCS=1";
}

TEST(DocsTest, NamesOfReasonsAreDifferent) {
  std::map<std::string, int> seen;
  for (const Row& row : kReasons) EXPECT_EQ(++seen[row.name], 1) << row.name;
}

}  // namespace
}  // namespace headgate
