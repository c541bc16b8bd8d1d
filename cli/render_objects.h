// SPDX-License-Identifier: Apache-2.0
//
// Configuration objects as lines and tables for people.
#pragma once

#include <string>

#include "headgate/v1/gateway.pb.h"

namespace headgate::cli {

// "udp 10.0.0.0/8 > 198.51.100.7:9000-9099 in uplink vlan 5", the form Trace takes packets in; "any" for all.
std::string MatchText(const v1::Match& match);
std::string MatchText(const v1::ManagementAllow& allow);
// "limit 20000 pps per source, pass".
std::string ActionText(const v1::Action& action);
// "priority 500: udp * > *:53: limit 20000 pps, pass".
std::string RuleText(const v1::Rule& rule);
// "applied", "pending: no device eth1".
std::string StatusText(const v1::ObjectStatus& status);

// Tables of one kind; the objects of other kinds are left out. Warnings of interfaces follow theirs.
std::string InterfaceTable(const v1::GetResponse& response, size_t width);
std::string RuleTable(const v1::GetResponse& response, size_t width);
std::string PrefixSetTable(const v1::GetResponse& response, size_t width);
std::string NextHopTable(const v1::GetResponse& response, size_t width);
std::string SteerTargetTable(const v1::GetResponse& response, size_t width);
std::string MulticastRouteTable(const v1::GetResponse& response, size_t width);
std::string SettingsTable(const v1::GetResponse& response, size_t width);
std::string ObjectTable(v1::Kind kind, const v1::GetResponse& response, size_t width);

// The document that Apply would take for these objects.
v1::GatewayConfig ToConfig(const v1::GetResponse& response);

}  // namespace headgate::cli
