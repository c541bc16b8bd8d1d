// SPDX-License-Identifier: Apache-2.0
#include "agent/listeners/group.h"

#include <algorithm>

namespace headgate {
namespace {

std::vector<IpAddress> Sorted(std::vector<IpAddress> addresses) {
  std::sort(addresses.begin(), addresses.end());
  return addresses;
}

bool Has(const std::vector<IpAddress>& sorted, const IpAddress& address) {
  return std::binary_search(sorted.begin(), sorted.end(), address);
}

}  // namespace

HostVersion ListenedGroup::Oldest(ListenerTime now) const {
  if (older_until_[static_cast<size_t>(HostVersion::kOldest)] > now) return HostVersion::kOldest;
  if (older_until_[static_cast<size_t>(HostVersion::kOlder)] > now) return HostVersion::kOlder;
  return HostVersion::kCurrent;
}

// RFC 3376, sections 6.4 and 7.3.2: what older hosts would not have said is not for others to say in their stead.
void ListenedGroup::Take(HostVersion version, const GroupRecord& record, Context& context) {
  const bool leaves = record.type == RecordType::kToInclude && record.sources.empty();
  if (version != HostVersion::kCurrent && !leaves) {
    older_until_[static_cast<size_t>(version)] = context.now + context.times.membership;
  }
  const HostVersion oldest = Oldest(context.now);
  switch (record.type) {
    case RecordType::kIsInclude:
    case RecordType::kAllow:
      return Want(record.sources, context);
    case RecordType::kIsExclude:
      return Exclude(record, false, context);
    case RecordType::kToExclude:
      if (oldest == HostVersion::kCurrent) return Exclude(record, true, context);
      return Exclude({record.type, record.group, {}}, true, context);
    case RecordType::kToInclude:
      if (oldest == HostVersion::kOldest) return Want(record.sources, context);
      return Include(record, context);
    case RecordType::kBlock:
      if (oldest == HostVersion::kCurrent) Block(record, context);
      return;
  }
}

void ListenedGroup::Add(const IpAddress& source, ListenerTime until, Context& context) {
  if (context.room == 0) {
    ++context.refused;
    return;
  }
  --context.room;
  context.changed = true;
  sources_[source] = {until, 0};
}

void ListenedGroup::Want(const std::vector<IpAddress>& sources, Context& context) {
  const ListenerTime until = context.now + context.times.membership;
  for (const IpAddress& source : sources) {
    const auto found = sources_.find(source);
    if (found == sources_.end()) {
      Add(source, until, context);
      continue;
    }
    if (!found->second.wanted()) context.changed = true;
    found->second.until = until;
  }
}

// IS_EX, and TO_EX which besides has it asked who still wants what others leave out.
void ListenedGroup::Exclude(const GroupRecord& record, bool asks, Context& context) {
  const std::vector<IpAddress> excluded = Sorted(record.sources);
  context.room += std::erase_if(sources_, [&](const auto& source) {
    if (Has(excluded, source.first)) return false;
    if (!source.second.wanted()) context.changed = true;
    return true;
  });
  // What is new to a group of which all was wanted may be wanted by others.
  const ListenerTime of_new = !exclude_ ? kUnwanted : asks ? until_ : context.now + context.times.membership;
  for (const IpAddress& source : excluded) {
    if (!sources_.contains(source)) Add(source, of_new, context);
  }
  if (!exclude_) context.changed = true;
  exclude_ = true;
  until_ = context.now + context.times.membership;
  if (!asks) return;
  for (auto& [source, state] : sources_) {
    if (state.wanted()) Ask(state, context);
  }
}

// TO_IN: of what is wanted beside these, others are asked.
void ListenedGroup::Include(const GroupRecord& record, Context& context) {
  const std::vector<IpAddress> included = Sorted(record.sources);
  for (auto& [source, state] : sources_) {
    if (state.wanted() && !Has(included, source)) Ask(state, context);
  }
  Want(record.sources, context);
  if (exclude_) AskGroup(context);
}

void ListenedGroup::Block(const GroupRecord& record, Context& context) {
  for (const IpAddress& source : record.sources) {
    if (exclude_ && !sources_.contains(source)) Add(source, until_, context);
    const auto found = sources_.find(source);
    if (found != sources_.end() && found->second.wanted()) Ask(found->second, context);
  }
}

// RFC 3376, section 6.6.3. Only the querier's timers go by its own queries; others' go by those that they hear.
void ListenedGroup::AskGroup(const Context& context) {
  const ListenerTime soon = context.now + context.times.last();
  // Otherwise that has been asked.
  if (!context.asks || until_ <= soon) return;
  until_ = soon;
  queries_ = context.times.robustness;
  next_query_ = context.now;
}

void ListenedGroup::Ask(Source& source, const Context& context) {
  const ListenerTime soon = context.now + context.times.last();
  if (!context.asks || source.until <= soon) return;
  source.until = soon;
  source.queries = context.times.robustness;
  next_query_ = context.now;
}

void ListenedGroup::HearQuery(const ListenerQuery& query, const Context& context) {
  if (query.suppress) return;
  const ListenerTime soon = context.now + context.times.last();
  if (query.sources.empty() && exclude_) until_ = std::min(until_, soon);
  for (const IpAddress& source : query.sources) {
    const auto found = sources_.find(source);
    if (found != sources_.end() && found->second.wanted()) {
      found->second.until = std::min(found->second.until, soon);
    }
  }
}

// RFC 3376, sections 6.2.2, 6.2.3 and 6.5.
void ListenedGroup::Expire(Context& context) {
  const bool all_end = exclude_ && until_ <= context.now;
  for (auto& [address, source] : sources_) {
    if (!source.wanted() || source.until > context.now) continue;
    context.changed = true;
    source = {};
  }
  // Without a mode that excludes them, what is not wanted is nothing.
  if (!exclude_ || all_end) {
    context.room += std::erase_if(sources_, [](const auto& source) { return !source.second.wanted(); });
  }
  if (!all_end) return;
  context.changed = true;
  exclude_ = false;
  until_ = kNever;
}

void ListenedGroup::TakeQueries(const IpAddress& group, const ListenerTimes& times, ListenerTime now,
                                std::vector<ListenerQuery>& queries) {
  if (now < next_query_) return;
  const ListenerTime soon = now + times.last();
  bool more = false;
  const bool whole = queries_ != 0;
  if (whole) {
    // Somebody has answered: routers that have heard it are to stay with that.
    queries.push_back({.group = group, .response = times.last_listener, .suppress = until_ > soon});
    more = --queries_ != 0;
  }
  for (const bool suppress : {true, false}) {
    ListenerQuery query{.group = group, .response = times.last_listener, .suppress = suppress};
    for (auto& [address, source] : sources_) {
      if (source.queries == 0 || !source.wanted() || (source.until > soon) != suppress) continue;
      if (--source.queries != 0) more = true;
      // The question about the group is about these, too.
      if (suppress && whole) continue;
      query.sources.push_back(address);
      if (query.sources.size() < kMaxQuerySources) continue;
      queries.push_back(query);
      query.sources.clear();
    }
    if (!query.sources.empty()) queries.push_back(std::move(query));
  }
  next_query_ = more ? now + times.last_listener : kNever;
}

ListenerTime ListenedGroup::Next() const {
  ListenerTime next = std::min(next_query_, exclude_ ? until_ : kNever);
  for (const auto& [address, source] : sources_) {
    if (source.wanted()) next = std::min(next, source.until);
  }
  return next;
}

std::vector<IpAddress> ListenedGroup::sources() const {
  std::vector<IpAddress> sources;
  for (const auto& [address, source] : sources_) {
    if (source.wanted() != exclude_) sources.push_back(address);
  }
  return sources;
}

ListenerTime ListenedGroup::Ends() const {
  if (exclude_) return until_;
  ListenerTime ends = ListenerTime::min();
  for (const auto& [address, source] : sources_) ends = std::max(ends, source.until);
  return ends;
}

}  // namespace headgate
