// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * Steer: owns the steer targets and the AF_XDP sockets. A socket receives only from the device and queue it
 * is bound to, so the packet's own queue is the only choice there is in the kernel; spreading beyond it is
 * the workers'.
 */
#include "steer.h"

struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, HG_PORTS *HG_QUEUES_PER_PORT);
	__type(key, __u32);
	__type(value, __u32);
} hg_xsks SEC(".maps");

/* Written by workers through a memory map, but for `given`. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, HG_PORTS *HG_QUEUES_PER_PORT);
	__type(key, __u32);
	__type(value, struct hg_queue);
} hg_queues SEC(".maps");

/* Written by the agent through a memory map. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, HG_TARGETS);
	__type(key, __u32);
	__type(value, struct hg_target_state);
} hg_target_state SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct hg_target_page);
} hg_targets SEC(".maps");

static __always_inline bool is_served(const struct hg_queue *queue)
{
	/* Signed: a beat may be newer than the clock that is read here, which ticks. */
	return (__s64)(bpf_ktime_get_coarse_ns() - queue->beat) < (__s64)HG_BEAT_NS;
}

static __always_inline bool is_absent(__u32 target)
{
	struct hg_target_state *state = bpf_map_lookup_elem(&hg_target_state, &target);

	return !state || state->absent;
}

/* A function of its own so that BTF has struct hg_steer_meta, for who reads frames by it. */
static __attribute__((noinline)) void fill_meta(struct hg_steer_meta *meta, const struct hg_pkt *pkt,
						__u32 target)
{
	meta->rule_id = target == HG_TARGET_MULTICAST ? pkt->mroute : pkt->rule_id;
	meta->target = target;
	meta->port = pkt->port;
	meta->l3 = pkt->l3;
	meta->l4 = pkt->l4;
	meta->kind = hg_kind(pkt);
}

/* Puts what workers are told before the packet. Not into a trace's output, which nobody receives. */
static __always_inline bool describe(struct xdp_md *ctx, const struct hg_pkt *pkt, __u32 target)
{
	struct hg_steer_meta *meta;

	if (hg_is_traced(pkt))
		return true;
	meta = hg_add_meta(ctx, sizeof(*meta));
	if (!meta)
		return false;
	fill_meta(meta, pkt, target);
	return true;
}

static __always_inline bool fits(const struct xdp_md *ctx, const struct hg_pkt *pkt,
				 const struct hg_queue *queue)
{
	return (queue->flags & HG_QUEUE_FRAGS) || pkt->length <= (__u32)(ctx->data_end - ctx->data);
}

/* How many packets wait for the queue's worker: it does not look while this CPU hands it a burst. Of what was
 * counted as given the ring may have refused some, which a look mends. */
static __always_inline __u32 waiting(const struct hg_queue *queue)
{
	__u64 looked = *(const volatile __u64 *)&queue->looked;

	__s32 since = queue->given - (__u32)(looked >> 32);

	return (__u32)looked + (since > 0 ? since : 0);
}

/* Hands the packet to the socket of its queue, or drops it for that one's worker; pkt->reason says which.
 * False when there is no worker to take it. */
static __always_inline bool settle(struct xdp_md *ctx, struct hg_pkt *pkt, const struct hg_target *target,
				   __u32 id)
{
	__u32 number = ctx->rx_queue_index, index = pkt->port * HG_QUEUES_PER_PORT + number;
	struct hg_queue *queue;

	if (number >= HG_QUEUES_PER_PORT)
		return false;
	queue = bpf_map_lookup_elem(&hg_queues, &index);
	if (!queue || !is_served(queue) || is_absent(id) || !fits(ctx, pkt, queue))
		return false;
	/* Here and not by the worker, which would have it copied first. */
	if (target->shed_at && waiting(queue) * 256 >= target->shed_at * HG_QUEUE_RING && !hg_spares(pkt)) {
		pkt->reason = HG_REASON_DROP_STEER_OVERLOAD;
		return true;
	}
	if (!describe(ctx, pkt, id))
		return false;
	if (bpf_redirect_map(&hg_xsks, index, XDP_DROP) == XDP_REDIRECT) {
		pkt->reason = HG_REASON_FORWARD_STEER;
		/* By one CPU at a time, for a queue is polled by one, but in generic mode with RPS: an
		 * estimate then. */
		if (!hg_is_traced(pkt))
			queue->given++;
		return true;
	}
	/* The stack would keep it with the packet. */
	if (!hg_is_traced(pkt))
		bpf_xdp_adjust_meta(ctx, sizeof(struct hg_steer_meta));
	return false;
}

HG_STAGE int hg_steer(struct xdp_md *ctx, struct hg_pkt *pkt, const struct hg_root *root, __u32 id)
{
	__u32 slot = id / HG_TARGETS_PER_PAGE, number;
	const struct hg_target_page *page;
	const struct hg_target *target;

	if (!pkt || !root)
		return XDP_ABORTED;
	pkt->stages |= HG_STAGE_STEER;
	if (slot >= HG_TARGET_PAGES)
		goto missing;
	number = root->target_page[slot];
	page = bpf_map_lookup_elem(&hg_targets, &number);
	if (!page)
		goto missing;
	target = &page->target[id % HG_TARGETS_PER_PAGE];

	if (settle(ctx, pkt, target, id))
		return pkt->reason == HG_REASON_FORWARD_STEER ? XDP_REDIRECT : XDP_DROP;
	if (target->fallback == HG_VERDICT_PASS) {
		pkt->reason = HG_REASON_PASS_STEER_FALLBACK;
		return XDP_PASS;
	}
	if (hg_spares(pkt)) {
		pkt->reason = HG_REASON_PASS_ESSENTIAL;
		return XDP_PASS;
	}
	pkt->reason = HG_REASON_DROP_STEER_FALLBACK;
	return XDP_DROP;

missing:
	pkt->reason = HG_REASON_DROP_INTERNAL;
	return XDP_DROP;
}

HG_STAGE int hg_steer_multicast(struct xdp_md *ctx, struct hg_pkt *pkt)
{
	const struct hg_target all = {};

	if (!pkt)
		return XDP_ABORTED;
	pkt->stages |= HG_STAGE_STEER;
	if (!settle(ctx, pkt, &all, HG_TARGET_MULTICAST)) {
		pkt->reason = HG_REASON_DROP_MULTICAST_NO_WORKER;
		return XDP_DROP;
	}
	pkt->reason = HG_REASON_FORWARD_MULTICAST_WORKER;
	return XDP_REDIRECT;
}
