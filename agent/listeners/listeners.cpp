// SPDX-License-Identifier: Apache-2.0
#include "agent/listeners/listeners.h"

#include <algorithm>
#include <utility>

namespace headgate {
namespace {

bool IsUnspecified(const IpAddress& address) { return address == IpAddress{.family = address.family}; }

// In a row, RFC 3376, section 8.6.
constexpr int kStartupPart = 4;

}  // namespace

// The querier's word holds for all (RFC 3376, sections 4.1.6 and 4.1.7).
ListenerTimes Listeners::Times() const {
  const QuerierSettings& of = other_ ? others_ : settings_;
  return {of.interval * of.robustness + of.response, of.last_listener, of.robustness};
}

void Listeners::Configure(const QuerierSettings& settings, ListenerTime now) {
  if (settings == settings_) return;
  settings_ = settings;
  Begin(now);
}

void Listeners::SetAddress(const std::optional<IpAddress>& address, ListenerTime now) {
  if (address == address_) return;
  // Switches pass over questions from 0.0.0.0.
  const bool asked = Asks() && !IsUnspecified(*address_);
  address_ = address;
  // Who had to keep silent may be the lowest now.
  if (other_ && address_ && !IsUnspecified(*address_) && *address_ < *other_) other_.reset();
  if (!asked) Begin(now);
}

void Listeners::Begin(ListenerTime now) {
  startup_ = settings_.robustness;
  next_general_ = now;
  Due(now);
}

void Listeners::Seed(const IpAddress& group, bool exclude, const std::vector<IpAddress>& sources,
                     ListenerTime now) {
  HearReport(
      {HostVersion::kCurrent, {{exclude ? RecordType::kIsExclude : RecordType::kIsInclude, group, sources}}}, now);
}

void Listeners::Hear(const Heard& heard, ListenerTime now) {
  if (heard.sender.family != family_ || (address_ && heard.sender == *address_ && !IsUnspecified(heard.sender))) {
    return;
  }
  if (const auto* report = std::get_if<Report>(&heard.message)) {
    HearReport(*report, now);
  } else {
    HearQuery(heard.sender, std::get<ListenerQuery>(heard.message), now);
  }
}

ListenedGroup::Context Listeners::ContextAt(ListenerTime now) const {
  return {.now = now, .times = Times(), .asks = Asks(), .room = kMaxEntries - entries_};
}

void Listeners::Settle(std::map<IpAddress, ListenedGroup>::iterator group, ListenedGroup::Context& context) {
  if (group->second.empty()) {
    groups_.erase(group);
    ++context.room;
  } else {
    Due(group->second.Next());
  }
  entries_ = kMaxEntries - context.room;
  refused_ += context.refused;
  changed_ = changed_ || context.changed;
}

void Listeners::HearReport(const Report& report, ListenerTime now) {
  for (const GroupRecord& record : report.records) {
    ListenedGroup::Context context = ContextAt(now);
    auto found = groups_.find(record.group);
    if (found == groups_.end()) {
      if (context.room == 0) {
        ++refused_;
        continue;
      }
      --context.room;
      found = groups_.try_emplace(record.group).first;
    }
    found->second.Take(report.version, record, context);
    Settle(found, context);
  }
}

void Listeners::HearQuery(const IpAddress& sender, const ListenerQuery& query, ListenerTime now) {
  // A switch asks from 0.0.0.0: it is no router, and none has to give way to it (RFC 4541, section 2.1.1).
  const bool elected = !IsUnspecified(sender) &&
                       (!settings_.asks || !address_ || IsUnspecified(*address_) || sender < *address_) &&
                       (!other_ || sender <= *other_);
  if (elected) {
    if (other_ != sender) others_ = settings_;
    other_ = sender;
    if (query.robustness != 0) others_.robustness = query.robustness;
    if (query.interval_seconds != 0) others_.interval = std::chrono::seconds(query.interval_seconds);
    // Of others it says how long these hosts have.
    (query.group ? others_.last_listener : others_.response) = query.response;
    other_until_ = now + others_.interval * others_.robustness + others_.response / 2;
    Due(other_until_);
  }
  if (!query.group) return;
  const auto found = groups_.find(*query.group);
  if (found == groups_.end()) return;
  ListenedGroup::Context context = ContextAt(now);
  context.times.last_listener = query.response;
  found->second.HearQuery(query, context);
  Settle(found, context);
}

void Listeners::AskAll(ListenerTime now, std::vector<ListenerQuery>& queries) {
  if (!Asks() || now < next_general_) return;
  queries.push_back({.response = settings_.response});
  if (startup_ != 0) --startup_;
  next_general_ = now + (startup_ != 0 ? settings_.interval / kStartupPart : settings_.interval);
}

std::vector<ListenerQuery> Listeners::Run(ListenerTime now) {
  std::vector<ListenerQuery> queries;
  if (now < next_) return queries;
  if (other_ && other_until_ <= now) {
    other_.reset();
    next_general_ = now;
  }
  AskAll(now, queries);
  next_ = kNever;
  if (other_) Due(other_until_);
  if (Asks()) Due(next_general_);
  for (auto group = groups_.begin(); group != groups_.end();) {
    const auto one = group++;
    ListenedGroup::Context context = ContextAt(now);
    one->second.Expire(context);
    one->second.TakeQueries(one->first, context.times, now, queries);
    Settle(one, context);
  }
  // What was to be asked when another became the querier is that one's to ask.
  if (!Asks()) queries.clear();
  for (ListenerQuery& query : queries) {
    query.robustness = settings_.robustness;
    query.interval_seconds =
        static_cast<uint32_t>(std::chrono::duration_cast<std::chrono::seconds>(settings_.interval).count());
  }
  return queries;
}

std::vector<ListenedView> Listeners::View(ListenerTime now) const {
  std::vector<ListenedView> view;
  for (const auto& [address, group] : groups_) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(group.Ends() - now);
    view.push_back({address, group.exclude(), group.sources(), std::max(left, std::chrono::milliseconds(0))});
  }
  return view;
}

std::optional<IpAddress> Listeners::querier() const {
  if (other_) return other_;
  return Asks() ? address_ : std::nullopt;
}

}  // namespace headgate
