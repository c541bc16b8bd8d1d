/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * The one header both sides share: every key, value, limit, verdict and reason that crosses between the
 * BPF programs and user space. Plain C that clang's BPF target, gcc and g++ all accept.
 *
 * Byte order: integers are in host order unless a field says otherwise; addresses are held as host-order
 * words, most significant word first, so that bit windows follow numeric significance.
 *
 * tests/bpf/abi_test.cpp checks every struct here against the BTF of the built object.
 */
#ifndef HG_ABI_H
#define HG_ABI_H

#include <linux/types.h>

#include "hg_reasons.h"

#ifdef __cplusplus
#define HG_STATIC_ASSERT static_assert
#else
#define HG_STATIC_ASSERT _Static_assert
#endif

/* Raised whenever a struct, a limit or the meaning of a field below changes: pinned tables written under
 * another number are rebuilt beside the old ones instead of being adopted. Counters are adopted whatever the
 * number is, when their tables have the same shape: what they count stays, so a row's fields never change. */
#define HG_ABI_VERSION 7

/* ---- limits ---------------------------------------------------------------------------------------- */

#define HG_PORTS	      256  /* port ids 1..255; 0 is "no such port" */
#define HG_IFINDEX_SLOTS      4096 /* open-addressed ifindex table, a power of two */
#define HG_IFINDEX_PROBES     8	   /* slots tried from (ifindex & mask) on */
#define HG_SETS		      256  /* prefix set ids 0..255 */
#define HG_SET_WORDS	      (HG_SETS / 64)
#define HG_ROOTS	      256 /* root records; one is used again only after a grace period */
#define HG_NEXT_HOPS_PER_PAGE 32
#define HG_NEXT_HOP_PAGES     128 /* 4096 next hops */
#define HG_TARGETS_PER_PAGE   32
#define HG_TARGET_PAGES	      2	 /* 64 steer targets */
#define HG_QUEUES_PER_PORT    64 /* RX queues a port may steer from */
#define HG_MROUTES_PER_PAGE   4
#define HG_MROUTE_PAGES	      256 /* 1023 multicast routes: ids from 1 on */
#define HG_LEGS_PER_PAGE      32
#define HG_LEG_PAGES	      256  /* 8191 legs of theirs, ids from 1 on */
#define HG_FANOUTS	      1024 /* different sets of egress ports */
#define HG_COUNTERS	      4096 /* named counters; id 0 is "none" */
#define HG_SAMPLE_BYTES	      256  /* packet bytes carried in a sample event */
#define HG_TREE_STACK	      14   /* pending subtrees a walk can hold: the BPF stack is small */
#define HG_LEAF_ENTRIES	      8	   /* entries of a leaf; longer lists are chains of nodes without a window */
#define HG_WINDOW_BITS	      8	   /* key bits one tree node may select by */
#define HG_NODES_PER_PAGE     32
#define HG_SLOTS_PER_PAGE     64
#define HG_RULES_PER_PAGE     16
#define HG_MATCHES_PER_PAGE   8
#define HG_PREFIXES_PER_PAGE  16
#define HG_VLAN_ANY	      0xffff
#define HG_TABLES	      12		    /* arrays that a generation is made of */
#define HG_RUN_CELLS	      (1 << HG_WINDOW_BITS) /* tables are sized in multiples of a node's most children */

/* ---- the match key --------------------------------------------------------------------------------- */

/* Word indexes of struct hg_key, as tree nodes name them. */
enum hg_key_word {
	HG_WORD_SRC = 0,      /* ..3; an IPv4 address is in the first word, the others are zero */
	HG_WORD_DST = 4,      /* ..7 */
	HG_WORD_PORTS = 8,    /* source << 16 | destination; ICMP: type << 8 | code as destination */
	HG_WORD_PROTO = 9,    /* protocol << 24 | DSCP << 16 | TCP flags << 8 | kind */
	HG_WORD_INGRESS = 10, /* port id << 16 | outer VLAN id (0: untagged or priority-tagged) */
	HG_WORD_EXTRA = 11,   /* inner VLAN id << 16 | packet length in bytes, from the L3 header on */
	HG_WORDS_USED = 12,
	HG_WORDS = 16, /* a power of two, so that a mask bounds the index for the verifier */
};

