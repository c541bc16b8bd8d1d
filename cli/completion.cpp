// SPDX-License-Identifier: Apache-2.0
#include "cli/completion.h"

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_split.h>

#include <optional>
#include <set>

#include "cli/kinds.h"

namespace headgate::cli {
namespace {

// Where in the command line the words so far have led.
struct Place {
  const CLI::App* app = nullptr;
  const CLI::Option* pending = nullptr;  // an option that waits for its value
  std::vector<std::string> positionals;
  std::map<std::string, std::string> globals;
};

std::vector<const CLI::App*> Verbs(const CLI::App& app) {
  return app.get_subcommands([](const CLI::App*) { return true; });
}

const CLI::App* FindVerb(const CLI::App& app, const std::string& name) {
  for (const CLI::App* verb : Verbs(app)) {
    if (verb->get_name() == name) return verb;
  }
  return nullptr;
}

const CLI::Option* FindOption(const Place& place, const CLI::App& root, const std::string& name) {
  const CLI::Option* option = place.app->get_option_no_throw(name);
  return option != nullptr ? option : root.get_option_no_throw(name);
}

bool TakesValue(const CLI::Option& option) { return option.get_items_expected_max() > 0; }

Place Walk(const CLI::App& root, const std::vector<std::string>& words) {
  Place place;
  place.app = &root;
  for (size_t i = 0; i + 1 < words.size(); ++i) {
    const std::string& word = words[i];
    if (place.pending != nullptr) {
      for (const std::string& name : place.pending->get_lnames()) place.globals[name] = word;
      place.pending = nullptr;
    } else if (absl::StartsWith(word, "-") && word.size() > 1) {
      const std::pair<std::string, std::string> parts = absl::StrSplit(word, absl::MaxSplits('=', 1));
      const CLI::Option* option = FindOption(place, root, parts.first);
      if (option == nullptr) continue;
      if (!TakesValue(*option)) {
        for (const std::string& name : option->get_lnames()) place.globals[name] = "";
      } else if (absl::StrContains(word, '=')) {
        for (const std::string& name : option->get_lnames()) place.globals[name] = parts.second;
      } else {
        place.pending = option;
      }
    } else if (const CLI::App* verb = FindVerb(*place.app, word); verb != nullptr) {
      place.app = verb;
    } else {
      place.positionals.push_back(word);
    }
  }
  return place;
}

// The choices of an option that has a fixed set: "TEXT:{a,b}".
std::vector<std::string> Choices(const CLI::Option& option) {
  const std::string type = option.get_type_name();
  const size_t open = type.find('{');
  const size_t close = type.find('}');
  if (open == std::string::npos || close == std::string::npos) return {};
  return absl::StrSplit(type.substr(open + 1, close - open - 1), ',');
}

using KindText = std::string (*)(v1::Kind kind, uint64_t count);

void AddKinds(const std::vector<v1::Kind>& kinds, KindText text, bool all, Completion& completion) {
  for (const v1::Kind kind : kinds) completion.candidates.push_back({text(kind, 2), ""});
  if (all) completion.candidates.push_back({"all", ""});
}

// Values by the type an option or positional says it has.
void AddValues(const CLI::Option& option, const Place& place, NameSource names, Completion& completion) {
  const std::string type = option.get_type_name();
  const auto add_names = [&](v1::Kind kind) {
    for (const std::string& name : names(kind, place.globals)) completion.candidates.push_back({name, ""});
  };
  for (const std::string& choice : Choices(option)) completion.candidates.push_back({choice, ""});
  if (type == "FILE") completion.files = true;
  if (type == "KIND") {
    const bool deletes = place.app->get_name() == "delete";
    std::vector<v1::Kind> kinds = ConfigurationKinds();
    if (deletes) std::erase(kinds, v1::KIND_SETTINGS);
    AddKinds(kinds, KindName, !deletes, completion);
  }
  if (type == "COUNTED") AddKinds(CountedKinds(), CountedName, true, completion);
  if (type == "BUSY") {
    std::vector<v1::Kind> kinds = CountedKinds();
    std::erase(kinds, v1::KIND_COUNTER);
    AddKinds(kinds, CountedName, false, completion);
  }
  if (type == "SET") add_names(v1::KIND_PREFIX_SET);
  if (type == "INTERFACE") add_names(v1::KIND_INTERFACE);
  if (type == "NAME" && !place.positionals.empty()) {
    if (const std::optional<v1::Kind> kind = ParseKind(place.positionals[0])) add_names(*kind);
  }
}

void AddOptions(const CLI::App& app, Completion& completion) {
  for (const CLI::Option* option : app.get_options()) {
    if (option->get_group().empty()) continue;  // hidden
    for (const std::string& name : option->get_lnames()) {
      completion.candidates.push_back({"--" + name, option->get_description()});
    }
  }
}

void AddVerbs(const CLI::App& app, Completion& completion) {
  for (const CLI::App* verb : Verbs(app)) {
    if (!verb->get_group().empty()) completion.candidates.push_back({verb->get_name(), verb->get_description()});
  }
}

const CLI::Option* PositionalAt(const CLI::App& app, size_t index) {
  const CLI::Option* last = nullptr;
  for (const CLI::Option* option : app.get_options([](const CLI::Option* o) { return o->get_positional(); })) {
    if (index-- == 0) return option;
    last = option;
  }
  // The last one may take all that follow.
  return last != nullptr && last->get_items_expected_max() > 1 ? last : nullptr;
}

}  // namespace

Completion Complete(const CLI::App& app, const std::vector<std::string>& words, NameSource names) {
  Completion completion;
  const Place place = Walk(app, words);
  std::string typed = words.empty() ? "" : words.back();
  std::string before_value;
  const size_t equals = typed.find('=');
  if (place.pending != nullptr) {
    // The last of a list: "sample,dri".
    const size_t separator =
        place.pending->get_delimiter() == 0 ? std::string::npos : typed.rfind(place.pending->get_delimiter());
    if (separator != std::string::npos) before_value = typed.substr(0, separator + 1);
    AddValues(*place.pending, place, names, completion);
  } else if (absl::StartsWith(typed, "--") && equals != std::string::npos) {
    before_value = typed.substr(0, equals + 1);
    const CLI::Option* option = FindOption(place, app, typed.substr(0, equals));
    if (option != nullptr) AddValues(*option, place, names, completion);
  } else if (absl::StartsWith(typed, "-")) {
    AddOptions(*place.app, completion);
    if (place.app != &app) AddOptions(app, completion);
  } else {
    AddVerbs(*place.app, completion);
    const CLI::Option* positional = PositionalAt(*place.app, place.positionals.size());
    if (positional != nullptr) AddValues(*positional, place, names, completion);
  }
  for (Candidate& candidate : completion.candidates) candidate.text = before_value + candidate.text;
  std::set<std::string> seen;
  std::erase_if(completion.candidates, [&](const Candidate& candidate) {
    return !absl::StartsWith(candidate.text, typed) || !seen.insert(candidate.text).second;
  });
  return completion;
}

std::string BashScript() {
  return R"(# bash completion for hgctl: asks hgctl itself what may come next.
_hgctl() {
  local line=${COMP_LINE:0:COMP_POINT} typed prefix answer
  local -a words
  read -ra words <<<"$line"
  [[ $line == *[[:space:]] ]] && words+=("")
  typed=${words[-1]}
  COMPREPLY=()
  while IFS= read -r answer; do
    if [[ $answer == :files ]]; then
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -f -- "${typed#--*=}")
      return
    fi
    COMPREPLY+=("${answer%%$'\t'*}")
  done < <("$1" __complete "${words[@]:1}" 2>/dev/null)
  # bash splits words at = and : and wants only what follows.
  prefix=${typed%"${typed##*[=:]}"}
  [[ -n $prefix ]] && COMPREPLY=("${COMPREPLY[@]#"$prefix"}")
}
complete -F _hgctl hgctl
)";
}

std::string ZshScript() {
  return R"(#compdef hgctl
# zsh completion for hgctl: asks hgctl itself what may come next.
_hgctl() {
  local answer
  local -a answers described
  answers=("${(@f)$(${words[1]} __complete "${(@Q)words[2,CURRENT]}" 2>/dev/null)}")
  if [[ ${answers[1]} == :files ]]; then
    [[ ${words[CURRENT]} == --*=* ]] && compset -P '*='
    _files
    return
  fi
  for answer in $answers; do
    # The help follows a colon; colons of the value are escaped.
    described+=("${${answer%%$'\t'*}//:/\\:}${${(M)answer%%$'\t'*}:+:${answer#*$'\t'}}")
  done
  (( $#described )) && _describe hgctl described
}
if [[ ${funcstack[1]} == _hgctl ]]; then
  _hgctl "$@"
else
  compdef _hgctl hgctl
fi
)";
}

}  // namespace headgate::cli
