// SPDX-License-Identifier: Apache-2.0
#include "cli/render_changes.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "agent/api/text.h"
#include "cli/kinds.h"

namespace headgate::cli {
namespace {

using nlohmann::ordered_json;

constexpr size_t kEntriesShown = 8;

std::string Flat(const ordered_json* value) {
  if (value == nullptr) return "(none)";
  return value->is_string() ? value->get<std::string>()
                            : value->dump(-1, ' ', false, ordered_json::error_handler_t::replace);
}

const ordered_json* Member(const ordered_json& object, const std::string& key) {
  const auto found = object.find(key);
  return found == object.end() ? nullptr : &*found;
}

std::vector<std::string> Sorted(const ordered_json& list) {
  std::vector<std::string> texts;
  for (const ordered_json& item : list) texts.push_back(Flat(&item));
  std::sort(texts.begin(), texts.end());
  return texts;
}

// "+2 (a, b)" of the entries of `of` that are not in `than`.
std::string Entries(const char* sign, const std::vector<std::string>& of, const std::vector<std::string>& than) {
  std::vector<std::string> more;
  std::set_difference(of.begin(), of.end(), than.begin(), than.end(), std::back_inserter(more));
  if (more.empty()) return "";
  const size_t shown = std::min(more.size(), kEntriesShown);
  return absl::StrCat(" ", sign, more.size(), " (",
                      absl::StrJoin(more.begin(), more.begin() + static_cast<std::ptrdiff_t>(shown), ", "),
                      more.size() > shown ? ", ..." : "", ")");
}

void Compare(const std::string& path, const ordered_json* before, const ordered_json* after,
             std::vector<std::string>& out) {
  if (before != nullptr && after != nullptr && *before == *after) return;
  // What is not there is compared as one without fields, unless that would say nothing.
  static const ordered_json nothing = ordered_json::object();
  const auto is_object = [](const ordered_json* value, const ordered_json* other) {
    return value != nullptr ? value->is_object() : other->is_object() && !other->empty();
  };
  if (is_object(before, after) && is_object(after, before)) {
    if (before == nullptr) before = &nothing;
    if (after == nullptr) after = &nothing;
    const std::string prefix = path.empty() ? "" : path + ".";
    for (const auto& [key, value] : before->items()) Compare(prefix + key, &value, Member(*after, key), out);
    for (const auto& [key, value] : after->items()) {
      if (Member(*before, key) == nullptr) Compare(prefix + key, nullptr, &value, out);
    }
    return;
  }
  const ordered_json empty = ordered_json::array();
  if ((before != nullptr && before->is_array()) || (after != nullptr && after->is_array())) {
    const std::vector<std::string> old_entries = Sorted(before != nullptr ? *before : empty);
    const std::vector<std::string> new_entries = Sorted(after != nullptr ? *after : empty);
    const std::string changes = Entries("+", new_entries, old_entries) + Entries("-", old_entries, new_entries);
    out.push_back(absl::StrCat(path, ":", changes.empty() ? " another order" : changes));
    return;
  }
  out.push_back(absl::StrCat(path, ": ", Flat(before), " -> ", Flat(after)));
}

}  // namespace

std::string ChangeSummary(const v1::ApplyResponse& response) {
  uint64_t counts[4] = {};
  for (const v1::Difference& difference : response.differences()) ++counts[difference.change() & 3];
  std::vector<std::string> parts;
  if (counts[v1::Difference::CHANGE_CREATE] != 0) {
    parts.push_back(absl::StrCat(counts[v1::Difference::CHANGE_CREATE], " created"));
  }
  if (counts[v1::Difference::CHANGE_UPDATE] != 0) {
    parts.push_back(absl::StrCat(counts[v1::Difference::CHANGE_UPDATE], " updated"));
  }
  if (counts[v1::Difference::CHANGE_DELETE] != 0) {
    parts.push_back(absl::StrCat(counts[v1::Difference::CHANGE_DELETE], " deleted"));
  }
  const auto listed = static_cast<uint64_t>(response.differences_size());
  // The agent lists no more than so many.
  if (response.difference_count() > listed) {
    parts.push_back(absl::StrCat(response.difference_count() - listed, " more changed"));
  }
  return parts.empty() ? "no changes" : absl::StrJoin(parts, ", ");
}

std::string DifferenceLine(const v1::Difference& difference) {
  const char sign = difference.change() == v1::Difference::CHANGE_CREATE   ? '+'
                    : difference.change() == v1::Difference::CHANGE_DELETE ? '-'
                                                                           : '~';
  return absl::StrCat(absl::string_view(&sign, 1), " ", KindName(difference.kind()),
                      difference.name().empty() ? "" : " ", difference.name());
}

std::vector<std::string> FieldChanges(const google::protobuf::Message& before,
                                      const google::protobuf::Message& after) {
  std::vector<std::string> out;
  const ordered_json old_value = ToJson(before);
  const ordered_json new_value = ToJson(after);
  Compare("", &old_value, &new_value, out);
  return out;
}

}  // namespace headgate::cli
