/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Flow: what classification answered for recent packets, so that the next one of a flow is spared the walk
 * (ADR 9). An answer is as good as the walk: it is found by the whole match key but the packet's length, is
 * kept only when no rule on the way asked for that, and holds for the one stamp of the tables it was made
 * under.
 */
#ifndef HG_FLOW_H
#define HG_FLOW_H

#include "hg_pkt.h"

#define HG_FLOWS_BITS 11
#define HG_FLOWS      (1 << HG_FLOWS_BITS) /* of each CPU, 64 bytes each */

/* Words of the key, two by two; the last one is without the length. */
#define HG_FLOW_WORDS (HG_WORDS_USED / 2)
#define HG_FLOW_EXTRA (HG_FLOW_WORDS - 1)

struct hg_flow {
	__u64 pairs[HG_FLOW_WORDS];
	__u64 stamp; /* of the tables it was found in, 0: empty */
	__u32 rule_id;
	__u32 answer; /* action << 8 | enum hg_rule_flags of the rule, 0: none matches */
};
HG_STATIC_ASSERT(sizeof(struct hg_flow) == 64, "hg_flow is a cache line");

struct hg_flows_map {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, HG_FLOWS);
	__type(key, __u32);
	__type(value, struct hg_flow);
};
extern struct hg_flows_map hg_flows SEC(".maps");

/* Set before loading: a constant to the verifier, which leaves out what is switched off. */
extern const volatile __u8 use_flow_cache;

/* The last pair without the packet's length. */
static __always_inline __u64 hg_flow_extra(const struct hg_pkt *pkt)
{
	return pkt->pairs[HG_FLOW_EXTRA] & ~hg_pair(0, 0xffff);
}

/* Where the flow is remembered, if it is. Others' packets may choose to meet there: that costs them the walk.
 */
static __always_inline struct hg_flow *hg_flow_slot(const struct hg_pkt *pkt)
{
	__u64 mix = pkt->pairs[0] + pkt->pairs[1] + 3 * (pkt->pairs[2] + pkt->pairs[3]);
	__u32 slot;

	mix = (mix ^ pkt->pairs[4]) + hg_flow_extra(pkt);
	slot = (mix * 0x9e3779b97f4a7c15ULL) >> (64 - HG_FLOWS_BITS);
	return bpf_map_lookup_elem(&hg_flows, &slot);
}

/* The flow's answer, NULL: not remembered. */
static __always_inline const struct hg_flow *hg_find_flow(const struct hg_pkt *pkt)
{
	const struct hg_flow *flow = hg_flow_slot(pkt);

	if (!flow || flow->stamp != pkt->stamp)
		return NULL;
	if ((flow->pairs[0] ^ pkt->pairs[0]) | (flow->pairs[1] ^ pkt->pairs[1]) |
	    (flow->pairs[2] ^ pkt->pairs[2]) | (flow->pairs[3] ^ pkt->pairs[3]) |
	    (flow->pairs[4] ^ pkt->pairs[4]) | (flow->pairs[5] ^ hg_flow_extra(pkt)))
		return NULL;
	return flow;
}

static __always_inline void hg_take_flow(struct hg_pkt *pkt, const struct hg_flow *flow)
{
	pkt->rule_id = flow->rule_id;
	pkt->rule_flags = flow->answer & 0xff;
	pkt->action = flow->answer >> 8;
}

static __always_inline void hg_keep_flow(const struct hg_pkt *pkt)
{
	struct hg_flow *flow = hg_flow_slot(pkt);
	int i;

	if (!flow)
		return;
	for (i = 0; i < HG_FLOW_EXTRA; i++)
		flow->pairs[i] = pkt->pairs[i];
	flow->pairs[HG_FLOW_EXTRA] = hg_flow_extra(pkt);
	flow->rule_id = pkt->rule_id;
	flow->answer = pkt->action << 8 | pkt->rule_flags;
	flow->stamp = pkt->stamp;
}

#endif