/* Kind bits: the low byte of HG_WORD_PROTO. */
enum hg_kind {
	HG_KIND_IPV4 = 1 << 0,
	HG_KIND_IPV6 = 1 << 1,
	HG_KIND_FRAGMENT = 1 << 2, /* any fragment of a larger packet */
	HG_KIND_LATER = 1 << 3,	   /* a fragment that is not the first: no L4 header */
	HG_KIND_PORTS = 1 << 4,	   /* the L4 header was parsed and has ports */
	HG_KIND_ICMP = 1 << 5,	   /* the ICMP or ICMPv6 header was parsed */
	HG_KIND_IP = 1 << 6,	   /* IPv4 or IPv6 */
};

#define HG_PROTO_SHIFT	   24
#define HG_DSCP_SHIFT	   16
#define HG_TCP_FLAGS_SHIFT 8

/* ---- the decision tree (ADR 2) --------------------------------------------------------------------- */

/* Where a subtree begins: 0 is the empty one; else index << HG_REF_SHIFT | count. With a count it is a leaf,
 * of `count` entries from `index` on in hg_rules or hg_prefixes, all within one page; rules are in falling
 * order of priority. Without one it is a node. */
#define HG_REF_SHIFT	  4
#define HG_REF_COUNT_MASK 15

/* A node selects one of the 1 << bits slots from `base` on, by a window of `bits` bits of key word `word`
 * from bit `shift` up. Entries that do not fix all bits of the window live in the subtree `rest`. Nodes are
 * few and visited often, so that they stay in the CPU's caches. */
struct hg_node {
	__u32 base;	 /* index into hg_slots */
	__u32 rest;	 /* a subtree */
	__u32 rest_prio; /* highest priority in it */
	__u8 word;
	__u8 shift;
	__u8 bits;
	__u8 pad;
};
HG_STATIC_ASSERT(sizeof(struct hg_node) == 16, "hg_node is four to a cache line");

struct hg_node_page {
	struct hg_node node[HG_NODES_PER_PAGE];
};

/* A child. Its priority is here, so that a subtree that cannot win is not touched. */
struct hg_slot {
	__u32 prio; /* highest in the subtree, 0: empty */
	__u32 ref;
};
HG_STATIC_ASSERT(sizeof(struct hg_slot) == 8, "hg_slot is eight to a cache line");

struct hg_slot_page {
	struct hg_slot slot[HG_SLOTS_PER_PAGE];
};

/* ---- rules ----------------------------------------------------------------------------------------- */

/* The kinds of packets that a rule asks for are at their places in enum hg_kind; the others of that, which
 * are rare, hg_match asks for. */
enum hg_rule_flags {
	HG_RULE_IPV4 = HG_KIND_IPV4,
	HG_RULE_IPV6 = HG_KIND_IPV6,
	HG_RULE_MATCH = 1 << 2,	       /* there is more to match: hg_matches at index `src` */
	HG_RULE_ANY_PROTOCOL = 1 << 3, /* do not compare `protocol` */
	HG_RULE_PORTS = HG_KIND_PORTS,
	HG_RULE_NAMED = 1 << 5, /* names its protocol: may drop essential frames */
	HG_RULE_IP = HG_KIND_IP,
	HG_RULE_MGMT = 1 << 7, /* an entry of the management allow-list */
};
#define HG_RULE_KINDS (HG_RULE_IPV4 | HG_RULE_IPV6 | HG_RULE_PORTS | HG_RULE_IP)

/* One match entry, in the leaf that lists it: two to a cache line, because misses are what a lookup among
 * many rules costs. All of a rule is here that asks for no more than an address's first word, ports and
 * protocol; of any other, what excludes most packets. A user's rule becomes one entry for each pair of its
 * source and destination port ranges; all carry its id. */
struct hg_rule {
	__u32 src; /* IPv4; with HG_RULE_MATCH, the index of the rest */
	__u32 dst; /* IPv4, or the first word of an IPv6 address */
	__u16 sport_min;
	__u16 sport_max;
	__u16 dport_min; /* ICMP: type << 8 | code */
	__u16 dport_max;
	__u32 prio;	/* higher wins; HG_PRIO_MGMT is reserved */
	__u32 id;	/* of the counters in hg_rule_stats, 0: not counted by rule */
	__u32 action;	/* index into hg_actions, below 2^24 */
	__u8 src_shift; /* low bits of src that are open, 0..32; with HG_RULE_MATCH 32 */
	__u8 dst_shift;
	__u8 protocol;
	__u8 flags; /* enum hg_rule_flags */
};
HG_STATIC_ASSERT(sizeof(struct hg_rule) == 32, "hg_rule is two to a cache line");

