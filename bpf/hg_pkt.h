/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * What the stages hand to each other: one packet as plain values and offsets, and the decision taken on it.
 * Only parse, forward and the sample event touch packet memory; every other stage works on this struct.
 */
#ifndef HG_PKT_H
#define HG_PKT_H

#include <linux/bpf.h>
#include <stdbool.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "hg_abi.h"

/* A stage is a global function: the verifier checks it once, alone, for any packet, instead of once for each
 * of the thousands of ways through the stages before it. It may take the context and plain structs, each
 * checked for NULL first; it returns a number. */
#define HG_STAGE __attribute__((noinline))

/* A helper of other translation units that returns or takes map pointers: libbpf makes hidden functions
 * static, and the verifier follows calls into those with the caller's knowledge of every argument. */
#define HG_HELPER __hidden

enum hg_pkt_flags {
	HG_PKT_ESSENTIAL = 1 << 0, /* ARP, ND, IGMP, MLD, LLDP */
	HG_PKT_GROUP = 1 << 1,	   /* multicast or broadcast destination, at L2 or L3 */
	HG_PKT_TRACE = 1 << 2,	   /* a traced packet: leaves no mark outside hg_trace */
	HG_PKT_BY_LENGTH = 1 << 3, /* its length was looked at to classify it */
};

struct hg_pkt {
	union {
		__u32 key[HG_WORDS];	   /* the match key, enum hg_key_word */
		__u64 pairs[HG_WORDS / 2]; /* the same, two words at a time */
	};
	__u64 stamp;	 /* of the tables, see hg_stamp */
	__u32 length;	 /* frame bytes */
	__u32 port;	 /* ingress port id, 0: not an interface of ours */
	__u16 l3;	 /* offset of the network header */
	__u16 l4;	 /* offset of the transport header; of nothing in later fragments */
	__u16 ethertype; /* host order, after VLAN tags */
	__u8 vlan_tags;	 /* 0..2 */
	__u8 flags;	 /* enum hg_pkt_flags */

	__u32 rule_id;
	__u32 rule_flags; /* enum hg_rule_flags */
	__u32 action;	  /* index into hg_actions, 0: no rule matched */
	__u32 reason;	  /* enum hg_reason */
	__u32 egress_port;
	__u32 counter; /* named counter id, 0: none */
	__u32 mroute;  /* id of the multicast route, 0: none */
	__u32 stages;  /* enum hg_stage bits passed, for traces */
	__u32 steps;   /* tree nodes visited, for traces */
};

/* Two words of the key as they lie in memory. */
static __always_inline __u64 hg_pair(__u32 first, __u32 second)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	return (__u64)second << 32 | first;
#else
	return (__u64)first << 32 | second;
#endif
}

static __always_inline bool hg_is_traced(const struct hg_pkt *pkt)
{
	return pkt->flags & HG_PKT_TRACE;
}

static __always_inline __u32 hg_protocol(const struct hg_pkt *pkt)
{
	return pkt->key[HG_WORD_PROTO] >> HG_PROTO_SHIFT;
}

static __always_inline __u32 hg_kind(const struct hg_pkt *pkt)
{
	return pkt->key[HG_WORD_PROTO] & 0xff;
}

/* Room for `size` bytes of XDP metadata right before the packet, for a constant `size`; NULL: there is none.
 */
static __always_inline void *hg_add_meta(struct xdp_md *ctx, __u32 size)
{
	int foreign = ctx->data - ctx->data_meta;
	void *meta;

	if (bpf_xdp_adjust_meta(ctx, foreign - (int)size))
		return NULL;
	meta = (void *)(long)ctx->data_meta;
	return meta + size > (void *)(long)ctx->data ? NULL : meta;
}

/* A drop by a rule that does not name the protocol, by default or by fallback, must not cut the operator's
 * link. */
static __always_inline bool hg_spares(const struct hg_pkt *pkt)
{
	return (pkt->flags & HG_PKT_ESSENTIAL) && !(pkt->rule_flags & HG_RULE_NAMED);
}

#endif /* HG_PKT_H */
