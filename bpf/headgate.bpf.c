// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * The entry points: one packet from first byte to the one exit that counts it, and the same for a traced
 * packet, which leaves no mark but its record.
 */
#include "classify.h"
#include "flow.h"
#include "forward.h"
#include "multicast.h"
#include "parse.h"
#include "police.h"
#include "stats.h"
#include "steer.h"
#include "tables.h"

/* Interned by the compiler: a few records serve all rules. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct hg_action);
} hg_actions SEC(".maps");

static __always_inline int leave(struct hg_pkt *pkt, enum hg_reason reason, int xdp_action)
{
	pkt->reason = reason;
	return xdp_action;
}

/* Multicast that no rule drops or sends elsewhere is replicated where a route is for it. */
static __always_inline int pass(struct xdp_md *ctx, struct hg_pkt *pkt)
{
	int verdict = HG_NO_MROUTE;

	if ((pkt->flags & HG_PKT_GROUP) && !(pkt->rule_flags & HG_RULE_MGMT))
		verdict = hg_multicast(ctx, pkt);
	return verdict == HG_NO_MROUTE ? XDP_PASS : verdict;
}

static __always_inline int apply_default(struct xdp_md *ctx, struct hg_pkt *pkt)
{
	const struct hg_root *root = hg_generation(pkt->stamp);
	int verdict;

	if (!root)
		return leave(pkt, HG_REASON_DROP_INTERNAL, XDP_DROP);
	pkt->reason = HG_REASON_PASS_DEFAULT;
	verdict = pass(ctx, pkt);
	if (verdict != XDP_PASS || root->default_verdict == HG_VERDICT_PASS)
		return verdict;
	if (hg_spares(pkt))
		return leave(pkt, HG_REASON_PASS_ESSENTIAL, XDP_PASS);
	return leave(pkt, HG_REASON_DROP_DEFAULT, XDP_DROP);
}

/* What a sample says: the reason the packet leaves by unless its action fails. */
static __always_inline enum hg_reason intended(const struct hg_pkt *pkt, int verdict)
{
	switch (verdict) {
	case HG_VERDICT_TX:
		return HG_REASON_FORWARD_TX;
	case HG_VERDICT_REDIRECT:
		return HG_REASON_FORWARD_REDIRECT;
	case HG_VERDICT_ROUTE:
		return HG_REASON_FORWARD_ROUTE;
	case HG_VERDICT_NEXT_HOP:
		return HG_REASON_FORWARD_NEXT_HOP;
	case HG_VERDICT_STEER:
		return HG_REASON_FORWARD_STEER;
	}
	return pkt->reason;
}

static __always_inline int apply_rule(struct xdp_md *ctx, struct hg_pkt *pkt)
{
	struct hg_action *action = bpf_map_lookup_elem(&hg_actions, &pkt->action);
	int verdict;

	if (!action)
		return leave(pkt, HG_REASON_DROP_INTERNAL, XDP_DROP);
	pkt->counter = action->counter;
	pkt->reason = pkt->rule_flags & HG_RULE_MGMT ? HG_REASON_PASS_MANAGEMENT : HG_REASON_PASS_RULE;
	verdict = action->verdict;
	if ((action->flags & HG_ACTION_POLICE) && !hg_spares(pkt) && !hg_police(action, pkt))
		return leave(pkt, HG_REASON_DROP_RATE_LIMIT, XDP_DROP);
	if (verdict == HG_VERDICT_DROP)
		pkt->reason = hg_spares(pkt) ? HG_REASON_PASS_ESSENTIAL : HG_REASON_DROP_RULE;
	if (action->sample && !hg_is_traced(pkt)) {
		pkt->reason = intended(pkt, verdict);
		hg_sample_packet(ctx, pkt, action->sample);
	}

	switch (verdict) {
	case HG_VERDICT_PASS:
		return pass(ctx, pkt);
	case HG_VERDICT_DROP:
		return pkt->reason == HG_REASON_DROP_RULE ? XDP_DROP : XDP_PASS;
	case HG_VERDICT_TX:
		return hg_tx(ctx, pkt, action);
	case HG_VERDICT_REDIRECT:
		return hg_redirect(ctx, pkt, action);
	case HG_VERDICT_ROUTE:
		return hg_route(ctx, pkt);
	case HG_VERDICT_NEXT_HOP:
		return hg_to_next_hop(ctx, pkt, hg_generation(pkt->stamp), action->object);
	case HG_VERDICT_STEER:
		return hg_steer(ctx, pkt, hg_generation(pkt->stamp), action->object);
	}
	return leave(pkt, HG_REASON_DROP_INTERNAL, XDP_DROP);
}

