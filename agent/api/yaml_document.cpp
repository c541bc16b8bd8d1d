// SPDX-License-Identifier: Apache-2.0
#include "agent/api/yaml_document.h"

#include <absl/strings/str_cat.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <istream>
#include <stdexcept>
#include <streambuf>
#include <utility>

namespace headgate {
namespace {

absl::Status ErrorAt(absl::string_view source, TextPosition position, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(source, ":", position.line, ":", position.column, ": ", what));
}

TextPosition PositionOf(const YAML::Mark& mark) {
  return {static_cast<uint32_t>(mark.line + 1), static_cast<uint32_t>(mark.column + 1)};
}

TextPosition PositionOf(absl::string_view text, size_t offset) {
  TextPosition position;
  for (const char c : text.substr(0, offset)) {
    if (c == '\n') {
      ++position.line;
      position.column = 1;
    } else {
      ++position.column;
    }
  }
  return position;
}

// The length of the well-formed UTF-8 sequence at the start of `text`, 0 when there is none (RFC 3629).
size_t Utf8Length(absl::string_view text) {
  const auto byte = [&](size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0U; };
  const auto tail = [&](size_t i, unsigned low = 0x80, unsigned high = 0xbf) {
    return byte(i) >= low && byte(i) <= high;
  };
  const unsigned lead = byte(0);
  if (lead < 0x80) return 1;
  if (lead >= 0xc2 && lead <= 0xdf) return tail(1) ? 2 : 0;
  if (lead >= 0xe0 && lead <= 0xef) {
    return tail(1, lead == 0xe0 ? 0xa0 : 0x80, lead == 0xed ? 0x9f : 0xbf) && tail(2) ? 3 : 0;
  }
  if (lead >= 0xf0 && lead <= 0xf4) {
    return tail(1, lead == 0xf0 ? 0x90 : 0x80, lead == 0xf4 ? 0x8f : 0xbf) && tail(2) && tail(3) ? 4 : 0;
  }
  return 0;
}

// yaml-cpp reads the escapes \N and \_ as one byte each where UTF-8 has two (U+0085, U+00A0). The document is
// UTF-8 (CheckCharacters), so that bytes which are not come from nowhere else.
std::string WithEscapesMended(const std::string& value) {
  std::string mended;
  for (size_t i = 0; i < value.size();) {
    const size_t length = Utf8Length(absl::string_view(value).substr(i));
    if (length == 0) mended += '\xc2';
    mended.append(value, i, std::max<size_t>(length, 1));
    i += std::max<size_t>(length, 1);
  }
  return mended;
}

// yaml-cpp takes byte 4 for the end of the input and guesses at encodings: neither may cut a document short.
absl::Status CheckCharacters(absl::string_view text, absl::string_view source) {
  for (size_t i = 0; i < text.size();) {
    const unsigned char c = static_cast<unsigned char>(text[i]);
    if (c < 0x20 && c != '\t' && c != '\n' && c != '\r') {
      return ErrorAt(source, PositionOf(text, i),
                     absl::StrCat("control character ", c, ": write it as an escape in double quotes"));
    }
    const size_t length = Utf8Length(text.substr(i));
    if (length == 0) return ErrorAt(source, PositionOf(text, i), "not UTF-8: save the file as UTF-8");
    i += length;
  }
  return absl::OkStatus();
}

// Reads from text that stays where it is.
class ViewBuffer : public std::streambuf {
 public:
  explicit ViewBuffer(absl::string_view text) {
    char* begin = const_cast<char*>(text.data());  // never written: there is no put area
    setg(begin, begin, begin + text.size());
  }
};

// An error found in an event; it leaves the parser the way yaml-cpp's own do.
class EventError : public std::runtime_error {
 public:
  EventError(TextPosition where, const std::string& what) : std::runtime_error(what), position(where) {}
  TextPosition position;
};

}  // namespace

