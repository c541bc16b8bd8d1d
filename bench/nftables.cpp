// SPDX-License-Identifier: Apache-2.0
#include "bench/nftables.h"

#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_split.h>
#include <netinet/in.h>

#include <cstdio>
#include <fstream>
#include <string_view>

#include "agent/base/fd.h"
#include "agent/base/status.h"
#include "bench/netns.h"

namespace headgate::bench {
namespace {

constexpr char kScript[] = "/run/hgbench.nft";

std::string Ports(const std::string& field, const PortRanges& ranges) {
  if (ranges.empty()) return "";
  // As a range it would take two comparisons.
  if (ranges[0].first == ranges[0].last) return absl::StrCat(field, " ", ranges[0].first, " ");
  return absl::StrCat(field, " ", ranges[0].first, "-", ranges[0].last, " ");
}

std::string MatchText(const Match& match) {
  std::string text;
  if (match.source) absl::StrAppend(&text, "ip saddr ", ToString(*match.source), " ");
  if (match.destination) absl::StrAppend(&text, "ip daddr ", ToString(*match.destination), " ");
  std::string transport;
  if (match.protocol == IPPROTO_TCP) {
    transport = "tcp";
  } else if (match.protocol == IPPROTO_UDP) {
    transport = "udp";
  } else if (!match.protocol) {
    transport = "th";
  }
  const std::string ports = absl::StrCat(Ports(absl::StrCat(transport, " sport"), match.source_ports),
                                         Ports(absl::StrCat(transport, " dport"), match.destination_ports));
  if (match.protocol) {
    absl::StrAppend(&text, "meta l4proto ", static_cast<int>(*match.protocol), " ");
  } else if (!ports.empty()) {
    absl::StrAppend(&text, "meta l4proto { tcp, udp } ");
  }
  return text + ports;
}

absl::Status WriteScript(const std::string& device, const std::vector<Rule>& rules) {
  std::ofstream out(kScript);
  out << "table netdev hgbench {\n  counter matched { }\n  counter unmatched { }\n"
      << "  chain matched { counter name \"matched\" drop; }\n"
      << "  chain rules { type filter hook ingress device \"" << device << "\" priority 0; policy accept;\n";
  for (const Rule& rule : rules) out << "    " << MatchText(rule.match) << "goto matched;\n";
  out << "    counter name \"unmatched\" drop;\n  }\n}\n";
  out.close();
  return out ? absl::OkStatus() : ErrnoStatus("write ", kScript);
}

// What nft prints.
absl::StatusOr<std::string> Run(const std::string& netns, const std::string& words) {
  std::string output;
  HG_RETURN_IF_ERROR(InNamespace(netns, [&]() -> absl::Status {
    FILE* pipe = popen(absl::StrCat("exec nft ", words, " 2>&1").c_str(), "re");
    if (pipe == nullptr) return ErrnoStatus("run nft");
    char buffer[4096];
    for (size_t size; (size = fread(buffer, 1, sizeof(buffer), pipe)) > 0;) output.append(buffer, size);
    const int status = pclose(pipe);
    constexpr int kNotFound = 127 << 8;
    if (status == kNotFound) return absl::UnavailableError("there is no nft: install nftables");
    if (status != 0) return absl::InternalError(absl::StrCat("nft ", words, ": ", output.substr(0, 400)));
    return absl::OkStatus();
  }));
  return output;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Nftables>> Nftables::Start(const std::string& netns, const std::string& device,
                                                          const std::vector<Rule>& rules) {
  HG_RETURN_IF_ERROR(WriteScript(device, rules));
  std::unique_ptr<Nftables> nftables(new Nftables(netns));
  const absl::Status loaded = Run(netns, absl::StrCat("-f ", kScript)).status();
  std::remove(kScript);
  HG_RETURN_IF_ERROR(loaded);
  return nftables;
}

Nftables::~Nftables() { Run(netns_, "delete table netdev hgbench").status().IgnoreError(); }

absl::Status Nftables::CheckInstalled() { return Run("", "--version").status(); }

absl::StatusOr<Nftables::Counts> Nftables::Read() const {
  HG_ASSIGN_OR_RETURN(const std::string text, Run(netns_, "list counters table netdev hgbench"));
  Counts counts;
  int found = 0;
  uint64_t* of = nullptr;
  const std::vector<std::string> words = absl::StrSplit(text, absl::ByAnyChar(" \n\t"), absl::SkipEmpty());
  for (size_t i = 0; i + 1 < words.size(); ++i) {
    if (words[i] == "counter") of = words[i + 1] == "matched" ? &counts.matched : &counts.unmatched;
    if (words[i] == "packets" && of != nullptr && absl::SimpleAtoi(words[i + 1], of)) ++found;
  }
  if (found == 2) return counts;
  return absl::InternalError(absl::StrCat("no counts in what nft prints: ", text));
}

}  // namespace headgate::bench
