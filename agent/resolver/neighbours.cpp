// SPDX-License-Identifier: Apache-2.0
#include "agent/resolver/neighbours.h"

#include <absl/strings/str_cat.h>
#include <linux/neighbour.h>

#include <algorithm>

#include "agent/base/log.h"
#include "agent/base/status.h"

namespace headgate {

void Neighbours::BeginLook(ResolverClock::time_point now) {
  now_ = now;
  ++look_;
}

void Neighbours::EndLook() {
  std::erase_if(known_, [this](const auto& entry) { return entry.second.look != look_; });
}

absl::StatusOr<MacAddress> Neighbours::Find(const Neighbour& neighbour, const LinkMessage& link) {
  Known& known = known_[neighbour];
  if (known.look != look_) {
    known.look = look_;
    known.answer = LookAt(neighbour, link, known);
  }
  return known.answer;
}

ResolverClock::time_point Neighbours::due() const {
  ResolverClock::time_point due = now_ + options_.verify;
  for (const auto& [neighbour, known] : known_) {
    due = std::min(due, known.due);
  }
  return due;
}

// An address that was in force stays so while the kernel asks for it, first its owner, then everybody, so that one
// that answers only the latter is not lost for a moment each time it is verified.
absl::StatusOr<MacAddress> Neighbours::LookAt(const Neighbour& neighbour, const LinkMessage& link, Known& known) {
  known.due = now_ + options_.retry;
  HG_ASSIGN_OR_RETURN(const std::optional<NeighbourMessage> entry, kernel_.Entry(neighbour));
  // The kernel makes up entries for devices that do not resolve.
  if (!link.resolves && (!entry || entry->state != NUD_PERMANENT)) {
    return absl::FailedPreconditionError(absl::StrCat(link.name, " resolves no neighbours (NOARP): give ",
                                                      ToString(neighbour.address),
                                                      " a permanent entry (ip neigh replace ... nud permanent)"));
  }
  if (entry && entry->mac) {
    known.mac = entry->mac;
    known.asked = known.silent = false;
    known.may_ask = {};
    Verify(*entry, known);
    return *known.mac;
  }
  if (!entry || entry->state != NUD_INCOMPLETE) {
    const bool others = entry && entry->others;
    if (known.asked || others) {
      known.silent = true;
      known.mac.reset();
    }
    if (!others) HG_RETURN_IF_ERROR(Ask(neighbour, known));
  }
  if (known.mac) return *known.mac;
  return absl::UnavailableError(absl::StrCat("the neighbour ", ToString(neighbour.address), " on ", link.name,
                                             known.silent ? " does not answer" : " is being asked for"));
}

void Neighbours::Verify(const NeighbourMessage& entry, Known& known) {
  // What somebody said is not the kernel's to ask for.
  const bool ours = !entry.others && (entry.state & (NUD_PERMANENT | NUD_NOARP)) == 0;
  const std::chrono::milliseconds interval = ours && entry.state == NUD_STALE ? options_.retry : options_.verify;
  const bool due = now_ >= known.verified + interval;
  if (due) known.verified = now_;
  known.due = known.verified + interval;
  if (!due || !ours) return;
  if (const absl::Status status = kernel_.Verify(entry.neighbour); !status.ok()) {
    Log(spdlog::level::warn, "a next hop is not verified", {{"reason", status}});
  }
}

absl::Status Neighbours::Ask(const Neighbour& neighbour, Known& known) {
  if (now_ < known.may_ask) return absl::OkStatus();
  known.may_ask = now_ + options_.retry;
  known.asked = true;
  return kernel_.Resolve(neighbour);
}

}  // namespace headgate
