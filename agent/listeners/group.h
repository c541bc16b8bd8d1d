// SPDX-License-Identifier: Apache-2.0
//
// One group at one interface, as a router has it (RFC 3376, section 6; RFC 3810, section 7): from which senders it
// is asked for, until when, and what is still to be asked about it. Time is what the caller says it is.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

#include "agent/listeners/message.h"

namespace headgate {

using ListenerTime = std::chrono::steady_clock::time_point;
inline constexpr ListenerTime kNever = ListenerTime::max();

struct ListenerTimes {
  std::chrono::milliseconds membership{260000};   // what was asked for lasts so long
  std::chrono::milliseconds last_listener{1000};  // from one query after a leave to the next
  uint8_t robustness = 2;                         // how many of them there are
  std::chrono::milliseconds last() const { return last_listener * robustness; }
};

class ListenedGroup {
 public:
  // What taking a record in needs of its interface.
  struct Context {
    ListenerTime now;
    ListenerTimes times;
    bool asks = false;     // this router is the querier
    size_t room = 0;       // for so many further sources
    uint64_t refused = 0;  // sources for which there was none
    bool changed = false;  // whether other packets are wanted than before
  };

  void Take(HostVersion version, const GroupRecord& record, Context& context);
  // The querier asks: hosts that do not answer are gone.
  void HearQuery(const ListenerQuery& query, const Context& context);
  // Ends what nobody renewed.
  void Expire(Context& context);
  // Adds what is to be asked now.
  void TakeQueries(const IpAddress& group, const ListenerTimes& times, ListenerTime now,
                   std::vector<ListenerQuery>& queries);
  // When there is something to expire or to ask.
  ListenerTime Next() const;

  // Nobody asks for it.
  bool empty() const { return !exclude_ && sources_.empty(); }
  size_t size() const { return sources_.size(); }
  // Whether all are asked for but sources(), or these alone.
  bool exclude() const { return exclude_; }
  std::vector<IpAddress> sources() const;
  // When it ends unless somebody asks again.
  ListenerTime Ends() const;

 private:
  struct Source {
    ListenerTime until = kUnwanted;
    uint8_t queries = 0;  // still to be sent
    bool wanted() const { return until != kUnwanted; }
  };
  // Not a time: a source that everybody excludes.
  static constexpr ListenerTime kUnwanted = ListenerTime::min();
  using Sources = std::map<IpAddress, Source>;

  HostVersion Oldest(ListenerTime now) const;
  void Want(const std::vector<IpAddress>& sources, Context& context);
  void Exclude(const GroupRecord& record, bool asks, Context& context);
  void Include(const GroupRecord& record, Context& context);
  void Block(const GroupRecord& record, Context& context);
  void Add(const IpAddress& source, ListenerTime until, Context& context);
  void AskGroup(const Context& context);
  void Ask(Source& source, const Context& context);

  bool exclude_ = false;
  ListenerTime until_ = kNever;  // of exclude_
  Sources sources_;
  ListenerTime older_until_[2] = {ListenerTime::min(), ListenerTime::min()};  // hosts of HostVersion are there
  uint8_t queries_ = 0;                                                       // about the group, still to be sent
  ListenerTime next_query_ = kNever;
};

}  // namespace headgate
