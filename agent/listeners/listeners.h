// SPDX-License-Identifier: Apache-2.0
//
// Who listens at one interface, of one IP version: the router's part of IGMP and MLD, without sockets and clocks.
// The router with the lowest address asks; the others listen.
#pragma once

#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "agent/listeners/group.h"

namespace headgate {

struct QuerierSettings {
  bool asks = true;
  std::chrono::milliseconds interval{125000};
  std::chrono::milliseconds response{10000};
  std::chrono::milliseconds last_listener{1000};
  uint8_t robustness = 2;
  friend bool operator==(const QuerierSettings&, const QuerierSettings&) = default;
};

struct ListenedView {
  IpAddress group;
  bool exclude = false;  // of which all but `sources` is asked for, or these alone
  std::vector<IpAddress> sources;
  std::chrono::milliseconds expires_in{0};
};

class Listeners {
 public:
  // Groups and sources of one interface and IP version. More are refused: reports cost their sender nothing.
  static constexpr size_t kMaxEntries = 4096;

  Listeners(Family family, const QuerierSettings& settings) : family_(family), settings_(settings) {}

  void Configure(const QuerierSettings& settings, ListenerTime now);
  // This router's at the interface, if it has one to ask from; 0.0.0.0 gives way to all others.
  void SetAddress(const std::optional<IpAddress>& address, ListenerTime now);
  // The interface came up: whoever is there now is to be asked soon.
  void Begin(ListenerTime now);
  // As if a host had just asked for it: what an earlier process knew. Exclude: all but these sources.
  void Seed(const IpAddress& group, bool exclude, const std::vector<IpAddress>& sources, ListenerTime now);

  void Hear(const Heard& heard, ListenerTime now);
  // To be called at Next(), and whenever something was heard. What is to be asked now.
  std::vector<ListenerQuery> Run(ListenerTime now);
  ListenerTime Next() const { return next_; }

  // Whether other packets are wanted than when this was last called.
  bool TakeChanged() { return std::exchange(changed_, false); }
  std::vector<ListenedView> View(ListenerTime now) const;
  // This router's own where it asks. Nothing: nobody does.
  std::optional<IpAddress> querier() const;
  // Groups and sources for which there was no room.
  uint64_t refused() const { return refused_; }

 private:
  bool Asks() const { return settings_.asks && !other_ && address_; }
  ListenerTimes Times() const;
  void HearReport(const Report& report, ListenerTime now);
  void HearQuery(const IpAddress& sender, const ListenerQuery& query, ListenerTime now);
  void Due(ListenerTime when) { next_ = std::min(next_, when); }
  // Looks after a group that has changed; it may be gone.
  void Settle(std::map<IpAddress, ListenedGroup>::iterator group, ListenedGroup::Context& context);
  ListenedGroup::Context ContextAt(ListenerTime now) const;
  void AskAll(ListenerTime now, std::vector<ListenerQuery>& queries);

  const Family family_;
  QuerierSettings settings_;
  std::optional<IpAddress> address_;
  std::optional<IpAddress> other_;  // the querier, where that is another
  ListenerTime other_until_ = kNever;
  QuerierSettings others_;  // what that says of itself
  uint32_t startup_ = 0;    // general queries still to be sent in quick succession
  ListenerTime next_general_ = kNever;
  std::map<IpAddress, ListenedGroup> groups_;
  size_t entries_ = 0;          // groups and sources
  ListenerTime next_ = kNever;  // or later
  bool changed_ = false;
  uint64_t refused_ = 0;
};

}  // namespace headgate
