// SPDX-License-Identifier: Apache-2.0
//
// Frames by composition: Ethernet{} / Ipv4{.source = "192.0.2.9"} / Udp{.destination_port = 53} / Payload(20).
//
// Each layer fills in what it can know of its neighbours (types, lengths, checksums) unless a field is given.
// Addresses default to the documentation ranges (RFC 5737, RFC 3849).
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace headgate::testing {

using Bytes = std::vector<uint8_t>;

struct Ethernet {
  std::string destination = "02:00:00:00:00:01";
  std::string source = "02:00:00:00:00:02";
  std::optional<uint16_t> type;
};

struct Vlan {
  uint16_t id = 1;
  uint8_t priority = 0;
  uint16_t tpid = 0x8100;  // of this tag; 0x88a8 for the outer of two by 802.1ad
  std::optional<uint16_t> type;
};

struct Ipv4 {
  std::string source = "192.0.2.1";
  std::string destination = "192.0.2.2";
  uint8_t ttl = 64;
  uint8_t tos = 0;
  uint16_t id = 1;
  bool dont_fragment = false;
  bool more_fragments = false;
  uint16_t fragment_offset = 0;  // in units of 8 bytes
  Bytes options;                 // padded to a multiple of 4
  std::optional<uint8_t> protocol;
  std::optional<uint8_t> version;
  std::optional<uint8_t> ihl;
  std::optional<uint16_t> total_length;
  std::optional<uint16_t> checksum;
};

struct Ipv6 {
  std::string source = "2001:db8::1";
  std::string destination = "2001:db8::2";
  uint8_t hop_limit = 64;
  uint8_t traffic_class = 0;
  std::optional<uint8_t> next_header;
  std::optional<uint8_t> version;
  std::optional<uint16_t> payload_length;
};

// Hop-by-hop (0), routing (43), destination options (60), mobility (135) or authentication (51).
struct Ipv6Extension {
  uint8_t type = 0;
  uint8_t extra_units = 0;  // beyond the first 8 bytes, in units of 8 (authentication: 4)
  std::optional<uint8_t> length_field;
  std::optional<uint8_t> next_header;
};

struct Ipv6Fragment {
  uint16_t offset = 0;  // in units of 8 bytes
  bool more = false;
  uint32_t id = 1;
  std::optional<uint8_t> next_header;
};

struct Tcp {
  uint16_t source_port = 12345;
  uint16_t destination_port = 80;
  uint8_t flags = 0x02;                // SYN
  std::optional<uint8_t> data_offset;  // in units of 4 bytes
};

struct Udp {
  uint16_t source_port = 12345;
  uint16_t destination_port = 53;
  std::optional<uint16_t> length;
  std::optional<uint16_t> checksum;
};

struct Icmp {
  uint8_t type = 8;
  uint8_t code = 0;
};

struct Icmpv6 {
  uint8_t type = 128;
  uint8_t code = 0;
};

// SCTP, DCCP, UDP-Lite or anything else with a number: `bytes` after the IP header.
struct Protocol {
  uint8_t number = 132;
  Bytes bytes = Bytes(12);
};

struct Arp {};

struct Payload {
  Payload() = default;
  explicit Payload(size_t size, uint8_t fill = 0x5a) : bytes(size, fill) {}
  explicit Payload(Bytes content) : bytes(std::move(content)) {}
  Bytes bytes;
};

class Packet {
 public:
  template <typename Layer>
  explicit Packet(const Layer& layer) {
    Add(layer);
  }

  template <typename Layer>
  friend Packet operator/(Packet packet, const Layer& layer) {
    packet.Add(layer);
    return packet;
  }

  Bytes Build() const;
  operator Bytes() const { return Build(); }  // NOLINT(google-explicit-constructor): reads as the bytes it is

 private:
  friend struct Layers;
  // What the layer before must call this one, and how to put this one before `rest`.
  struct Layer {
    uint16_t ether_type = 0;
    int protocol = -1;
    std::function<Bytes(const Layer* next, Bytes rest)> build;
  };
  void Add(const Ethernet& layer);
  void Add(const Vlan& layer);
  void Add(const Ipv4& layer);
  void Add(const Ipv6& layer);
  void Add(const Ipv6Extension& layer);
  void Add(const Ipv6Fragment& layer);
  void Add(const Tcp& layer);
  void Add(const Udp& layer);
  void Add(const Icmp& layer);
  void Add(const Icmpv6& layer);
  void Add(const Protocol& layer);
  void Add(const Arp& layer);
  void Add(const Payload& layer);
  void Add(const Packet& rest) { layers_.insert(layers_.end(), rest.layers_.begin(), rest.layers_.end()); }

  std::vector<Layer> layers_;
};

template <typename First, typename Second>
Packet operator/(const First& first, const Second& second) requires(!std::is_same_v<First, Packet>) {
  return Packet(first) / second;
}

// The first `size` bytes.
Bytes Truncate(Bytes frame, size_t size);

uint16_t InternetChecksum(const uint8_t* data, size_t size, uint32_t sum = 0);

}  // namespace headgate::testing
