/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The reasons that packets are counted by: a part of hg_abi.h. */
#ifndef HG_REASONS_H
#define HG_REASONS_H

/* Why a packet left the way it did: the one list that makes the enum, the names, the metrics' labels and
 * the table in docs/reasons.md. X(enumerator, name, class, text). Only append: counters are indexed by it.
 * Classes: PASS to the local stack, FORWARD out of a device or to a worker, DROP by policy or for want of a
 * way out, MALFORMED dropped because it could not be parsed. */
#define HG_REASONS(X)                                                                                        \
	X(PASS_RULE, "pass_rule", PASS, "a rule said pass")                                                  \
	X(PASS_DEFAULT, "pass_default", PASS, "no rule matched and the default action is pass")              \
	X(PASS_MANAGEMENT, "pass_management", PASS, "an entry of the management allow-list matched")         \
	X(PASS_ESSENTIAL, "pass_essential", PASS,                                                            \
	  "ARP, ND, IGMP, MLD or LLDP, spared from a drop that does not name its protocol")                  \
	X(PASS_UNCONFIGURED, "pass_unconfigured", PASS,                                                      \
	  "arrived on a device that is not (or no longer) an interface of the configuration")                \
	X(PASS_ROUTE_LOCAL, "pass_route_local", PASS,                                                        \
	  "route: the kernel delivers it locally, or its table has no forwarding entry for it")              \
	X(PASS_ROUTE_NEIGHBOUR, "pass_route_neighbour", PASS,                                                \
	  "route: the neighbour is not resolved yet; the kernel resolves it and forwards this packet")       \
	X(PASS_ROUTE_TTL, "pass_route_ttl", PASS,                                                            \
	  "route: TTL or hop limit expires here; the kernel answers with time exceeded")                     \
	X(PASS_ROUTE_MTU, "pass_route_mtu", PASS,                                                            \
	  "route: larger than the route's MTU; the kernel fragments or answers with too big")                \
	X(PASS_ROUTE_UNREACHABLE, "pass_route_unreachable", PASS,                                            \
	  "route: unreachable or prohibited; the kernel answers")                                            \
	X(PASS_ROUTE_DISABLED, "pass_route_disabled", PASS,                                                  \
	  "route: forwarding is off for the ingress device (net.ipv4.conf.*.forwarding)")                    \
	X(PASS_ROUTE_KERNEL, "pass_route_kernel", PASS,                                                      \
	  "route: left to the kernel (not IP, VLAN-tagged, IPv4 options, an address that no router "         \
	  "forwards, tunnel route, or egress through a device that is not an interface)")                    \
	X(PASS_ROUTE_OTHERHOST, "pass_route_otherhost", PASS,                                                \
	  "route: sent to another MAC address than the ingress interface's; the kernel drops it unless the " \
	  "address is that of a device on top (macvlan, bridge)")                                            \
	X(PASS_STEER_FALLBACK, "pass_steer_fallback", PASS,                                                  \
	  "steer: no worker takes this queue and the target's fallback is pass")                             \
	X(FORWARD_TX, "forward_tx", FORWARD, "reflected out of the ingress device")                          \
	X(FORWARD_REDIRECT, "forward_redirect", FORWARD, "redirected out of the rule's interface")           \
	X(FORWARD_ROUTE, "forward_route", FORWARD, "forwarded by the kernel's routes and neighbours")        \
	X(FORWARD_NEXT_HOP, "forward_next_hop", FORWARD, "forwarded to the rule's next hop")                 \
	X(FORWARD_STEER, "forward_steer", FORWARD, "handed to an AF_XDP socket")                             \
	X(DROP_RULE, "drop_rule", DROP, "a rule said drop")                                                  \
	X(DROP_DEFAULT, "drop_default", DROP, "no rule matched and the default action is drop")              \
	X(DROP_RATE_LIMIT, "drop_rate_limit", DROP, "above the rule's rate limit")                           \
	X(DROP_NO_DEVICE, "drop_no_device", DROP, "the egress interface's device does not exist now")        \
	X(DROP_NO_NEXT_HOP, "drop_no_next_hop", DROP, "the next hop is not configured")                      \
	X(DROP_TX_GROUP, "drop_tx_group", DROP,                                                              \
	  "tx: sent to a group or broadcast address, which cannot become a source address")                  \
	X(DROP_TTL, "drop_ttl", DROP, "next hop: TTL or hop limit expired")                                  \
	X(DROP_NO_ROUTE, "drop_no_route", DROP, "route: a blackhole route")                                  \
	X(DROP_NO_HEADROOM, "drop_no_headroom", DROP, "no room before the packet for a VLAN tag")            \
	X(DROP_STEER_FALLBACK, "drop_steer_fallback", DROP,                                                  \
	  "steer: no worker takes this queue and the target's fallback is drop")                             \
	X(DROP_INTERNAL, "drop_internal", DROP,                                                              \
	  "a table entry the program expected was missing: a defect, please report it")                      \
	X(ETH_SHORT, "eth_short", MALFORMED, "shorter than an Ethernet header")                              \
	X(VLAN_SHORT, "vlan_short", MALFORMED, "ends within a VLAN tag")                                     \
	X(VLAN_DEPTH, "vlan_depth", MALFORMED, "more than two VLAN tags")                                    \
	X(HEADER_SPLIT, "header_split", MALFORMED,                                                           \
	  "headers continue beyond the first buffer of a multi-buffer frame")                                \
	X(IPV4_SHORT, "ipv4_short", MALFORMED, "ends within the IPv4 header")                                \
	X(IPV4_VERSION, "ipv4_version", MALFORMED, "EtherType 0x0800 without version 4")                     \
	X(IPV4_IHL, "ipv4_ihl", MALFORMED, "IPv4 header length below 20 bytes")                              \
	X(IPV4_LENGTH, "ipv4_length", MALFORMED, "IPv4 total length below the header's or beyond the frame") \
	X(IPV6_SHORT, "ipv6_short", MALFORMED, "ends within the IPv6 header")                                \
	X(IPV6_VERSION, "ipv6_version", MALFORMED, "EtherType 0x86dd without version 6")                     \
	X(IPV6_LENGTH, "ipv6_length", MALFORMED, "IPv6 payload length beyond the frame")                     \
	X(IPV6_EXT_SHORT, "ipv6_ext_short", MALFORMED, "ends within an IPv6 extension header")               \
	X(IPV6_EXT_DEPTH, "ipv6_ext_depth", MALFORMED, "more than eight IPv6 extension headers")             \
	X(FRAGMENT_OVERRUN, "fragment_overrun", MALFORMED, "a fragment that would end beyond 65,535 bytes")  \
	X(FRAGMENT_OVERLAP, "fragment_overlap", MALFORMED,                                                   \
	  "a TCP fragment at offset 8, able to rewrite the flags of the first (RFC 1858)")                   \
	X(SOURCE_GROUP, "source_group", MALFORMED, "multicast or broadcast source address")                  \
	X(TCP_SHORT, "tcp_short", MALFORMED, "ends within the TCP header")                                   \
	X(TCP_OFFSET, "tcp_offset", MALFORMED, "TCP data offset below 20 bytes or beyond the packet")        \
	X(UDP_SHORT, "udp_short", MALFORMED, "ends within the UDP header")                                   \
	X(UDP_LENGTH, "udp_length", MALFORMED, "UDP length below 8 bytes or beyond the packet")              \
	X(ICMP_SHORT, "icmp_short", MALFORMED, "ends within the ICMP or ICMPv6 header")                      \
	X(L4_SHORT, "l4_short", MALFORMED, "ends within the SCTP, DCCP or UDP-Lite ports")                   \
	X(DROP_STEER_OVERLOAD, "drop_steer_overload", DROP,                                                  \
	  "steer: the queue's worker falls behind, and the target is of low priority")                       \
	X(FORWARD_MULTICAST, "forward_multicast", FORWARD,                                                   \
	  "multicast: replicated to the route's legs; what became of each copy, the legs count")             \
	X(FORWARD_MULTICAST_WORKER, "forward_multicast_worker", FORWARD,                                     \
	  "multicast: handed to a worker, which replicates it")                                              \
	X(DROP_MULTICAST_NO_WORKER, "drop_multicast_no_worker", DROP,                                        \
	  "multicast: a worker is to replicate it, and none takes this queue")                               \
	X(DROP_MULTICAST_LOOP, "drop_multicast_loop", DROP,                                                  \
	  "multicast: sent by the ingress interface itself, and come back")                                  \
	X(DROP_MULTICAST_DUPLICATE, "drop_multicast_duplicate", DROP,                                        \
	  "multicast: came before, by this route or by a redundant one")

#endif /* HG_REASONS_H */
