// SPDX-License-Identifier: Apache-2.0
//
// From YAML to messages by reflection, collecting every error.
#include <absl/container/inlined_vector.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>
#include <absl/strings/str_split.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "agent/api/text.h"
#include "agent/api/text_scalar.h"
#include "agent/api/text_values.h"
#include "agent/base/status.h"

namespace headgate {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::OneofDescriptor;

// Errors listed in full; a file of garbage must not make a message as large as itself.
constexpr size_t kMaxErrors = 1000;
// What aliases may add to a document: values, or 64 bytes of text for one.
constexpr size_t kMaxExpansion = size_t{1} << 20;
constexpr size_t kValueCost = 64;

const char* KindName(YamlKind kind) {
  switch (kind) {
    case YamlKind::kNull:
      return "null";
    case YamlKind::kScalar:
      return "a single value";
    case YamlKind::kSequence:
      return "a list";
    default:
      return "a mapping";
  }
}

std::vector<std::string> Keys(const google::protobuf::Descriptor& type) {
  std::vector<std::string> keys;
  keys.reserve(static_cast<size_t>(type.field_count()));
  for (int i = 0; i < type.field_count(); ++i) keys.push_back(type.field(i)->name());
  return keys;
}

class Reader {
 public:
  Reader(absl::string_view source, const YamlDocument& document)
      : source_(source), budget_(kValueCost * (document.node_count() + kMaxExpansion) + document.text_bytes()) {}

  void ReadRoot(YamlNode node, Message& message) {
    if (node.kind() != YamlKind::kMapping) {
      Fail(node.position(), "is ", KindName(node.kind()), ", a mapping is needed",
           Suggest("", "Keys here", Keys(*message.GetDescriptor())));
      return;
    }
    ReadMapping(node, message, 0);
  }

  absl::Status Result() {
    if (errors_.empty()) return absl::OkStatus();
    std::stable_sort(errors_.begin(), errors_.end(),
                     [](const Error& a, const Error& b) { return a.position < b.position; });
    std::string text = absl::StrJoin(errors_, "\n", [](std::string* out, const Error& e) { out->append(e.text); });
    if (error_count_ > errors_.size()) {
      absl::StrAppend(&text, "\n", source_, ": and ", error_count_ - errors_.size(), " more errors");
    }
    return absl::InvalidArgumentError(text);
  }

 private:
  // One key of a mapping; where it comes from a merge key, explicit keys of the same field override it.
  struct Entry {
    const FieldDescriptor* field;
    YamlNode key;
    YamlNode value;
    bool merged;
  };
  using Entries = absl::InlinedVector<Entry, 8>;

  struct Error {
    TextPosition position;
    std::string text;
  };

  template <typename... Parts>
  void Fail(TextPosition position, const Parts&... what) {
    if (++error_count_ > kMaxErrors) return;
    errors_.push_back({position, absl::StrCat(source_, ":", position.line, ":", position.column, ": ", path_,
                                              path_.empty() ? "" : ": ", what...)});
  }

  // False once aliases have multiplied the document beyond reason.
  bool Spend(YamlNode node) {
    const size_t cost = kValueCost + (node.kind() == YamlKind::kScalar ? node.text().size() : 0);
    if (budget_ < cost) {
      if (!exhausted_) Fail(node.position(), "aliases make this document too large");
      exhausted_ = true;
      return false;
    }
    budget_ -= cost;
    return true;
  }

  void ReadMapping(YamlNode node, Message& message, int depth) {
    if (depth > kMaxYamlDepth) {
      Fail(node.position(), "nested deeper than ", kMaxYamlDepth, " levels");
      return;
    }
    Entries entries;
    Collect(node, message, false, depth, entries);
    CheckOneofs(entries);
    for (const Entry& entry : entries) {
      const size_t path_size = path_.size();
      absl::StrAppend(&path_, path_.empty() ? "" : ".", entry.field->name());
      // An absent value has no place of its own.
      const TextPosition position =
          entry.value.kind() == YamlKind::kNull ? entry.key.position() : entry.value.position();
      if (entry.field->is_repeated()) {
        ReadList(entry.value, position, message, *entry.field, depth);
      } else {
        ReadValue(entry.value, position, message, *entry.field, depth);
      }
      path_.resize(path_size);
    }
  }

