// SPDX-License-Identifier: Apache-2.0
#include "bench/pcap_file.h"

#include <absl/strings/str_cat.h>
#include <linux/if_ether.h>
#include <pcap/pcap.h>

#include <algorithm>
#include <memory>

namespace headgate::bench {
namespace {

constexpr uint64_t kNanosecondsPerSecond = 1'000'000'000;

struct Closer {
  void operator()(pcap_t* file) const { pcap_close(file); }
};

absl::Status Check(const pcap_pkthdr& header, uint32_t most) {
  if (header.caplen < header.len) {
    return absl::InvalidArgumentError(
        absl::StrCat("only ", header.caplen, " of its ", header.len, " bytes were captured"));
  }
  if (header.caplen < ETH_HLEN || header.caplen > most) {
    return absl::InvalidArgumentError(absl::StrCat("it has ", header.caplen, " bytes: frames of ", ETH_HLEN,
                                                   " to ", most, " can be sent (capture with offloads off)"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<CapturedFrame>> ReadPcap(const std::string& path, uint32_t most) {
  char error[PCAP_ERRBUF_SIZE] = {};
  const std::unique_ptr<pcap_t, Closer> file(
      pcap_open_offline_with_tstamp_precision(path.c_str(), PCAP_TSTAMP_PRECISION_NANO, error));
  if (file == nullptr) return absl::InvalidArgumentError(absl::StrCat("read ", path, ": ", error));
  if (const int type = pcap_datalink(file.get()); type != DLT_EN10MB) {
    const char* name = pcap_datalink_val_to_name(type);
    return absl::InvalidArgumentError(absl::StrCat(path, " is of link type ", name != nullptr ? name : "?", " (",
                                                   type, "): only Ethernet can be sent"));
  }
  std::vector<CapturedFrame> frames;
  uint64_t first = 0, last = 0;
  pcap_pkthdr* header = nullptr;
  const u_char* data = nullptr;
  int result = 0;
  while ((result = pcap_next_ex(file.get(), &header, &data)) == 1) {
    if (const absl::Status status = Check(*header, most); !status.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat("frame ", frames.size() + 1, " of ", path, ": ", status.message()));
    }
    // With this precision the microseconds are nanoseconds.
    const uint64_t time = static_cast<uint64_t>(header->ts.tv_sec) * kNanosecondsPerSecond +
                          static_cast<uint64_t>(header->ts.tv_usec);
    if (frames.empty()) first = last = time;
    last = std::max(last, time);
    frames.push_back({.time = last - first, .bytes = {data, data + header->caplen}});
  }
  if (result == PCAP_ERROR) {
    return absl::InvalidArgumentError(
        absl::StrCat("read ", path, " after frame ", frames.size(), ": ", pcap_geterr(file.get())));
  }
  if (frames.empty()) return absl::InvalidArgumentError(absl::StrCat(path, " has no frames"));
  return frames;
}

}  // namespace headgate::bench
