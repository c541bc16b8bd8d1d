// SPDX-License-Identifier: Apache-2.0
#include "cli/packet.h"

#include <absl/strings/ascii.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/strings/str_join.h>
#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <cstdint>

namespace headgate::cli {
namespace {

constexpr uint16_t kEtherIpv4 = 0x0800;
constexpr uint16_t kEtherArp = 0x0806;
constexpr uint16_t kEtherVlan = 0x8100;
constexpr uint16_t kEtherProviderVlan = 0x88a8;
constexpr uint16_t kEtherIpv6 = 0x86dd;
constexpr int kMaxVlanTags = 8;
constexpr int kMaxExtensions = 16;

class Cursor {
 public:
  explicit Cursor(absl::string_view bytes) : rest_(bytes) {}

  size_t left() const { return rest_.size(); }
  bool Has(size_t size) const { return rest_.size() >= size; }
  uint8_t U8(size_t at) const { return static_cast<uint8_t>(rest_[at]); }
  uint16_t U16(size_t at) const { return static_cast<uint16_t>(U8(at) << 8 | U8(at + 1)); }
  uint32_t U32(size_t at) const { return static_cast<uint32_t>(U16(at)) << 16 | U16(at + 2); }
  absl::string_view Bytes(size_t at, size_t size) const { return rest_.substr(at, size); }
  void Skip(size_t size) { rest_.remove_prefix(std::min(size, rest_.size())); }

 private:
  absl::string_view rest_;
};

std::string Mac(absl::string_view bytes) {
  return absl::StrJoin(
      bytes, ":", [](std::string* out, char c) { absl::StrAppendFormat(out, "%02x", static_cast<uint8_t>(c)); });
}

std::string Address(absl::string_view bytes) {
  char text[INET6_ADDRSTRLEN] = "";
  inet_ntop(bytes.size() == 4 ? AF_INET : AF_INET6, bytes.data(), text, sizeof(text));
  return text;
}

std::string ProtocolName(uint8_t protocol) {
  switch (protocol) {
    case IPPROTO_ICMP:
      return "icmp";
    case IPPROTO_IGMP:
      return "igmp";
    case IPPROTO_IPIP:
      return "ipip";
    case IPPROTO_TCP:
      return "tcp";
    case IPPROTO_UDP:
      return "udp";
    case IPPROTO_DCCP:
      return "dccp";
    case IPPROTO_GRE:
      return "gre";
    case IPPROTO_ESP:
      return "esp";
    case IPPROTO_AH:
      return "ah";
    case IPPROTO_ICMPV6:
      return "icmpv6";
    case IPPROTO_SCTP:
      return "sctp";
    case IPPROTO_UDPLITE:
      return "udplite";
    default:
      return absl::StrCat(protocol);
  }
}

std::string TcpFlags(uint8_t flags) {
  static constexpr const char* kNames[] = {"fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr"};
  std::vector<std::string> names;
  for (int bit = 0; bit < 8; ++bit) {
    if ((flags >> bit & 1) != 0) names.emplace_back(kNames[bit]);
  }
  return names.empty() ? "none" : absl::StrJoin(names, ",");
}

// Walks the headers from the outside in.
class Decoder {
 public:
  explicit Decoder(absl::string_view frame) : cursor_(frame) {}

  DecodedFrame Decode() {
    Ethernet();
    if (result_.summary.empty()) {
      result_.summary = absl::StrJoin(result_.headers, ", ");
    } else {
      for (const std::string& extra : extras_) absl::StrAppend(&result_.summary, " ", extra);
    }
    return std::move(result_);
  }

 private:
  template <typename... Parts>
  void Line(const Parts&... parts) {
    result_.headers.push_back(absl::StrCat(parts...));
  }

  // False, with a line that says so, when the header is not all there.
  bool Need(absl::string_view header, size_t size) {
    if (cursor_.Has(size)) return true;
    Line(header, " cut: ", cursor_.left(), " of ", size, " bytes");
    return false;
  }