  void Collect(YamlNode node, const Message& message, bool merged, int depth, Entries& entries) {
    std::optional<YamlNode> merge;
    node.ForEachPair([&](YamlNode key, YamlNode value) {
      if (!Spend(key)) return false;
      if (key.kind() != YamlKind::kScalar) {
        Fail(key.position(), "a key is ", KindName(key.kind()), ", a name is needed");
      } else if (key.IsMergeKey()) {
        if (merge) Fail(key.position(), "duplicate key \"<<\"");
        merge = value;
      } else if (const FieldDescriptor* field =
                     message.GetDescriptor()->FindFieldByName(std::string(key.text()))) {
        AddEntry({field, key, value, merged}, entries);
      } else {
        Fail(key.position(), "unknown key ", Shown(key.text()),
             Suggest(key.text(), "Keys here", Keys(*message.GetDescriptor())));
      }
      return true;
    });
    if (merge) Merge(*merge, message, depth + 1, entries);
  }

  void AddEntry(const Entry& entry, Entries& entries) {
    for (const Entry& present : entries) {
      if (present.field != entry.field) continue;
      if (entry.merged) return;
      Fail(entry.key.position(), "duplicate key \"", entry.field->name(), "\": first given at line ",
           present.key.position().line);
      return;
    }
    // Choosing another member of a oneof overrides a merged one, too.
    if (entry.merged && entry.field->real_containing_oneof() != nullptr &&
        std::any_of(entries.begin(), entries.end(), [&](const Entry& present) {
          return present.field->containing_oneof() == entry.field->real_containing_oneof() && !present.merged;
        })) {
      return;
    }
    entries.push_back(entry);
  }

  void Merge(YamlNode from, const Message& message, int depth, Entries& entries) {
    if (depth > kMaxYamlDepth || !Spend(from)) return;
    if (from.kind() == YamlKind::kMapping) {
      Collect(from, message, true, depth, entries);
    } else if (from.kind() == YamlKind::kSequence) {
      from.ForEachItem([&](YamlNode item) {
        if (item.kind() == YamlKind::kMapping) {
          Collect(item, message, true, depth, entries);
        } else {
          Fail(item.position(), "\"<<\" merges mappings, this is ", KindName(item.kind()));
        }
        return !exhausted_;
      });
    } else {
      Fail(from.position(), "\"<<\" merges mappings, this is ", KindName(from.kind()));
    }
  }

  void CheckOneofs(Entries& entries) {
    for (size_t i = 0; i < entries.size(); ++i) {
      const OneofDescriptor* oneof = entries[i].field->real_containing_oneof();
      if (oneof == nullptr) continue;
      const auto first = std::find_if(entries.begin(), entries.begin() + static_cast<std::ptrdiff_t>(i),
                                      [&](const Entry& e) { return e.field->real_containing_oneof() == oneof; });
      if (first == entries.begin() + static_cast<std::ptrdiff_t>(i)) continue;
      std::vector<std::string> members;
      members.reserve(static_cast<size_t>(oneof->field_count()));
      for (int m = 0; m < oneof->field_count(); ++m) members.push_back(oneof->field(m)->name());
      Fail(entries[i].key.position(), "\"", entries[i].field->name(), "\" and \"", first->field->name(),
           "\" exclude each other; give one of: ", absl::StrJoin(members, ", "));
    }
  }

  void ReadList(YamlNode node, TextPosition position, Message& message, const FieldDescriptor& field, int depth) {
    if (node.kind() == YamlKind::kNull) {
      Fail(position, "has no value, a list is needed: write [] for an empty one");
      return;
    }
    if (node.kind() != YamlKind::kSequence) {
      Fail(position, "is ", KindName(node.kind()), ", a list is needed",
           node.kind() == YamlKind::kScalar ? absl::StrCat(": write [", Shown(node.text()), "]") : "");
      return;
    }
    size_t index = 0;
    node.ForEachItem([&](YamlNode item) {
      const size_t path_size = path_.size();
      absl::StrAppend(&path_, "[", index++, "]");
      ReadValue(item, item.position(), message, field, depth);
      path_.resize(path_size);
      return !exhausted_;
    });
  }

