// SPDX-License-Identifier: Apache-2.0
#include "tests/fuzz/parser_frames.h"

#include <netinet/in.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <stdexcept>

namespace headgate::testing {
namespace {

constexpr size_t kMaxFrame = 3520;  // the largest that a trace takes
constexpr size_t kMinFrame = 14;    // the smallest that a test run takes

Bytes ReadHex(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::string line, digits;
  while (std::getline(file, line)) {
    for (const char c : line.substr(0, line.find('#'))) {
      if (std::isspace(static_cast<unsigned char>(c)) != 0) continue;
      if (std::isxdigit(static_cast<unsigned char>(c)) == 0)
        throw std::runtime_error(path.string() + ": not hex: " + line);
      digits += c;
    }
  }
  Bytes bytes;
  for (size_t i = 0; i + 1 < digits.size(); i += 2) {
    bytes.push_back(static_cast<uint8_t>(std::stoi(digits.substr(i, 2), nullptr, 16)));
  }
  return bytes;
}

void Set16(Bytes& frame, size_t at, size_t value) {
  if (at + 2 > frame.size()) return;
  frame[at] = static_cast<uint8_t>(value >> 8);
  frame[at + 1] = static_cast<uint8_t>(value);
}

}  // namespace

std::vector<Bytes> LoadFrames(const std::string& directory) {
  std::vector<std::filesystem::path> paths;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) paths.push_back(entry.path());
  std::sort(paths.begin(), paths.end());
  std::vector<Bytes> frames;
  frames.reserve(paths.size());
  for (const auto& path : paths) frames.push_back(ReadHex(path));
  return frames;
}

// Small, large, at a boundary, or any.
uint16_t FrameMaker::Number() {
  static constexpr uint16_t kEdges[] = {0,  1,   7,   8,    9,      19,     20,     21,     39,    40,
                                        53, 255, 256, 1500, 0x1fff, 0x2000, 0x8000, 0xfff8, 0xffff};
  return OneIn(3)   ? static_cast<uint16_t>(random_())
         : OneIn(2) ? static_cast<uint16_t>(Below(64))
                    : kEdges[Below(std::size(kEdges))];
}

Packet FrameMaker::Transport() {
  const Payload payload(Below(OneIn(10) ? 1400 : 40));
  const auto maybe16 = [this]() -> std::optional<uint16_t> {
    return OneIn(4) ? std::optional(Number()) : std::nullopt;
  };
  switch (Below(8)) {
    case 0:
    case 1: {
      Tcp tcp{.source_port = Number(), .destination_port = Number(), .flags = static_cast<uint8_t>(random_())};
      if (OneIn(3)) tcp.data_offset = static_cast<uint8_t>(Below(16));
      return tcp / payload;
    }
    case 2:
    case 3:
      return Udp{.source_port = Number(), .destination_port = Number(), .length = maybe16()} / payload;
    case 4:
      return Icmp{.type = static_cast<uint8_t>(random_()), .code = static_cast<uint8_t>(Below(4))} / payload;
    case 5:
      return Icmpv6{.type = static_cast<uint8_t>(OneIn(3) ? random_() : 126 + Below(20))} / payload;
    default: {
      static constexpr uint8_t kNumbers[] = {IPPROTO_SCTP, IPPROTO_DCCP, IPPROTO_UDPLITE, IPPROTO_IGMP,
                                             IPPROTO_ESP,  IPPROTO_GRE,  IPPROTO_IPIP,    IPPROTO_IPV6,
                                             IPPROTO_NONE, IPPROTO_TCP,  IPPROTO_UDP,     IPPROTO_ICMPV6};
      return Packet(Protocol{.number = kNumbers[Below(std::size(kNumbers))],
                             .bytes = Bytes(Below(24), static_cast<uint8_t>(random_()))});
    }
  }
}

Packet FrameMaker::Extensions(bool mutate) {
  static constexpr uint8_t kTypes[] = {IPPROTO_HOPOPTS, IPPROTO_ROUTING, IPPROTO_DSTOPTS, IPPROTO_AH, IPPROTO_MH};
  Packet chain(Ipv6Extension{.type = kTypes[Below(std::size(kTypes))]});
  for (size_t n = Below(OneIn(4) ? 10 : 4); n > 0; --n) {
    if (OneIn(3)) {
      chain = chain /
              Ipv6Fragment{.offset = static_cast<uint16_t>(OneIn(2) ? 0 : Number() & 0x1fff), .more = OneIn(2)};
      continue;
    }
    Ipv6Extension extension{.type = kTypes[Below(std::size(kTypes))],
                            .extra_units = static_cast<uint8_t>(Below(OneIn(8) ? 60 : 3))};
    if (mutate && OneIn(4)) extension.length_field = static_cast<uint8_t>(random_());
    chain = chain / extension;
  }
  return chain;
}

