// SPDX-License-Identifier: Apache-2.0
//
// Ranges of ports (or other numbers of 16 bits), mostly none or one.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <utility>
#include <vector>

namespace headgate {

struct PortRange {
  uint16_t first = 0;
  uint16_t last = 0xffff;
  friend bool operator==(const PortRange&, const PortRange&) = default;
};

// Two words, and a block of memory from the second range on.
class PortRanges {
 public:
  PortRanges() = default;
  PortRanges(std::initializer_list<PortRange> ranges) {
    for (const PortRange& range : ranges) push_back(range);
  }
  PortRanges(const PortRanges& other)
      : many_(other.many_ ? std::make_unique<std::vector<PortRange>>(*other.many_) : nullptr),
        one_(other.one_),
        size_(other.size_) {}
  PortRanges(PortRanges&& other) noexcept
      : many_(std::move(other.many_)), one_(other.one_), size_(std::exchange(other.size_, 0)) {}
  PortRanges& operator=(PortRanges other) noexcept {
    many_ = std::move(other.many_);
    one_ = other.one_;
    size_ = other.size_;
    return *this;
  }

  void push_back(const PortRange& range) {
    if (size_ == 0) {
      one_ = range;
    } else {
      if (!many_) many_ = std::make_unique<std::vector<PortRange>>(1, one_);
      many_->push_back(range);
    }
    ++size_;
  }
  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  const PortRange* begin() const { return many_ ? many_->data() : &one_; }
  const PortRange* end() const { return begin() + size_; }
  const PortRange& operator[](size_t index) const { return begin()[index]; }

  friend bool operator==(const PortRanges& a, const PortRanges& b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end());
  }

 private:
  std::unique_ptr<std::vector<PortRange>> many_;  // all of them, when there is more than one
  PortRange one_;
  uint32_t size_ = 0;
};

}  // namespace headgate
