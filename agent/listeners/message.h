// SPDX-License-Identifier: Apache-2.0
//
// IGMP and MLD messages as values (RFC 2236, RFC 3376, RFC 2710, RFC 3810), and how they are read from the wire
// and written to it. Packets begin with their network header.
#pragma once

#include <absl/types/span.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <variant>
#include <vector>

#include "agent/base/address.h"

namespace headgate {

// The numbers of RFC 3376, section 4.2.12; those of RFC 3810 are the same.
enum class RecordType : uint8_t { kIsInclude = 1, kIsExclude, kToInclude, kToExclude, kAllow, kBlock };

struct GroupRecord {
  RecordType type = RecordType::kIsInclude;
  IpAddress group;
  std::vector<IpAddress> sources;
  friend bool operator==(const GroupRecord&, const GroupRecord&) = default;
};

// How old the protocol is that a host speaks: kOldest is IGMPv1, kOlder IGMPv2 and MLDv1.
enum class HostVersion : uint8_t { kOldest, kOlder, kCurrent };

// A report or a leave. What older hosts say is told as a record: all of a group, or nothing of it.
struct Report {
  HostVersion version = HostVersion::kCurrent;
  std::vector<GroupRecord> records;
  friend bool operator==(const Report&, const Report&) = default;
};

struct ListenerQuery {
  HostVersion version = HostVersion::kCurrent;
  std::optional<IpAddress> group;  // nothing: a general query
  std::vector<IpAddress> sources;
  std::chrono::milliseconds response{0};  // hosts answer within
  bool suppress = false;                  // other routers are not to lower their timers
  uint8_t robustness = 0;                 // 0: not given
  uint32_t interval_seconds = 0;          // between general queries; 0: not given
  friend bool operator==(const ListenerQuery&, const ListenerQuery&) = default;
};

struct Heard {
  IpAddress sender;
  std::variant<Report, ListenerQuery> message;
};

// Why a packet is not one to act upon. Counted by it.
enum class Refusal : uint8_t { kNotOurs, kTruncated, kChecksum, kHops, kSender, kGroup };

// Nothing is taken of a packet that is not valid throughout.
std::variant<Heard, Refusal> ParseListenerPacket(absl::Span<const uint8_t> packet);

// With its network header, Router Alert and checksums. `source`: of the query's IP version; IPv4: may be 0.0.0.0.
std::vector<uint8_t> BuildQuery(const ListenerQuery& query, const IpAddress& source);
// Where it is sent to: the group, or all hosts.
IpAddress QueryDestination(const ListenerQuery& query, Family family);
MacAddress GroupMac(const IpAddress& group);

// Of more sources than this a query is to be made of several.
inline constexpr size_t kMaxQuerySources = 64;

// A group that hosts ask routers for: neither link-local nor less (RFC 5771, section 4; RFC 4291, section 2.7).
bool IsRoutedGroup(const IpAddress& address);

}  // namespace headgate
