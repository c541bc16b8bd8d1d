// SPDX-License-Identifier: Apache-2.0
//
// The configuration as plain values: what the API's messages become once their text is parsed. Field meanings,
// units and ranges are documented in proto/headgate/v1/config.proto and not repeated here.
//
// Ids (0 in requests) are given by the controller, kept for an object's life and known to the kernel's tables.
#pragma once

#include <absl/strings/string_view.h>

#include <array>
#include <compare>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "agent/base/address.h"
#include "agent/base/persistent_map.h"
#include "agent/base/port_ranges.h"
#include "agent/base/rare_string.h"

namespace headgate {

// In the order in which one kind may refer to another.
// Numbers are those of stored rows.
enum class Kind : uint8_t {
  kSettings,
  kInterface,
  kPrefixSet,
  kNextHop,
  kSteerTarget,
  kCounter,
  kRule,
  kMulticastRoute,
  kMulticastLeg,
  kMulticastFeed
};
// Those that users know by name.
inline constexpr std::array kAllKinds = {Kind::kSettings, Kind::kInterface,     Kind::kPrefixSet,
                                         Kind::kNextHop,  Kind::kSteerTarget,   Kind::kCounter,
                                         Kind::kRule,     Kind::kMulticastRoute};
absl::string_view KindName(Kind kind);  // as in messages to users: "next hop"

enum class AttachMode : uint8_t { kAuto, kNative, kGeneric };
enum class BasicVerdict : uint8_t { kPass, kDrop };

// Of IGMP and MLD (RFC 3376, RFC 3810).
struct Querier {
  bool disabled = false;
  uint32_t interval_seconds = 125;
  uint32_t response_ms = 10000;
  uint32_t last_listener_ms = 1000;
  uint8_t robustness = 2;
  friend bool operator==(const Querier&, const Querier&) = default;
};

struct Interface {
  std::string name;
  std::string device;
  AttachMode mode = AttachMode::kAuto;
  std::optional<Querier> querier;
  uint32_t id = 0;  // port id, 1..255
  friend bool operator==(const Interface&, const Interface&) = default;
};

struct PrefixTraits {
  static const Prefix& KeyOf(const Prefix& prefix) { return prefix; }
  static bool Same(const Prefix&, const Prefix&) { return true; }
};
using PrefixMap = PersistentMap<Prefix, PrefixTraits>;

struct PrefixSet {
  std::string name;
  PrefixMap prefixes;
  uint32_t id = 0;  // 0..255
};

enum class FragmentMatch : uint8_t { kUnspecified, kNone, kFirst, kLater, kAny };

struct TcpFlagMatch {
  uint8_t value = 0;
  uint8_t mask = 0;  // 0: any
  friend bool operator==(const TcpFlagMatch&, const TcpFlagMatch&) = default;
};

struct Match {
  RareString interface;
  RareString source_set;
  RareString destination_set;
  std::optional<Prefix> source;
  std::optional<Prefix> destination;
  PortRanges source_ports;  // empty: any
  PortRanges destination_ports;
  std::optional<PortRange> packet_length;
  std::optional<uint16_t> vlan;
  std::optional<uint16_t> inner_vlan;
  std::optional<uint8_t> protocol;
  std::optional<uint8_t> icmp_type;
  std::optional<uint8_t> icmp_code;
  std::optional<uint8_t> dscp;
  TcpFlagMatch tcp_flags;
  FragmentMatch fragment = FragmentMatch::kUnspecified;
  friend bool operator==(const Match&, const Match&) = default;
};

struct Pass {
  friend bool operator==(const Pass&, const Pass&) = default;
};
struct Drop {
  friend bool operator==(const Drop&, const Drop&) = default;
};
enum class TxSwap : uint8_t { kEthernet, kIp, kPorts };
struct Tx {
  TxSwap swap = TxSwap::kIp;
  friend bool operator==(const Tx&, const Tx&) = default;
};
struct Redirect {
  std::string interface;
  std::optional<MacAddress> source_mac;
  std::optional<MacAddress> destination_mac;
  friend bool operator==(const Redirect&, const Redirect&) = default;
};
struct Route {
  friend bool operator==(const Route&, const Route&) = default;
};
struct ToNextHop {
  std::string name;
  friend bool operator==(const ToNextHop&, const ToNextHop&) = default;
};
struct Steer {
  std::string target;
  friend bool operator==(const Steer&, const Steer&) = default;
};
// monostate: not given, which validation refuses.
using Verdict = std::variant<std::monostate, Pass, Drop, Tx, Redirect, Route, ToNextHop, Steer>;

struct RateLimit {
  uint64_t packets_per_second = 0;
  uint64_t bits_per_second = 0;
  uint64_t burst = 0;
  bool per_source = false;
  friend bool operator==(const RateLimit&, const RateLimit&) = default;
};

struct Action {
  Verdict verdict;
  std::string counter;
  std::optional<RateLimit> rate_limit;
  uint32_t sample_one_in = 0;  // 0: none
  friend bool operator==(const Action&, const Action&) = default;
};

struct Rule {
  std::string name;
  uint32_t priority = 0;
  uint32_t id = 0;  // index of its counters, from 1
  Match match;
  // Shared between equal actions: a hundred thousand rules have a handful.
  std::shared_ptr<const Action> action;
};
static_assert(sizeof(Rule) <= 192, "a hundred thousand of them are kept");

struct NextHop {
  std::string name;
  std::string interface;
  MacAddress mac{};
  std::optional<MacAddress> source_mac;
  std::optional<uint16_t> vlan;
  bool decrement_ttl = false;
  uint32_t id = 0;
  friend bool operator==(const NextHop&, const NextHop&) = default;
};

// Threads of the slow path.
inline constexpr uint32_t kMaxWorkers = 64;

struct CountHandlerSpec {
  friend bool operator==(const CountHandlerSpec&, const CountHandlerSpec&) = default;
};
struct EchoHandlerSpec {
  friend bool operator==(const EchoHandlerSpec&, const EchoHandlerSpec&) = default;
};
struct TapHandlerSpec {
  std::string device;
  bool tun = false;
  std::string interface;  // empty: frames of unknown destination are dropped
  friend bool operator==(const TapHandlerSpec&, const TapHandlerSpec&) = default;
};
struct AppHandlerSpec {
  std::string group;  // empty: root's
  friend bool operator==(const AppHandlerSpec&, const AppHandlerSpec&) = default;
};
// monostate: the target has none.
using HandlerSpec =
    std::variant<std::monostate, CountHandlerSpec, EchoHandlerSpec, TapHandlerSpec, AppHandlerSpec>;

enum class Spread : uint8_t { kAuto, kQueue, kFlow, kFlowSymmetric, kSource, kRoundRobin };

inline constexpr uint32_t kTopSteerPriority = 7;

struct SteerTarget {
  std::string name;
  BasicVerdict fallback = BasicVerdict::kPass;
  HandlerSpec handler;
  uint32_t workers = 1;
  Spread spread = Spread::kAuto;
  uint32_t priority = kTopSteerPriority;  // higher is kept longer under overload
  uint32_t id = 0;
  friend bool operator==(const SteerTarget&, const SteerTarget&) = default;
};

// A named counter: exists while a rule's action names it.
struct Counter {
  std::string name;
  uint32_t id = 0;          // from 1
  uint32_t references = 0;  // rules
};

struct MulticastInput {
  std::vector<std::string> interfaces;
  Prefix group;
  std::vector<Prefix> include;
  std::vector<Prefix> exclude;
  uint16_t port = 0;      // 0: any
  uint8_t protocol = 17;  // UDP
  std::optional<uint16_t> vlan;
  friend bool operator==(const MulticastInput&, const MulticastInput&) = default;
};

struct EgressAddress {
  friend bool operator==(const EgressAddress&, const EgressAddress&) = default;
};
// monostate: as received.
using LegSource = std::variant<std::monostate, EgressAddress, IpAddress>;

struct MulticastLeg {
  std::string name;
  std::string interface;  // may be empty where `unicast` is given
  std::optional<IpAddress> group;
  std::optional<IpAddress> unicast;
  std::optional<MacAddress> mac;  // of the next hop towards it
  LegSource source;
  uint16_t port = 0;         // 0: as received
  uint16_t source_port = 0;  // 0: as received
  uint8_t ttl = 0;           // 0: one less than it was
  uint8_t ttl_threshold = 0;
  std::optional<uint8_t> dscp;
  std::optional<uint16_t> vlan;
  std::optional<RateLimit> rate_limit;
  bool on_join = false;
  friend bool operator==(const MulticastLeg&, const MulticastLeg&) = default;
};

struct MulticastSequence {
  uint16_t offset = 0;  // bytes after the UDP header
  uint8_t width = 0;    // bytes: 1, 2, 4 or 8
  bool little_endian = false;
  friend bool operator==(const MulticastSequence&, const MulticastSequence&) = default;
};

struct Deduplicate {
  std::string feed;     // empty: the route's own
  uint16_t window = 0;  // sequence numbers, or without them milliseconds; 0: the default
  friend bool operator==(const Deduplicate&, const Deduplicate&) = default;
};

struct MulticastRoute {
  std::string name;
  MulticastInput input;
  std::vector<MulticastLeg> legs;
  std::optional<MulticastSequence> sequence;
  std::optional<Deduplicate> deduplicate;
  uint32_t id = 0;  // from 1
};

// A leg's id, which its counters have: exists while its route has it.
struct MulticastLegId {
  std::string name;  // "route/leg"
  uint32_t id = 0;   // from 1
};
std::string LegKey(absl::string_view route, absl::string_view leg);

// A feed's id, which what it had and its counters have: exists while a route has it.
struct MulticastFeedId {
  std::string name;  // FeedKey of its routes
  uint32_t id = 0;   // from 1
};
// With whose packets the route's are compared, and where their numbers are: what was noted of others means nothing
// then. Empty: with none.
std::string FeedKey(const MulticastRoute& route);
// With its default.
uint16_t FeedWindow(const MulticastRoute& route);

struct ManagementAllow {
  std::optional<Prefix> source;
  std::optional<uint8_t> protocol;
  PortRanges destination_ports;
  std::string interface;
  friend bool operator==(const ManagementAllow&, const ManagementAllow&) = default;
};

struct Settings {
  BasicVerdict default_action = BasicVerdict::kPass;
  std::vector<ManagementAllow> management;
  friend bool operator==(const Settings&, const Settings&) = default;
};

}  // namespace headgate
