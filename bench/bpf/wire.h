/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * What hgbench's sender and receiver agree on, and what the sender's program is told. Plain C that clang's
 * BPF target and g++ accept.
 */
#ifndef HGB_WIRE_H
#define HGB_WIRE_H

#include <linux/types.h>

#define HGB_MAGIC	 0x4867
#define HGB_RECORD_BYTES 18 /* a UDP packet over IPv4 in the smallest frame, 60 bytes, has no more */
#define HGB_TIME_BITS	 48
#define HGB_TIME_MASK	 ((1ULL << HGB_TIME_BITS) - 1)

/* A number that was given to a frame the device refused, and now to a later one: behind its turn from the
 * start, which no path between sender and receiver is to blame for. */
#define HGB_NUMBER_RETRIED (1ULL << 63)
#define HGB_NUMBER_MASK	   (HGB_NUMBER_RETRIED - 1)

/* Directly after the UDP or TCP header; network order. */
struct hgb_record {
	__be16 magic;
	__be16 stream;
	__be64 number;	  /* 0, 1, 2 ... of the stream; top bit HGB_NUMBER_RETRIED */
	__be16 time_high; /* CLOCK_MONOTONIC in ns, modulo 2^48: three days */
	__be32 time_low;
} __attribute__((packed));

#define HGB_TEMPLATE_WORDS   50	 /* the longest headers: IPv6 in GENEVE with all options in IPv6, and TCP */
#define HGB_PORTS_PER_SOURCE 256 /* flows f with equal f / 256 differ by port, others by address */

#define HGB_GENEVE_PORT	     6081  /* RFC 8926, section 3.3 */
#define HGB_OUTER_FIRST_PORT 49152 /* outer source ports are dynamic ones (RFC 6335), by flow */
#define HGB_OUTER_PORTS	     16384

/* The start of every frame, up to the record's end, and where in it flow, number and time belong. Sums are
 * ones' complement sums over all but the fields that vary, in the byte order of memory (RFC 1071, section 2).
 */
struct hgb_template {
	__u64 words[HGB_TEMPLATE_WORDS];
	__u32 bytes;	   /* used of words; a multiple of 4 */
	__u32 source;	   /* offset of the last 32 bits of the source address */
	__u32 source_port; /* offset */
	__u32 record;	   /* offset */
	__u32 ip_check;	   /* offset of the IPv4 header checksum, 0: none */
	__u32 ip_sum;
	__u32 l4_check; /* offset of the TCP or UDP checksum, 0: none */
	__u32 l4_sum;
	__u32 first_source; /* of flow 0, host order */
	__u32 first_port;
	__u32 flows;
	/* Destinations in turn, consecutive: each flow goes to all. 1: what follows is not used. */
	__u32 groups;
	__u32 first_destination; /* its last 32 bits, host order */
	__u32 destination;	 /* offset of the last 32 bits of the destination address */
	__u32 mac_mask;	  /* bits of the group's address in its Ethernet address, 0: that stays as it is */
	__u32 mac_base;	  /* the other bits of its last 32, host order */
	__u32 outer_port; /* offset of a tunnel's source port, 0: there is no tunnel */
	/* Of frames of several sizes, whose sums are without what their length is in; 0: all are of one. */
	__u32 sizes;
	__u32 ip_length;   /* offset of the IPv4 total or the IPv6 payload length */
	__u32 ip_overhead; /* bytes of a frame that it does not count */
	__u32 l4;	   /* offset of the TCP or UDP header */
	__u32 udp_length;  /* offset of UDP's length, 0: none */
	/* The same of a tunnel's headers. */
	__u32 outer_ip_length;
	__u32 outer_ip_overhead;
	__u32 outer_ip_check;
	__u32 outer_ip_sum;
	__u32 outer_l4;
	__u32 outer_udp_length;
};

/* Frames have the sizes of a sequence in turn, which is no longer than this; a power of two. */
#define HGB_SIZES 256

/* A frame that is sent as it was captured. */
#define HGB_FRAME_BYTES 3300 /* of the longest that a page of a prog run has room for */

struct hgb_captured {
	__u32 size;
	__u8 bytes[HGB_FRAME_BYTES];
};

/* A new number is given only when none is left over from a refused frame, so that at most a bulk's 16 and
 * that of the frame which pushes the bulk out are not settled. */
#define HGB_NUMBERS 32

struct hgb_numbers {
	__u64 number[HGB_NUMBERS]; /* a ring */
	__u32 first;
	__u32 count;
};

#endif /* HGB_WIRE_H */