  void Ethernet() {
    if (!Need("ethernet", 14)) return;
    uint16_t type = cursor_.U16(12);
    Line("ethernet ", Mac(cursor_.Bytes(6, 6)), " > ", Mac(cursor_.Bytes(0, 6)),
         absl::StrFormat(" type 0x%04x", type));
    cursor_.Skip(14);
    for (int tags = 0; (type == kEtherVlan || type == kEtherProviderVlan) && tags < kMaxVlanTags; ++tags) {
      if (!Need("vlan", 4)) return;
      const int id = cursor_.U16(0) & 0xfff;
      Line("vlan ", id, " priority ", cursor_.U8(0) >> 5, absl::StrFormat(" type 0x%04x", cursor_.U16(2)));
      extras_.push_back(absl::StrCat("vlan ", id));
      type = cursor_.U16(2);
      cursor_.Skip(4);
    }
    if (type == kEtherIpv4) return Ipv4();
    if (type == kEtherIpv6) return Ipv6();
    if (type == kEtherArp) return Arp();
    Payload();
  }

  void Arp() {
    if (!Need("arp", 28)) return;
    const std::string sender = Address(cursor_.Bytes(14, 4));
    const std::string target = Address(cursor_.Bytes(24, 4));
    const uint16_t operation = cursor_.U16(6);
    result_.summary = operation == 1   ? absl::StrCat("arp who-has ", target, " tell ", sender)
                      : operation == 2 ? absl::StrCat("arp ", sender, " is-at ", Mac(cursor_.Bytes(8, 6)))
                                       : absl::StrCat("arp operation ", operation, " ", sender, " > ", target);
    Line(result_.summary);
    cursor_.Skip(28);
    Payload();
  }

  void Ipv4() {
    if (!Need("ipv4", 20)) return;
    const size_t header = (cursor_.U8(0) & 0xf) * size_t{4};
    const uint16_t fragment = cursor_.U16(6);
    const uint8_t protocol = cursor_.U8(9);
    Network(Address(cursor_.Bytes(12, 4)), Address(cursor_.Bytes(16, 4)), protocol, cursor_.U8(8));
    Line("ipv4 ", source_, " > ", destination_, " ", ProtocolName(protocol), " ttl ", cursor_.U8(8), " dscp ",
         cursor_.U8(1) >> 2, " id ", cursor_.U16(4), (fragment & 0x4000) != 0 ? " df" : "",
         (fragment & 0x3fff) != 0
             ? absl::StrCat(" fragment ", (fragment & 0x1fff) * 8, (fragment & 0x2000) != 0 ? "+" : "")
             : "",
         " length ", cursor_.U16(2), header > 20 ? absl::StrCat(" options ", header - 20) : "",
         absl::StrFormat(" checksum 0x%04x", cursor_.U16(10)));
    if (header < 20 || !Need("ipv4 options", header)) return;
    cursor_.Skip(header);
    if ((fragment & 0x1fff) != 0) return LaterFragment();
    Transport(protocol);
  }

  void Ipv6() {
    if (!Need("ipv6", 40)) return;
    uint8_t next = cursor_.U8(6);
    Network(Address(cursor_.Bytes(8, 16)), Address(cursor_.Bytes(24, 16)), next, cursor_.U8(7));
    Line("ipv6 ", source_, " > ", destination_, " hop limit ", cursor_.U8(7), " dscp ", cursor_.U16(0) >> 6 & 0x3f,
         absl::StrFormat(" flow 0x%05x", cursor_.U32(0) & 0xfffff), " payload ", cursor_.U16(4));
    cursor_.Skip(40);
    for (int i = 0; i < kMaxExtensions; ++i) {
      const bool options = next == IPPROTO_HOPOPTS || next == IPPROTO_ROUTING || next == IPPROTO_DSTOPTS ||
                           next == IPPROTO_MH || next == IPPROTO_AH;
      if (!options && next != IPPROTO_FRAGMENT) break;
      if (!Need("extension header", 8)) return;
      const uint8_t type = next;
      next = cursor_.U8(0);
      const size_t size = type == IPPROTO_FRAGMENT ? 8
                          : type == IPPROTO_AH     ? (cursor_.U8(1) + size_t{2}) * 4
                                                   : (cursor_.U8(1) + size_t{1}) * 8;
      if (type == IPPROTO_FRAGMENT) {
        const uint16_t field = cursor_.U16(2);
        Line("fragment ", field & 0xfff8, (field & 1) != 0 ? "+" : "", " id ", cursor_.U32(4));
        if ((field & 0xfff8) != 0) {
          Network(source_, destination_, next, ttl_);
          return LaterFragment();
        }
      } else {
        Line("extension header ", type, " length ", size);
      }
      if (!Need("extension header", size)) return;
      cursor_.Skip(size);
    }
    Network(source_, destination_, next, ttl_);
    Transport(next);
  }

