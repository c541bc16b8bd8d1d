// SPDX-License-Identifier: Apache-2.0
//
// A YAML document as a tree of nodes with their positions, read through yaml-cpp's event interface: 24 bytes a
// node, scalars as the text they are written as, aliases as references. Bounded in size and depth, because files
// are not trusted.
#pragma once

#include <absl/functional/function_ref.h>
#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace headgate {

constexpr size_t kMaxYamlBytes = size_t{256} << 20;  // also the largest gRPC message
constexpr size_t kMaxYamlNodes = size_t{16} << 20;
constexpr int kMaxYamlDepth = 64;

// 1-based, columns in bytes.
struct TextPosition {
  uint32_t line = 1;
  uint32_t column = 1;

  friend auto operator<=>(const TextPosition&, const TextPosition&) = default;
};

enum class YamlKind : uint8_t { kNull, kScalar, kSequence, kMapping, kAlias };

class YamlDocument;

// A node of a document that outlives it. Aliases are followed: no node is of kind kAlias to its user.
class YamlNode {
 public:
  YamlKind kind() const;
  // Of a scalar.
  absl::string_view text() const;
  // Of a scalar: in quotes, as a block or with the tag !!str, hence text whatever it looks like.
  bool quoted() const;
  TextPosition position() const;

  // In order, until visit returns false.
  void ForEachItem(absl::FunctionRef<bool(YamlNode item)> visit) const;
  // Without what merge keys add.
  void ForEachPair(absl::FunctionRef<bool(YamlNode key, YamlNode value)> visit) const;
  // The value of a key, given here or by a merge key.
  std::optional<YamlNode> Find(absl::string_view key, int depth = 0) const;
  // "<<", unquoted: the value's entries count as this mapping's where it has none of the same key.
  bool IsMergeKey() const;

 private:
  friend class YamlDocument;
  YamlNode(const YamlDocument* document, uint32_t index);
  uint32_t NextSibling(uint32_t child) const;

  const YamlDocument* document_;
  uint32_t index_;
};

class YamlDocument {
 public:
  // Exactly one document, not empty. The error is "SOURCE:LINE:COLUMN: what is wrong".
  static absl::StatusOr<YamlDocument> Parse(absl::string_view text, absl::string_view source_name);

  YamlNode root() const { return YamlNode(this, 0); }
  size_t node_count() const { return nodes_.size(); }
  size_t text_bytes() const { return texts_.size(); }

 private:
  friend class YamlNode;
  friend class YamlBuilder;

  // In document order; a container's descendants are the nodes from it up to `end`.
  struct Node {
    uint32_t line;
    uint32_t column;
    uint32_t end;
    uint32_t first;  // scalar: offset into texts_; alias: index of the target
    uint32_t size;   // scalar: bytes
    YamlKind kind;
    bool quoted;
  };

  std::vector<Node> nodes_;
  std::string texts_;
};

}  // namespace headgate
