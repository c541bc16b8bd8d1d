/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Multicast routes: a part of hg_abi.h. */
#ifndef HG_ABI_MULTICAST_H
#define HG_ABI_MULTICAST_H

#include <linux/bpf.h>

/* Of the ids that entries of the multicast tree carry, beside the route's own. */
#define HG_ID_MROUTE   0x80000000U
#define HG_ID_LEFT_OUT 0x40000000U /* the route leaves this sender out */
#define HG_MROUTES     (HG_MROUTE_PAGES * HG_MROUTES_PER_PAGE)
#define HG_LEGS	       (HG_LEG_PAGES * HG_LEGS_PER_PAGE)

/* ---- feeds: packets told apart by a sequence number or by content -------------------------------- */

enum hg_feed_flags {
	HG_FEED_DROP = 1 << 0,		/* drop duplicates */
	HG_FEED_LITTLE_ENDIAN = 1 << 1, /* the sequence number */
};

/* How a route's packets are told apart. Redundant routes share a feed. */
struct hg_feed_key {
	__u16 feed;   /* index into hg_feeds, 0: they are not */
	__u16 offset; /* of the sequence number, in bytes after the UDP header */
	__u16 window; /* sequence numbers, 1 to HG_FEED_WINDOW; without them milliseconds */
	__u8 width; /* of the sequence number: 1, 2, 4 or 8 bytes; 0: none, packets are told apart by content
		     */
	__u8 flags; /* enum hg_feed_flags */
};
HG_STATIC_ASSERT(sizeof(struct hg_feed_key) == 8, "hg_feed_key has no hidden padding");

#define HG_FEED_WINDOW 4096    /* a power of two */
#define HG_FEED_JUMP   1000000 /* a sequence number further ahead is another run's */
#define HG_FEED_QUIET                                                                                        \
	1000000000 /* ns without a higher number, after which one that is not is another run's */

/* By feed: what came. All but `lock` is adopted as counters are. */
struct hg_feed {
	struct bpf_spin_lock lock;
	__u32 begun;	  /* numbers up to the highest that are told, HG_FEED_WINDOW at most; 0: there was no
			     packet */
	__u64 next;	  /* one above the highest sequence number */
	__u64 time;	  /* CLOCK_MONOTONIC when that came, ns */
	__u64 packets;	  /* that were new */
	__u64 duplicates; /* that were not */
	__u64 missing;	  /* sequence numbers that did not come */
	__u64 late;	  /* packets that were new but not the highest; no longer missing */
	__u64 stale;	  /* packets from behind the window, of which it cannot be said */
	__u64 restarts;	  /* of the sequence */
	__u64 unread;	  /* packets without the sequence number: too short, later fragments */
	__u64 seen[HG_FEED_WINDOW / 64]; /* bits by sequence number modulo HG_FEED_WINDOW */
};

/* Packets by content, the value being the time when the first came, CLOCK_MONOTONIC, ns. */
struct hg_content {
	__u64 hash;
	__u32 length; /* of the payload */
	__u32 feed;
};
#define HG_CONTENTS 131072

/* ---- listeners ------------------------------------------------------------------------------------- */

/* Who asks for multicast behind a port (RFC 3376, RFC 3810): whether packets of the group from `source` are
 * wanted there, or, with a source of 0, from all for whom there is no entry. The environment, not part of a
 * generation: kept by the agent from the reports that it hears, and there while the agent is not. */
struct hg_listener {
	__u32 port;
	__u32 group[4];	 /* in network order, as on the wire; IPv4 in the first word */
	__u32 source[4]; /* likewise */
};
#define HG_LISTENERS 65536

/* ---- routes and legs ------------------------------------------------------------------------------- */

/* What is found for a packet in the multicast tree. Its copies on the kernel's path go to the ports of one
 * fanout, one leg a port; on the other path a worker makes them, and all is 0. */
struct hg_mroute {
	__u32 fanout; /* index into hg_fanout_maps, 0: a worker replicates */
	__u16 ports;  /* of the fanout */
	__u16 pad;
	struct hg_feed_key feed;
	__u8 port[HG_PORTS];	     /* their ids, the first `ports` of these */
	__u16 leg_of_port[HG_PORTS]; /* leg id, by egress port id; 0: none */
};
HG_STATIC_ASSERT(sizeof(struct hg_mroute) == 16 + 3 * HG_PORTS, "hg_mroute has no hidden padding");