  // Into the field, or as a further element of it.
  void ReadValue(YamlNode node, TextPosition position, Message& message, const FieldDescriptor& field, int depth) {
    if (!Spend(node)) return;
    if (!IsScalarField(field)) {
      ReadMessage(node, position, message, field, depth);
    } else if (node.kind() == YamlKind::kNull) {
      Fail(position, field.cpp_type() == FieldDescriptor::CPPTYPE_STRING
                         ? "has no value, text is needed: write it in quotes if \"null\" or \"~\" is meant"
                         : "has no value: give one or leave the key out");
    } else if (node.kind() != YamlKind::kScalar) {
      Fail(position, "is ", KindName(node.kind()), ", a single value is needed");
    } else if (const absl::Status status = SetScalar(node, message, field); !status.ok()) {
      Fail(position, status.message());
    }
  }

  void ReadMessage(YamlNode node, TextPosition position, Message& message, const FieldDescriptor& field,
                   int depth) {
    const google::protobuf::Descriptor& type = *field.message_type();
    const bool empty_type = type.field_count() == 0;
    if (node.kind() != YamlKind::kMapping && !(node.kind() == YamlKind::kNull && empty_type)) {
      const bool names_member = node.kind() == YamlKind::kScalar && type.FindFieldByName(std::string(node.text()));
      Fail(position, "is ", KindName(node.kind()), ", ",
           empty_type ? "{} is needed"
                      : absl::StrCat("a mapping is needed",
                                     names_member ? absl::StrCat(": write {", node.text(), ": ...}") : "",
                                     node.kind() == YamlKind::kNull ? ": write {} for one with nothing given" : "",
                                     Suggest("", "Keys there", Keys(type))));
      return;
    }
    const google::protobuf::Reflection& reflection = *message.GetReflection();
    Message* child = field.is_repeated() ? reflection.AddMessage(&message, &field)
                                         : reflection.MutableMessage(&message, &field);
    if (node.kind() == YamlKind::kMapping) ReadMapping(node, *child, depth + 1);
  }

  const absl::string_view source_;
  std::string path_;
  size_t budget_;
  bool exhausted_ = false;
  size_t error_count_ = 0;
  std::vector<Error> errors_;
};

}  // namespace

std::optional<TextPosition> SourceMap::Find(absl::string_view path) const {
  if (!document_) return std::nullopt;
  YamlNode node = document_->root();
  TextPosition position = node.position();
  for (absl::string_view part : absl::StrSplit(path, '.')) {
    const size_t bracket = std::min(part.find('['), part.size());
    std::optional<YamlNode> next = node.Find(part.substr(0, bracket));
    size_t wanted = 0;
    if (next && bracket < part.size() &&
        absl::SimpleAtoi(part.substr(bracket + 1, part.size() - bracket - 2), &wanted)) {
      const YamlNode list = *next;
      next.reset();
      size_t index = 0;
      list.ForEachItem([&](YamlNode item) {
        if (index++ == wanted) next = item;
        return !next;
      });
    }
    if (!next) break;
    node = *next;
    position = node.position();
  }
  return position;
}

absl::Status ParseYaml(absl::string_view text, absl::string_view source_name, Message& message,
                       SourceMap* positions) {
  message.Clear();
  HG_ASSIGN_OR_RETURN(YamlDocument parsed, YamlDocument::Parse(text, source_name));
  const auto document = std::make_shared<const YamlDocument>(std::move(parsed));
  if (positions != nullptr) positions->document_ = document;
  Reader reader(source_name, *document);
  reader.ReadRoot(document->root(), message);
  return reader.Result();
}

}  // namespace headgate