class YamlBuilder : public YAML::EventHandler {
 public:
  explicit YamlBuilder(YamlDocument& document) : document_(document) {}

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (documents_++ > 0) throw EventError(PositionOf(mark), "a second document: only one is possible");
  }
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override { Add(mark, anchor, YamlKind::kNull); }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    const uint32_t target = anchor < anchors_.size() ? anchors_[anchor] : 0;
    for (const uint32_t container : open_) {
      if (container == target) throw EventError(PositionOf(mark), "an alias to something it is part of");
    }
    Add(mark, 0, YamlKind::kAlias).first = target;
  }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& read) override {
    const bool ascii =
        std::all_of(read.begin(), read.end(), [](char c) { return static_cast<signed char>(c) >= 0; });
    if (!ascii) mended_ = WithEscapesMended(read);
    const std::string& value = ascii ? read : mended_;
    const bool text_tag = tag == "tag:yaml.org,2002:str";
    if (!text_tag && tag != "!") CheckTag(mark, tag);
    if (document_.texts_.size() + value.size() > kMaxYamlBytes)
      throw EventError(PositionOf(mark), "too much text");
    YamlDocument::Node& node = Add(mark, anchor, YamlKind::kScalar);
    node.quoted = text_tag || tag == "!";
    node.first = static_cast<uint32_t>(document_.texts_.size());
    node.size = static_cast<uint32_t>(value.size());
    document_.texts_ += value;
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    Open(mark, tag, anchor, YamlKind::kSequence);
  }
  void OnSequenceEnd() override { Close(); }

  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    Open(mark, tag, anchor, YamlKind::kMapping);
  }
  void OnMapEnd() override { Close(); }

 private:
  static void CheckTag(const YAML::Mark& mark, const std::string& tag) {
    if (!tag.empty() && tag != "?") {
      throw EventError(PositionOf(mark), absl::StrCat("tag \"", tag, "\": of tags only !!str is known"));
    }
  }

  YamlDocument::Node& Add(const YAML::Mark& mark, YAML::anchor_t anchor, YamlKind kind) {
    const TextPosition position = PositionOf(mark);
    if (document_.nodes_.size() >= kMaxYamlNodes) {
      throw EventError(position, absl::StrCat("more than ", kMaxYamlNodes, " values"));
    }
    const auto index = static_cast<uint32_t>(document_.nodes_.size());
    if (anchor != 0) {
      if (anchor >= anchors_.size()) anchors_.resize(anchor + 1);
      anchors_[anchor] = index;
    }
    document_.nodes_.push_back({.line = position.line,
                                .column = position.column,
                                .end = index + 1,
                                .first = 0,
                                .size = 0,
                                .kind = kind,
                                .quoted = false});
    return document_.nodes_.back();
  }

  void Open(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor, YamlKind kind) {
    if (tag != "!") CheckTag(mark, tag);
    if (open_.size() >= kMaxYamlDepth) {
      throw EventError(PositionOf(mark), absl::StrCat("nested deeper than ", kMaxYamlDepth, " levels"));
    }
    Add(mark, anchor, kind);
    open_.push_back(static_cast<uint32_t>(document_.nodes_.size() - 1));
  }

  void Close() {
    document_.nodes_[open_.back()].end = static_cast<uint32_t>(document_.nodes_.size());
    open_.pop_back();
  }

  YamlDocument& document_;
  std::string mended_;
  int documents_ = 0;
  std::vector<uint32_t> open_;
  std::vector<uint32_t> anchors_;  // node by anchor; anchors count from 1
};

absl::StatusOr<YamlDocument> YamlDocument::Parse(absl::string_view text, absl::string_view source_name) {
  if (text.size() > kMaxYamlBytes) {
    return ErrorAt(source_name, {}, absl::StrCat("larger than ", kMaxYamlBytes >> 20, " MiB"));
  }
  if (absl::Status status = CheckCharacters(text, source_name); !status.ok()) return status;

  YamlDocument document;
  YamlBuilder builder(document);
  ViewBuffer buffer(text);
  std::istream stream(&buffer);
  try {
    YAML::Parser parser(stream);
    while (parser.HandleNextDocument(builder)) {
    }
  } catch (const EventError& error) {
    return ErrorAt(source_name, error.position, error.what());
  } catch (const YAML::Exception& error) {
    // What ends too early is reported without a mark.
    const bool marked = error.mark.pos != 0 || error.mark.line != 0;
    return ErrorAt(source_name, marked ? PositionOf(error.mark) : PositionOf(text, text.size()), error.msg);
  }
  if (document.nodes_.empty()) {
    return ErrorAt(source_name, {}, "the document is empty: write {} when nothing is to be given");
  }
  return document;
}

// ---- nodes ---------------------------------------------------------------------------------------------------

YamlNode::YamlNode(const YamlDocument* document, uint32_t index) : document_(document), index_(index) {
  while (document_->nodes_[index_].kind == YamlKind::kAlias) index_ = document_->nodes_[index_].first;
}

YamlKind YamlNode::kind() const { return document_->nodes_[index_].kind; }

absl::string_view YamlNode::text() const {
  const YamlDocument::Node& node = document_->nodes_[index_];
  return absl::string_view(document_->texts_).substr(node.first, node.size);
}

bool YamlNode::quoted() const { return document_->nodes_[index_].quoted; }

TextPosition YamlNode::position() const {
  return {document_->nodes_[index_].line, document_->nodes_[index_].column};
}

uint32_t YamlNode::NextSibling(uint32_t child) const { return document_->nodes_[child].end; }

void YamlNode::ForEachItem(absl::FunctionRef<bool(YamlNode)> visit) const {
  const uint32_t end = document_->nodes_[index_].end;
  for (uint32_t child = index_ + 1; child < end; child = NextSibling(child)) {
    if (!visit(YamlNode(document_, child))) return;
  }
}

void YamlNode::ForEachPair(absl::FunctionRef<bool(YamlNode, YamlNode)> visit) const {
  const uint32_t end = document_->nodes_[index_].end;
  for (uint32_t key = index_ + 1; key < end;) {
    const uint32_t value = NextSibling(key);
    if (!visit(YamlNode(document_, key), YamlNode(document_, value))) return;
    key = NextSibling(value);
  }
}

bool YamlNode::IsMergeKey() const { return kind() == YamlKind::kScalar && !quoted() && text() == "<<"; }

std::optional<YamlNode> YamlNode::Find(absl::string_view key, int depth) const {
  std::optional<YamlNode> found;
  std::optional<YamlNode> merged;
  if (kind() != YamlKind::kMapping || depth > kMaxYamlDepth) return found;
  ForEachPair([&](YamlNode name, YamlNode value) {
    if (name.IsMergeKey()) {
      merged = value;
    } else if (name.kind() == YamlKind::kScalar && name.text() == key) {
      found = value;
    }
    return !found;
  });
  if (found || !merged) return found;
  if (merged->kind() == YamlKind::kMapping) return merged->Find(key, depth + 1);
  if (merged->kind() == YamlKind::kSequence) {
    merged->ForEachItem([&](YamlNode item) { return !(found = item.Find(key, depth + 1)); });
  }
  return found;
}

}  // namespace headgate
