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

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct hg_target_page);
} hg_targets SEC(".maps");

HG_STAGE int hg_steer(struct xdp_md *ctx, struct hg_pkt *pkt, const struct hg_root *root, __u32 id)
{
	__u32 slot = id / HG_TARGETS_PER_PAGE, number, queue = ctx->rx_queue_index;
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

	pkt->reason = HG_REASON_FORWARD_STEER;
	if (queue < HG_QUEUES_PER_PORT &&
	    bpf_redirect_map(&hg_xsks, pkt->port * HG_QUEUES_PER_PORT + queue, XDP_DROP) == XDP_REDIRECT)
		return XDP_REDIRECT;
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