  void Network(std::string source, std::string destination, uint8_t protocol, uint8_t ttl) {
    source_ = std::move(source);
    destination_ = std::move(destination);
    ttl_ = ttl;
    result_.summary = absl::StrCat(ProtocolName(protocol), " ", source_, " > ", destination_);
  }

  void LaterFragment() {
    extras_.push_back("fragment later");
    Payload();
  }

  void Transport(uint8_t protocol) {
    const std::string name = ProtocolName(protocol);
    switch (protocol) {
      case IPPROTO_TCP:
        if (!Need(name, 20)) return;
        Ports(name);
        Line("tcp ", cursor_.U16(0), " > ", cursor_.U16(2), " flags ", TcpFlags(cursor_.U8(13)), " seq ",
             cursor_.U32(4), " ack ", cursor_.U32(8), " window ", cursor_.U16(14),
             absl::StrFormat(" checksum 0x%04x", cursor_.U16(16)));
        if (cursor_.U8(13) != 0) extras_.push_back("flags " + TcpFlags(cursor_.U8(13)));
        cursor_.Skip(std::max<size_t>(20, (cursor_.U8(12) >> 4) * size_t{4}));
        break;
      case IPPROTO_UDP:
      case IPPROTO_UDPLITE:
        if (!Need(name, 8)) return;
        Ports(name);
        Line(name, " ", cursor_.U16(0), " > ", cursor_.U16(2), " length ", cursor_.U16(4),
             absl::StrFormat(" checksum 0x%04x", cursor_.U16(6)));
        cursor_.Skip(8);
        break;
      case IPPROTO_SCTP:
      case IPPROTO_DCCP:
        if (!Need(name, 12)) return;
        Ports(name);
        Line(name, " ", cursor_.U16(0), " > ", cursor_.U16(2));
        cursor_.Skip(12);
        break;
      case IPPROTO_ICMP:
      case IPPROTO_ICMPV6:
        if (!Need(name, 4)) return;
        Line(name, " type ", cursor_.U8(0), " code ", cursor_.U8(1),
             absl::StrFormat(" checksum 0x%04x", cursor_.U16(2)));
        Sides(name, "", absl::StrCat(":", cursor_.U8(0), "/", cursor_.U8(1)));
        cursor_.Skip(4);
        break;
      default:
        break;
    }
    Payload();
  }

  void Ports(absl::string_view name) {
    Sides(name, absl::StrCat(":", cursor_.U16(0)), absl::StrCat(":", cursor_.U16(2)));
  }

  void Sides(absl::string_view name, const std::string& source_port, const std::string& destination_port) {
    const auto side = [](const std::string& address, const std::string& port) {
      const bool brackets = !port.empty() && address.find(':') != std::string::npos;
      return brackets ? absl::StrCat("[", address, "]", port) : absl::StrCat(address, port);
    };
    result_.summary =
        absl::StrCat(name, " ", side(source_, source_port), " > ", side(destination_, destination_port));
  }

  void Payload() {
    if (cursor_.left() > 0) Line("payload ", cursor_.left(), " bytes");
    if (!source_.empty()) extras_.push_back(absl::StrCat("ttl ", ttl_));
  }

  Cursor cursor_;
  DecodedFrame result_;
  std::string source_, destination_;
  uint8_t ttl_ = 0;
  std::vector<std::string> extras_;
};

}  // namespace

DecodedFrame DecodeFrame(absl::string_view frame) { return Decoder(frame).Decode(); }

std::string HexDump(absl::string_view bytes, absl::string_view indent) {
  constexpr size_t kRow = 16;
  std::string out;
  for (size_t at = 0; at < bytes.size(); at += kRow) {
    const absl::string_view row = bytes.substr(at, kRow);
    std::string hex;
    std::string text;
    for (size_t i = 0; i < row.size(); ++i) {
      const auto byte = static_cast<unsigned char>(row[i]);
      if (i % 8 == 0 && i > 0) hex += ' ';
      absl::StrAppendFormat(&hex, " %02x", byte);
      text += absl::ascii_isprint(byte) ? row[i] : '.';
    }
    absl::StrAppendFormat(&out, "%s%04x %-49s  %s\n", indent, at, hex, text);
  }
  return out;
}

}  // namespace headgate::cli
