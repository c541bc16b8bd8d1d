// SPDX-License-Identifier: Apache-2.0
//
// What multicast routes took, what of it came twice or not at all, what their legs sent, and why they dropped
// copies.
#pragma once

#include <cstdint>
#include <string>

#include "headgate/v1/gateway.pb.h"

namespace headgate::cli {

// A row a route, and below it one a leg.
std::string MulticastTable(const v1::StatsResponse& stats, size_t width);

// Copies that the leg dropped, for whatever reason.
uint64_t LegDropped(const v1::MulticastLegStats& leg);
// By reason: "12 ttl, 3 no source"; "-" for none.
std::string LegDropText(const v1::MulticastLegStats& leg);
// What came of its feed: "40 duplicate, 3 missing"; "-" for nothing out of order, empty without a feed.
std::string FeedText(const v1::MulticastRouteStats& route);
// Sequence numbers that did not come; empty without a feed.
std::string MissingText(const v1::MulticastRouteStats& route);
// How long ago the last packet came, "250ms", "3s", "2h 5m"; "-" when there was none.
std::string LastPacketText(const v1::MulticastRouteStats& route);

}  // namespace headgate::cli
