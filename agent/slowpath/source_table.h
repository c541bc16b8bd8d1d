// SPDX-License-Identifier: Apache-2.0
//
// Where packets of a source last came in: what answers to it need to find their way back. Of a fixed size; a
// source that finds its places taken takes that of the one that was not heard of for longest.
//
// Threads: one at a time.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>

namespace headgate {

// A MAC address, or an IPv6 address, or an IPv4 address as ::ffff:0:0/96 has it; the rest is 0.
using SourceKey = std::array<uint8_t, 16>;

struct Origin {
  uint16_t port = 0;  // the interface's id
  // What stands before the EtherType in frames to it: addresses and VLAN tags. Nothing when it is not needed.
  uint8_t header_length = 0;
  std::array<uint8_t, 20> header{};
};

class SourceTable {
 public:
  static constexpr size_t kEntries = 4096;
  // `seed`: of the hash, so that senders cannot choose addresses that share places.
  explicit SourceTable(uint64_t seed);

  void Learn(const SourceKey& source, const Origin& origin);
  // Null: no packet has come from it, or too long ago.
  const Origin* Find(const SourceKey& source) const;
  // Sources that are learned from now on are newer than those before.
  void Advance() { ++now_; }

 private:
  static constexpr size_t kPlaces = 8;  // of a source: one after the other
  struct Entry {
    SourceKey source{};
    Origin origin;
    bool used = false;
    uint32_t seen = 0;
  };
  size_t FirstPlace(const SourceKey& source) const;
  static size_t Place(size_t first, size_t number) { return (first + number) % kEntries; }

  const uint64_t seed_;
  uint32_t now_ = 0;
  std::unique_ptr<std::array<Entry, kEntries>> entries_;
};

}  // namespace headgate