struct hg_mroute_page {
	struct hg_mroute route[HG_MROUTES_PER_PAGE];
};

enum hg_leg_flags {
	HG_LEG_SOURCE = 1 << 0,	       /* write src */
	HG_LEG_SOURCE_EGRESS = 1 << 1, /* write the egress port's address */
	HG_LEG_DESTINATION = 1 << 2,   /* write dst and dmac */
	HG_LEG_SOURCE_PORT = 1 << 3,
	HG_LEG_DESTINATION_PORT = 1 << 4,
	HG_LEG_DSCP = 1 << 5,
	HG_LEG_TTL = 1 << 6,	/* write ttl instead of one less than it was */
	HG_LEG_POLICE = 1 << 7, /* rate limit */
	HG_LEG_POLICE_BITS = 1 << 8,
	HG_LEG_ON_JOIN = 1 << 9, /* only what hg_listeners has */
};

/* What becomes of a route's packets for one of its egress interfaces. */
struct hg_leg {
	__u32 src[4]; /* in network order, as on the wire; IPv4 in the first word */
	__u32 dst[4];
	__u16 sport; /* network order */
	__u16 dport;
	__u16 port;  /* egress port id, 0: no such leg */
	__u16 flags; /* enum hg_leg_flags */
	__u16 vlan;
	__u8 vlan_mode; /* enum hg_next_hop_vlan */
	__u8 ttl;
	__u8 ttl_threshold; /* packets that would leave with less are dropped */
	__u8 dscp;
	__u8 dmac[6];
	__u32 pad;
	__u64 police_cost;  /* of a packet or byte, in 2^-14 ns */
	__u64 police_depth; /* the burst, in 2^-14 ns */
};
HG_STATIC_ASSERT(sizeof(struct hg_leg) == 72, "hg_leg has no hidden padding");

struct hg_leg_page {
	struct hg_leg leg[HG_LEGS_PER_PAGE];
};

/* The ports that packets are replicated to: what the map of the same index in hg_fanout_maps is made of.
 * Shared by all routes with the same ports; for user space alone. */
struct hg_fanout {
	__u64 ports[HG_PORTS / 64]; /* bits by port id */
};

/* Of a fanout's devices as they are now: the environment, not part of a generation. */
struct hg_fanout_state {
	__u32 mtu; /* the largest network packet that all of them take; 0: workers are to replicate */
	__u32 pad;
};

/* What the program at the egress is told of a copy, in the XDP metadata right before its first byte. */
struct hg_leg_meta {
	__u64 stamp; /* of the tables */
	__u16 route;
	__u16 l3;  /* offset of the network header */
	__u16 l4;  /* offset of the transport header; of nothing unless HG_KIND_PORTS is in kind */
	__u8 kind; /* enum hg_kind */
	__u8 protocol;
};
HG_STATIC_ASSERT(sizeof(struct hg_leg_meta) == 16, "metadata is at most 32 bytes before kernel 6.8");

/* By route id. */
struct hg_mroute_last {
	__u64 time; /* CLOCK_MONOTONIC when the last packet came, ns, some ms off */
};

/* By leg id; of copies that the kernel makes, and, shared by all workers, of theirs. Of both together,
 * offered = packets + all drops + what the kernel did not take: its device is down or gone, or memory was
 * short. */
struct hg_leg_count {
	__u64 offered;	   /* packets of the route, since the leg is there */
	__u64 packets;	   /* sent */
	__u64 bytes;	   /* frame bytes, without FCS */
	__u64 ttl;	   /* dropped: TTL expired, or below the threshold */
	__u64 limited;	   /* dropped by the leg's rate limit */
	__u64 no_source;   /* dropped: the egress interface has no address */
	__u64 malformed;   /* dropped: no room for a VLAN tag, or headers beyond the first buffer */
	__u64 no_listener; /* dropped: nobody at the egress interface asks for it */
	/* By workers alone. */
	__u64 no_neighbour; /* dropped: no next hop for a unicast destination */
	__u64 too_big;	    /* dropped: larger than the MTU, and not to be fragmented */
	__u64 tx_full;	    /* dropped: no frame, no room in the transmit ring, or no socket */
	__u64 fragments;    /* sent beyond the first of a packet */
};

#endif /* HG_ABI_MULTICAST_H */
