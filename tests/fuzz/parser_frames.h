// SPDX-License-Identifier: Apache-2.0
//
// Frames for the parser's fuzzer: composed at random out of sound and unsound headers, and mutated from others.
#pragma once

#include <random>
#include <string>
#include <vector>

#include "tests/harness/packet.h"

namespace headgate::testing {

// The frames of all files in a directory: hex digits, with white space as one likes and comments after '#'.
std::vector<Bytes> LoadFrames(const std::string& directory);

class FrameMaker {
 public:
  FrameMaker(std::mt19937_64& random, std::vector<Bytes> corpus) : random_(random), corpus_(std::move(corpus)) {}

  Bytes Next();
  // A frame that led somewhere new is a start for more.
  void Add(Bytes frame) { corpus_.push_back(std::move(frame)); }
  size_t corpus_size() const { return corpus_.size(); }

 private:
  size_t Below(size_t bound) { return static_cast<size_t>(random_() % bound); }
  bool OneIn(size_t n) { return Below(n) == 0; }
  uint16_t Number();
  Bytes Compose();
  Packet Network();
  Packet Transport();
  Packet Extensions(bool mutate);
  void Mutate(Bytes& frame);
  // Makes the lengths in IP headers tell the truth, so that what lies behind is looked at.
  void RepairLengths(Bytes& frame);

  std::mt19937_64& random_;
  std::vector<Bytes> corpus_;
};

}  // namespace headgate::testing
