// SPDX-License-Identifier: Apache-2.0
#include "agent/slowpath/source_table.h"

#include <cstring>

namespace headgate {
namespace {

// As murmur3's finalizer.
uint64_t Mix(uint64_t value) {
  value ^= value >> 33;
  value *= 0xff51afd7ed558ccd;
  value ^= value >> 33;
  value *= 0xc4ceb9fe1a85ec53;
  return value ^ (value >> 33);
}

}  // namespace

SourceTable::SourceTable(uint64_t seed) : seed_(seed), entries_(std::make_unique<std::array<Entry, kEntries>>()) {}

size_t SourceTable::FirstPlace(const SourceKey& source) const {
  std::array<uint64_t, 2> words;
  std::memcpy(words.data(), source.data(), sizeof(words));
  return Mix(Mix(words[0] ^ seed_) ^ words[1]) % kEntries;
}

void SourceTable::Learn(const SourceKey& source, const Origin& origin) {
  const size_t first = FirstPlace(source);
  Entry* chosen = nullptr;
  for (size_t number = 0; number < kPlaces; ++number) {
    Entry& entry = (*entries_)[Place(first, number)];
    // Nothing is ever removed: behind a free place there is nothing of this source's.
    if (!entry.used || entry.source == source) {
      chosen = &entry;
      break;
    }
    if (chosen == nullptr || now_ - entry.seen > now_ - chosen->seen) chosen = &entry;
  }
  *chosen = {.source = source, .origin = origin, .used = true, .seen = now_};
}

const Origin* SourceTable::Find(const SourceKey& source) const {
  const size_t first = FirstPlace(source);
  for (size_t number = 0; number < kPlaces; ++number) {
    const Entry& entry = (*entries_)[Place(first, number)];
    if (!entry.used) return nullptr;
    if (entry.source == source) return &entry.origin;
  }
  return nullptr;
}

}  // namespace headgate
