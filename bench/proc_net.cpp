// SPDX-License-Identifier: Apache-2.0
#include "bench/proc_net.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_split.h>
#include <arpa/inet.h>

#include <algorithm>
#include <fstream>
#include <sstream>
#include <vector>

#include "agent/base/status.h"
#include "bench/netns.h"

namespace headgate::bench {

absl::StatusOr<UdpCounts> ReadUdpCounts(const std::string& netns) {
  UdpCounts counts;
  HG_RETURN_IF_ERROR(InNamespace(netns, [&]() -> absl::Status {
    std::ifstream file("/proc/thread-self/net/snmp");
    std::vector<std::string> names;
    for (std::string line; std::getline(file, line);) {
      std::vector<std::string> words = absl::StrSplit(line, ' ');
      if (words[0] != "Udp:") continue;
      if (names.empty()) {
        names = std::move(words);
        continue;
      }
      for (size_t i = 1; i < std::min(names.size(), words.size()); ++i) {
        const uint64_t value = std::stoull(words[i]);
        if (names[i] == "InDatagrams") counts.taken = value;
        if (names[i] == "NoPorts" || names[i] == "InErrors") counts.dropped += value;
      }
      return absl::OkStatus();
    }
    return absl::NotFoundError("no UDP counters in /proc/net/snmp");
  }));
  return counts;
}

absl::StatusOr<uint64_t> ReadTransmitDrops(const std::string& netns, const std::string& device) {
  constexpr int kColumn = 12;  // after its name
  uint64_t drops = 0;
  HG_RETURN_IF_ERROR(InNamespace(netns, [&]() -> absl::Status {
    std::ifstream file("/proc/thread-self/net/dev");
    for (std::string line; std::getline(file, line);) {
      std::istringstream words(line);
      std::string name;
      words >> name;
      if (name != device + ":") continue;
      for (int column = 0; column < kColumn && words >> drops;) ++column;
      if (words) return absl::OkStatus();
    }
    return absl::NotFoundError(absl::StrCat("no counters of ", device));
  }));
  return drops;
}

absl::StatusOr<MulticastRouteCounts> ReadMulticastRoute(const std::string& netns, const std::string& group) {
  in_addr address{};
  if (inet_pton(AF_INET, group.c_str(), &address) != 1) {
    return absl::InvalidArgumentError(absl::StrCat(group, " is no IPv4 address"));
  }
  MulticastRouteCounts counts;
  HG_RETURN_IF_ERROR(InNamespace(netns, [&]() -> absl::Status {
    // Group, origin, input, packets, bytes, packets by wrong inputs, "output:threshold" ...; addresses as they lie
    // in memory.
    std::ifstream file("/proc/thread-self/net/ip_mr_cache");
    std::string line;
    for (std::getline(file, line); std::getline(file, line);) {
      const std::vector<std::string> words = absl::StrSplit(line, ' ', absl::SkipEmpty());
      if (words.size() < 6 || std::stoul(words[0], nullptr, 16) != address.s_addr) continue;
      counts.packets += std::stoull(words[3]);
      counts.outputs += words.size() - 6;
      return absl::OkStatus();
    }
    return absl::NotFoundError(absl::StrCat("the kernel has no multicast route for ", group));
  }));
  return counts;
}

}  // namespace headgate::bench