/* Searches the trees of the sets that the packet's addresses are in. */
static __always_inline __u64 search_sets(const struct hg_root *root, struct hg_pkt *pkt, __u64 best)
{
	struct hg_sets sets = {};
	__u32 word;

	if (!hg_find_sets(root, pkt, &sets))
		return HG_NO_ENTRY;
#pragma unroll /* a counter would not fit this frame, see HG_TREE_STACK */
	for (word = 0; word < 2 * HG_SET_WORDS && best != HG_NO_ENTRY; word++)
		if (sets.words[word])
			best = hg_search_sets(root, pkt, &sets, word, best);
	return best;
}

static __always_inline bool search(struct hg_pkt *pkt)
{
	const struct hg_root *root = hg_generation(pkt->stamp);
	__u64 best = 0;

	if (!root)
		return false;
	if (root->rule_tree)
		best = hg_search_tree(pkt, NULL, root->rule_tree, 0);
	if (root->flags && best != HG_NO_ENTRY)
		best = search_sets(root, pkt, best);
	return best != HG_NO_ENTRY;
}

/* By what was found for an earlier packet of the flow, if it is remembered. A trace shows the search. */
static __always_inline bool classify(struct hg_pkt *pkt)
{
	const struct hg_flow *flow = use_flow_cache && !hg_is_traced(pkt) ? hg_find_flow(pkt) : NULL;

	if (flow) {
		hg_take_flow(pkt, flow);
		return true;
	}
	pkt->stages |= HG_STAGE_CLASSIFY;
	if (!search(pkt))
		return false;
	if (use_flow_cache && !(pkt->flags & HG_PKT_BY_LENGTH) && !hg_is_traced(pkt))
		hg_keep_flow(pkt);
	return true;
}

static __always_inline int decide(struct xdp_md *ctx, struct hg_pkt *pkt)
{
	if (!hg_root_index(pkt->stamp) || !pkt->port)
		return leave(pkt, HG_REASON_PASS_UNCONFIGURED, XDP_PASS);
	pkt->stages |= HG_STAGE_PARSE;
	if (!hg_parse_common(ctx, pkt) && !hg_parse(ctx, pkt))
		return XDP_DROP;
	if (!classify(pkt))
		return leave(pkt, HG_REASON_DROP_INTERNAL, XDP_DROP);
	return pkt->action ? apply_rule(ctx, pkt) : apply_default(ctx, pkt);
}

static __always_inline void arrive(struct xdp_md *ctx, struct hg_pkt *pkt)
{
	pkt->stamp = hg_stamp();
	pkt->length = bpf_xdp_get_buff_len(ctx);
	pkt->port = hg_port_of(ctx->ingress_ifindex);
}

SEC("xdp.frags")
int headgate(struct xdp_md *ctx)
{
	struct hg_pkt pkt = {};
	int verdict;

	arrive(ctx, &pkt);
	verdict = decide(ctx, &pkt);
	hg_count_packet(&pkt);
	return verdict;
}

SEC("xdp.frags")
int headgate_trace(struct xdp_md *ctx)
{
	struct hg_pkt pkt = {.flags = HG_PKT_TRACE};
	__u32 port = hg_trace_port();
	int verdict;

	arrive(ctx, &pkt);
	if (port)
		pkt.port = port;
	verdict = decide(ctx, &pkt);
	hg_record_trace(&pkt, hg_generation(pkt.stamp));
	return verdict;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