struct hg_rule_page {
	struct hg_rule rule[HG_RULES_PER_PAGE];
};

/* What else a match entry asks. */
struct hg_match {
	__u32 src[4];
	__u32 src_mask[4];
	__u32 dst_low[3]; /* address words 1..3 */
	__u32 dst_low_mask[3];
	__u32 proto; /* HG_WORD_PROTO value and mask */
	__u32 proto_mask;
	__u16 port; /* ingress port id, 0: any */
	__u16 vlan; /* outer VLAN id, HG_VLAN_ANY: any */
	__u16 inner_vlan;
	__u16 length_min; /* L3 bytes */
	__u16 length_max;
	__u16 src_set; /* set id + 1, 0: none */
	__u16 dst_set;
	__u16 pad;
};
HG_STATIC_ASSERT(sizeof(struct hg_match) == 80, "hg_match has no hidden padding");

struct hg_match_page {
	struct hg_match match[HG_MATCHES_PER_PAGE];
};

#define HG_PRIO_MGMT 0xffffffffU

/* One prefix of one set. */
struct hg_prefix {
	__u32 addr[4];
	__u32 set;
	__u32 length; /* bits, 0..32 or 0..128 */
};
HG_STATIC_ASSERT(sizeof(struct hg_prefix) == 24, "hg_prefix has no hidden padding");

struct hg_prefix_page {
	struct hg_prefix prefix[HG_PREFIXES_PER_PAGE];
};

/* ---- actions --------------------------------------------------------------------------------------- */

/* What becomes of a packet that matches. */
enum hg_verdict {
	HG_VERDICT_PASS = 0,
	HG_VERDICT_DROP = 1,
	HG_VERDICT_TX = 2,
	HG_VERDICT_REDIRECT = 3,
	HG_VERDICT_ROUTE = 4,
	HG_VERDICT_NEXT_HOP = 5,
	HG_VERDICT_STEER = 6,
};

enum hg_action_flags {
	HG_ACTION_DMAC = 1 << 0,	  /* write dmac */
	HG_ACTION_SMAC = 1 << 1,	  /* write smac */
	HG_ACTION_POLICE = 1 << 2,	  /* rate limit */
	HG_ACTION_POLICE_BITS = 1 << 3,	  /* cost is a byte's, not a packet's */
	HG_ACTION_POLICE_SOURCE = 1 << 4, /* a bucket for each source address */
	HG_ACTION_SWAP_IP = 1 << 5,	  /* TX: swap IP addresses too */
	HG_ACTION_SWAP_PORTS = 1 << 6,	  /* TX: swap ports too */
};

/* Time in policers is in units of 2^-14 ns, so that a byte at 100 Gbit/s (0.08 ns) still has three
 * significant digits; comparisons are modular, so that the wrap after 13 days does not matter. */
#define HG_POLICE_SHIFT 14

/* Shared by all rules with the same action. */
struct hg_action {
	__u8 verdict;  /* enum hg_verdict */
	__u8 flags;    /* enum hg_action_flags */
	__u16 port;    /* REDIRECT: egress port id */
	__u32 object;  /* NEXT_HOP: next hop id; STEER: target id */
	__u32 sample;  /* sample when a random u32 is below this; 0: never, 0xffffffff: always */
	__u32 counter; /* named counter id, 0: none */
	__u8 dmac[6];  /* network order, as on the wire */
	__u8 smac[6];
	__u32 pad;
	__u64 police_cost;  /* of a packet or byte, in 2^-14 ns */
	__u64 police_depth; /* the burst, in 2^-14 ns */
};
HG_STATIC_ASSERT(sizeof(struct hg_action) == 48, "hg_action has no hidden padding");