Packet FrameMaker::Network() {
  const bool mutate = OneIn(3);
  if (OneIn(2)) {
    static const char* const kAddresses[] = {"10.1.2.3",        "192.0.2.1", "224.0.0.22",
                                             "255.255.255.255", "0.0.0.0",   "198.51.100.1"};
    Ipv4 ip{.source = kAddresses[OneIn(6) ? Below(6) : Below(2)],
            .destination = kAddresses[Below(6)],
            .ttl = static_cast<uint8_t>(Number()),
            .tos = static_cast<uint8_t>(OneIn(2) ? 0xb8 : random_()),
            .options = Bytes(OneIn(4) ? Below(41) : 0, 1)};
    if (OneIn(4)) {
      ip.more_fragments = OneIn(2);
      ip.fragment_offset = OneIn(2) ? 0 : Number() & 0x1fff;
    }
    if (mutate && OneIn(3)) ip.version = static_cast<uint8_t>(Below(16));
    if (mutate && OneIn(3)) ip.ihl = static_cast<uint8_t>(Below(16));
    if (mutate && OneIn(3)) ip.total_length = Number();
    return ip / Transport();
  }
  static const char* const kAddresses[] = {"2001:db8::1", "2001:db9:1:2:3:4:5:6", "ff02::1", "fe80::1", "::"};
  Ipv6 ip{.source = kAddresses[OneIn(6) ? Below(5) : Below(2)],
          .destination = kAddresses[Below(5)],
          .hop_limit = static_cast<uint8_t>(OneIn(2) ? 255 : Number()),
          .traffic_class = static_cast<uint8_t>(OneIn(2) ? 0xb8 : random_())};
  if (mutate && OneIn(3)) ip.version = static_cast<uint8_t>(Below(16));
  if (mutate && OneIn(3)) ip.payload_length = Number();
  return OneIn(2) ? ip / Transport() : ip / Extensions(mutate) / Transport();
}

Bytes FrameMaker::Compose() {
  static constexpr uint16_t kOtherTypes[] = {0x0806, 0x88cc, 0x8035, 0x88b5, 0x0026, 0x9100};
  Packet frame{Ethernet{.destination = OneIn(4) ? "01:00:5e:00:00:01" : "02:00:00:00:00:01"}};
  for (size_t tags = OneIn(2) ? 0 : Below(4); tags > 0; --tags) {
    static constexpr uint16_t kIds[] = {0, 1, 100, 200, 4095};
    frame = frame / Vlan{.id = kIds[Below(std::size(kIds))],
                         .priority = static_cast<uint8_t>(Below(8)),
                         .tpid = static_cast<uint16_t>(OneIn(2) ? 0x8100 : 0x88a8)};
  }
  if (!OneIn(16)) return frame / Network();
  Bytes other = frame / Payload(Below(60));
  if (OneIn(3)) return frame / Arp{};
  Set16(other, 12, kOtherTypes[Below(std::size(kOtherTypes))]);
  return other;
}

void FrameMaker::RepairLengths(Bytes& frame) {
  size_t at = 12;
  const auto type = [&] { return at + 2 <= frame.size() ? frame[at] << 8 | frame[at + 1] : 0; };
  while (type() == 0x8100 || type() == 0x88a8) at += 4;
  const size_t l3 = at + 2;
  if (type() == 0x0800 && l3 < frame.size()) Set16(frame, l3 + 2, frame.size() - l3);
  if (type() == 0x86dd && l3 + 40 <= frame.size()) Set16(frame, l3 + 4, frame.size() - l3 - 40);
}

void FrameMaker::Mutate(Bytes& frame) {
  if (frame.empty()) return;
  // More often where the headers are.
  const size_t at = Below(OneIn(4) ? frame.size() : std::min<size_t>(frame.size(), 80));
  const auto from = frame.begin() + static_cast<ptrdiff_t>(at);
  const size_t size = std::min(frame.size() - at, 1 + Below(OneIn(4) ? 64 : 8));
  switch (Below(9)) {
    case 0:
      frame[at] = static_cast<uint8_t>(frame[at] ^ 1U << Below(8));
      break;
    case 1:
      frame[at] = static_cast<uint8_t>(random_());
      break;
    case 2:
      Set16(frame, at, Number());
      break;
    case 3: {
      static constexpr uint8_t kNext[] = {0, 1, 6, 17, 43, 44, 50, 51, 58, 59, 60, 132, 135, 136, 139, 140, 253};
      frame[at] = kNext[Below(std::size(kNext))];
      break;
    }
    case 4:
      frame.erase(from, from + static_cast<ptrdiff_t>(size));
      break;
    case 5: {
      Bytes piece(from, from + static_cast<ptrdiff_t>(size));
      frame.insert(frame.begin() + static_cast<ptrdiff_t>(at), piece.begin(), piece.end());
      break;
    }
    case 6:
      frame.resize(at);
      break;
    case 7: {
      const Bytes& other = corpus_[Below(corpus_.size())];
      const size_t start = Below(std::max<size_t>(1, other.size()));
      frame.resize(at);
      frame.insert(frame.end(), other.begin() + static_cast<ptrdiff_t>(std::min(start, other.size())),
                   other.end());
      break;
    }
    default:
      frame.resize(frame.size() + Below(64), static_cast<uint8_t>(random_()));
      break;
  }
}

Bytes FrameMaker::Next() {
  Bytes frame = OneIn(3) || corpus_.empty() ? Compose() : corpus_[Below(corpus_.size())];
  if (!OneIn(4)) {
    for (size_t n = 1 + Below(5); n > 0; --n) Mutate(frame);
  }
  if (OneIn(2)) RepairLengths(frame);
  frame.resize(std::clamp(frame.size(), kMinFrame, kMaxFrame));
  return frame;
}

}  // namespace headgate::testing
