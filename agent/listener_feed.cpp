// SPDX-License-Identifier: Apache-2.0
#include "agent/listener_feed.h"

#include <absl/strings/str_cat.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "agent/base/log.h"
#include "agent/base/status.h"

namespace headgate {
namespace {

// What could not be heard or written is tried again so often; an address may come besides.
constexpr std::chrono::milliseconds kRetry{1000};
// Others may change what the data path has.
constexpr std::chrono::seconds kReadBack{30};

}  // namespace

bool ListenerFeed::Same(const Written& a, const Written& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const auto& left, const auto& right) {
    return std::memcmp(&left.first, &right.first, sizeof(left.first)) == 0 && left.second == right.second;
  });
}

bool ListenerFeed::Less::operator()(const hg_listener& a, const hg_listener& b) const {
  return std::memcmp(&a, &b, sizeof(a)) < 0;
}

ListenerFeed::ListenerFeed(const Controller& controller, EventBus& events, Dataplane& dataplane)
    : controller_(controller), dataplane_(dataplane), follower_(events, kRetry, [this] { Look(); }) {}

absl::StatusOr<std::unique_ptr<ListenerFeed>> ListenerFeed::Start(const Controller& controller, EventBus& events,
                                                                  Dataplane& dataplane) {
  std::unique_ptr<ListenerFeed> feed(new ListenerFeed(controller, events, dataplane));
  HG_ASSIGN_OR_RETURN(feed->proxy_, ListenerProxy::Start(feed->follower_.waker()));
  feed->follower_.Start();
  return feed;
}

std::shared_ptr<const ListenerTable> ListenerFeed::table() const {
  const std::lock_guard lock(mutex_);
  return table_;
}

std::vector<ListenerView> ListenerFeed::Of(const MulticastRoute& route) const {
  const Snapshot applied = controller_.applied();
  return applied ? ListenerViews(route, *applied, proxy_->View()) : std::vector<ListenerView>();
}

std::vector<std::string> ListenerFeed::Troubles() const {
  std::vector<std::string> troubles;
  for (const auto& [port, at] : proxy_->View()) {
    if (at.refused == 0) continue;
    troubles.push_back(absl::StrCat("interface \"", at.name, "\": ", at.refused,
                                    " groups and sources were asked for beyond the ", Listeners::kMaxEntries,
                                    " that there is room for, and are not relayed"));
  }
  const std::lock_guard lock(mutex_);
  for (const auto& [what, failure] : failures_) {
    troubles.push_back(absl::StrCat("who listens is not known: ", failure.message()));
  }
  return troubles;
}

void ListenerFeed::OnChange(std::function<void()> changed) {
  const std::lock_guard lock(mutex_);
  on_change_.push_back(std::move(changed));
}

void ListenerFeed::Look() {
  const Snapshot applied = controller_.applied();
  if (!applied) return;
  std::map<std::string, absl::Status> failures;
  const std::vector<ListenedInterface> interfaces = ListenedInterfacesOf(*applied, controller_.interfaces());
  for (auto& [port, failure] : proxy_->Want(interfaces))
    failures[absl::StrCat("port ", port)] = std::move(failure);
  absl::Status status = adopted_ ? absl::OkStatus() : Adopt();
  // What is there must not be taken for nothing.
  if (status.ok()) {
    const ListenerEntries entries = EntriesOf(*applied, proxy_->View());
    status = Write(entries);
    Publish(entries);
  }
  if (!status.ok()) failures["table"] = std::move(status);
  const std::lock_guard lock(mutex_);
  for (const auto& [what, failure] : failures) {
    // Once, however often it is tried again.
    if (failures_.contains(what)) continue;
    Log(spdlog::level::warn, "legs that are on_join may not send what is asked for", {{"reason", failure}});
  }
  failures_ = std::move(failures);
}

absl::Status ListenerFeed::Adopt() {
  HG_ASSIGN_OR_RETURN(const ListenerEntries entries, dataplane_.Listeners());
  adopted_ = true;
  for (const SeedGroup& seed : SeedsOf(entries)) proxy_->Seed(seed.port, seed.group, seed.exclude, seed.sources);
  return absl::OkStatus();
}

// The difference alone.
absl::Status ListenerFeed::Write(const ListenerEntries& entries) {
  const auto now = std::chrono::steady_clock::now();
  if (!known_ || now - read_ >= kReadBack) {
    HG_ASSIGN_OR_RETURN(const ListenerEntries there, dataplane_.Listeners());
    const Written found(there.begin(), there.end());
    if (known_ && !Same(found, written_)) {
      Log(spdlog::level::warn, "hg_listeners was changed by others, and is put right");
    }
    written_ = found;
    read_ = now;
  }
  const Written wanted(entries.begin(), entries.end());
  ListenerEntries put;
  std::vector<hg_listener> remove;
  for (const auto& [listener, is_wanted] : wanted) {
    const auto found = written_.find(listener);
    if (found == written_.end() || found->second != is_wanted) put.emplace_back(listener, is_wanted);
  }
  for (const auto& [listener, is_wanted] : written_) {
    if (!wanted.contains(listener)) remove.push_back(listener);
  }
  known_ = false;
  HG_RETURN_IF_ERROR(dataplane_.UpdateListeners(put, remove));
  known_ = true;
  written_ = wanted;
  return absl::OkStatus();
}

void ListenerFeed::Publish(const ListenerEntries& entries) {
  Written wanted(entries.begin(), entries.end());
  if (Same(wanted, published_)) return;
  published_ = std::move(wanted);
  auto table = std::make_shared<ListenerTable>();
  for (const auto& [listener, is_wanted] : entries) table->Put(listener, is_wanted);
  std::vector<std::function<void()>> tell;
  {
    const std::lock_guard lock(mutex_);
    table_ = std::move(table);
    tell = on_change_;
  }
  for (const auto& one : tell) one();
}

}  // namespace headgate