enum hg_next_hop_vlan {
	HG_NEXT_HOP_VLAN_KEEP = 0,  /* leave tags as they are */
	HG_NEXT_HOP_VLAN_STRIP = 1, /* remove the outer tag */
	HG_NEXT_HOP_VLAN_SET = 2,   /* set the outer VLAN id, pushing an 802.1Q tag where there is none */
};

struct hg_next_hop {
	__u16 port; /* egress port id, 0: no such next hop */
	__u16 vlan;
	__u8 dmac[6];
	__u8 smac[6];	    /* all zero: the egress device's own */
	__u8 vlan_mode;	    /* enum hg_next_hop_vlan */
	__u8 decrement_ttl; /* 1: forward as a router does */
	__u8 pad[6];
};
HG_STATIC_ASSERT(sizeof(struct hg_next_hop) == 24, "hg_next_hop has no hidden padding");

struct hg_next_hop_page {
	struct hg_next_hop hop[HG_NEXT_HOPS_PER_PAGE];
};

#include "hg_abi_steer.h"

#include "hg_abi_multicast.h"
#include "hg_abi_copier.h"

/* ---- generations ----------------------------------------------------------------------------------- */

enum hg_root_flags {
	HG_ROOT_SRC_SETS = 1 << 0, /* some rule asks for source set membership */
	HG_ROOT_DST_SETS = 1 << 1,
};

/* One generation of the whole configuration. A packet reads hg_active once and reaches every table entry
 * of its generation from the record that names; what a record reaches is never changed in place. */
struct hg_root {
	__u64 generation; /* the desired state's */
	__u32 rule_tree;  /* a subtree, 0: empty */
	__u32 set_tree4;
	__u32 set_tree6;
	/* HG_SETS slots from there on in hg_slots, 0: none: the trees of rules that name the source set, and
	 * of those that name the destination set and no source set. All other rules are in rule_tree. */
	__u32 src_set_slots;
	__u32 dst_set_slots;
	__u32 default_verdict;			/* HG_VERDICT_PASS or HG_VERDICT_DROP */
	__u32 flags;				/* enum hg_root_flags */
	__u32 target_page[HG_TARGET_PAGES];	/* index into hg_targets */
	__u32 next_hop_page[HG_NEXT_HOP_PAGES]; /* index into hg_next_hops */
	__u32 mroute_tree;			/* a subtree of entries that name routes, 0: empty */
	__u32 mroute_page[HG_MROUTE_PAGES];	/* index into hg_mroutes */
	__u32 leg_page[HG_LEG_PAGES];		/* index into hg_legs */
	__u32 extent[HG_TABLES]; /* values of each table that may be in use: what a restarted agent reads */
};
HG_STATIC_ASSERT(sizeof(struct hg_root) == 8 + 32 +
					       4 * (HG_TARGET_PAGES + HG_NEXT_HOP_PAGES + HG_MROUTE_PAGES +
						    HG_LEG_PAGES + HG_TABLES),
		 "hg_root has no hidden padding");

/* Which root record packets use. Written through a memory map; root and serial with one 64-bit store. */
struct hg_active {
	__u32 root;
	__u32
	    serial; /* differs after every change of the tables: what was remembered of them before is void */
	__u32 abi;  /* HG_ABI_VERSION of the tables */
	__u32 pad;
};
HG_STATIC_ASSERT(sizeof(struct hg_active) == 16, "hg_active has no hidden padding");

/* ---- ports: the environment, not part of a generation ------------------------------------------------ */

enum hg_port_flags {
	HG_PORT_NATIVE = 1 << 0, /* the program runs in the driver */
};

struct hg_port {
	__u32 ifindex; /* 0: the device does not exist now */
	__u32 mtu;     /* for who dumps the map; no program asks */
	__u8 mac[6];
	__u8 flags; /* enum hg_port_flags */
	__u8 pad;
};
HG_STATIC_ASSERT(sizeof(struct hg_port) == 16, "hg_port has no hidden padding");

/* By port id: what copies leave with that take the egress interface's address. In network order. */
struct hg_port_address {
	__u32 ip4;    /* the device's first IPv4 address, 0: none */
	__u32 ip6[4]; /* its first IPv6 address that is not link-local, or that; 0: none */
};

struct hg_ifindex {
	__u32 ifindex; /* 0: empty slot */
	__u32 port;
};

