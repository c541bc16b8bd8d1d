// SPDX-License-Identifier: Apache-2.0
//
// Who listens at egress ports, for workers: what hg_listeners says, in memory. Immutable.
#pragma once

#include <absl/container/flat_hash_map.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "bpf/hg_abi.h"

namespace headgate {

class ListenerTable {
 public:
  // Addresses as in hg_listener.
  using Address = std::array<uint32_t, 4>;

  void Put(const hg_listener& listener, bool wanted) { entries_[KeyOf(listener)] = wanted; }

  // What is known of the source decides, or else what holds for all others.
  bool Wants(uint32_t port, const Address& group, const Address& source) const {
    Key key{port, group[0], group[1], group[2], group[3], source[0], source[1], source[2], source[3]};
    auto found = entries_.find(key);
    if (found == entries_.end()) {
      std::fill(key.begin() + kSource, key.end(), 0);
      found = entries_.find(key);
    }
    return found != entries_.end() && found->second;
  }

 private:
  static constexpr size_t kSource = 5;
  using Key = std::array<uint32_t, 9>;

  static Key KeyOf(const hg_listener& listener) {
    Key key{listener.port};
    std::copy_n(listener.group, 4, key.begin() + 1);
    std::copy_n(listener.source, 4, key.begin() + kSource);
    return key;
  }

  absl::flat_hash_map<Key, bool> entries_;
};

}  // namespace headgate