/* ---- reasons ----------------------------------------------------------------------------------------- */

enum hg_reason {
#define HG_REASON_ENUM(e, name, class, text) HG_REASON_##e,
	HG_REASONS(HG_REASON_ENUM)
#undef HG_REASON_ENUM
	HG_REASON_COUNT,
};

/* Reasons a port's counters have room for; appending reasons does not move counters. */
#define HG_REASON_SLOTS 128
HG_STATIC_ASSERT(HG_REASON_COUNT <= HG_REASON_SLOTS, "hg_port_stats has a row for every reason");

/* ---- counters: per CPU, kept across generations, restarts and upgrades ------------------------------- */

struct hg_count {
	__u64 packets;
	__u64 bytes; /* frame bytes, without FCS */
};

/* By rule id. */
struct hg_rule_count {
	__u64 packets; /* matched */
	__u64 bytes;
	__u64 limited; /* of the packets, those dropped by the rule's rate limit */
};

/* What a rule has counted lately, in one word, so that 100,000 rules' are a third of what they would be and
 * more of them stay in the CPU's caches: packets in the lower bits, bytes above. When the packets' bits are
 * all set the word is carried over into hg_rule_count; who reads such a word reads both again. */
#define HG_RECENT_PACKET_BITS 20
#define HG_RECENT_PACKETS     ((1ULL << HG_RECENT_PACKET_BITS) - 1)

/* In pages, because the kernel keeps a pointer for each value of a per-CPU array, and looking one up among
 * 100,000 costs as much as the counter itself. */
#define HG_RULE_COUNTS_PER_PAGE 64

struct hg_rule_count_page {
	struct hg_rule_count rule[HG_RULE_COUNTS_PER_PAGE];
};

struct hg_recent_page {
	__u64 rule[HG_RULE_COUNTS_PER_PAGE];
};

/* Egress by device, from the kernel's xdp tracepoints: what became of frames after the program let go. */
struct hg_egress {
	__u64 sent;    /* frames the driver took */
	__u64 dropped; /* frames the driver refused: ring full, link down */
	__u64 refused; /* frames the kernel refused to queue: too long, device gone or down */
};

/* On each CPU, which of the programs attached to the tracepoints counts egress. A newer one is attached
 * beside it; told of that by `next`, the one that counts hands over. */
struct hg_egress_owner {
	__u32 incarnation; /* counts the program whose constant equals this */
	__u32 devmap_id;   /* the kernel's id of hg_devmap, by which redirect errors are told to be ours */
	__u32 next;	   /* the incarnation that takes over, 0: none */
	__u32 pad;
};
HG_STATIC_ASSERT(sizeof(struct hg_egress_owner) == 16, "hg_egress_owner has no hidden padding");

/* ---- events and traces ------------------------------------------------------------------------------- */

struct hg_sample {
	__u64 time; /* CLOCK_MONOTONIC, ns; as ifindex for who reads the ring or a dump of it */
	__u32 rule_id;
	__u32 ifindex;
	__u32 port;
	__u32 reason;	/* enum hg_reason, before the action's own failures */
	__u32 length;	/* frame bytes on the wire */
	__u32 captured; /* bytes of data that are valid */
	__u8 data[HG_SAMPLE_BYTES];
};

/* The stages a packet passes through; the last one of a packet ended its way. */
enum hg_stage {
	HG_STAGE_PARSE = 1 << 0,
	HG_STAGE_CLASSIFY = 1 << 1,
	HG_STAGE_POLICE = 1 << 2,
	HG_STAGE_FORWARD = 1 << 3,
	HG_STAGE_STEER = 1 << 4,
	HG_STAGE_MULTICAST = 1 << 5,
};

/* What one traced packet met; written by the trace entry point only. */
struct hg_trace {
	__u64 generation;
	__u32 rule_id; /* 0: none matched */
	__u32 action;
	__u32 reason;
	__u32 egress_port;
	__u32 stages;	    /* enum hg_stage bits passed */
	__u32 steps;	    /* of the walk: nodes and leaves */
	__u32 ingress_port; /* in: the port to pretend, 0: by ifindex */
	__u32 mroute;	    /* id of the multicast route, 0: none */
	__u32 key[HG_WORDS];
};

#endif /* HG_ABI_H */
