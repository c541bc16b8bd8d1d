/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
#ifndef HG_FORWARD_H
#define HG_FORWARD_H

#include <linux/if_ether.h>

#include "hg_pkt.h"

struct hg_devmap_map {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, HG_PORTS);
	__type(key, __u32);
	__type(value, struct bpf_devmap_val);
};
extern struct hg_devmap_map hg_devmap SEC(".maps");

/* Each returns the XDP action and sets pkt->reason and, when the packet leaves, pkt->egress_port. */

/* Back out of the ingress device, addresses swapped as the action's flags say. */
HG_STAGE int hg_tx(struct xdp_md *ctx, struct hg_pkt *pkt, const struct hg_action *action);

/* By the kernel's routes and neighbours. */
HG_STAGE int hg_route(struct xdp_md *ctx, struct hg_pkt *pkt);

/* To a named next hop of this generation. */
HG_STAGE int hg_to_next_hop(struct xdp_md *ctx, struct hg_pkt *pkt, const struct hg_root *root, __u32 id);

static __always_inline int hg_drop(struct hg_pkt *pkt, enum hg_reason reason)
{
	pkt->reason = reason;
	return XDP_DROP;
}

static __always_inline struct ethhdr *hg_ethernet(struct xdp_md *ctx)
{
	struct ethhdr *eth = (void *)(long)ctx->data;

	return (void *)(eth + 1) > (void *)(long)ctx->data_end ? NULL : eth;
}

static __always_inline bool hg_same_mac(const __u8 *a, const __u8 *b)
{
	return *(const __u32 *)a == *(const __u32 *)b && *(const __u16 *)(a + 4) == *(const __u16 *)(b + 4);
}

static __always_inline void hg_set_mac(__u8 *to, const __u8 *from)
{
	*(__u32 *)to = *(const __u32 *)from;
	*(__u16 *)(to + 4) = *(const __u16 *)(from + 4);
}

static __always_inline int hg_send(struct xdp_md *ctx, struct hg_pkt *pkt, __u32 port, enum hg_reason reason)
{
	__u32 foreign = ctx->data - ctx->data_meta;

	/* Metadata that the frame came with says something else to the program of a leg's device. */
	if (foreign)
		bpf_xdp_adjust_meta(ctx, foreign);
	pkt->egress_port = port;
	pkt->reason = reason;
	if (bpf_redirect_map(&hg_devmap, port, XDP_DROP) != XDP_REDIRECT)
		return hg_drop(pkt, HG_REASON_DROP_NO_DEVICE);
	return XDP_REDIRECT;
}

/* Out of the action's port, with its addresses where it gives any. In line, because it is what most
 * forwarding is. */
static __always_inline int hg_redirect(struct xdp_md *ctx, struct hg_pkt *pkt, const struct hg_action *action)
{
	struct ethhdr *eth = hg_ethernet(ctx);

	if (!eth)
		return hg_drop(pkt, HG_REASON_DROP_INTERNAL);
	pkt->stages |= HG_STAGE_FORWARD;
	if (action->flags & HG_ACTION_DMAC)
		hg_set_mac(eth->h_dest, action->dmac);
	if (action->flags & HG_ACTION_SMAC)
		hg_set_mac(eth->h_source, action->smac);
	return hg_send(ctx, pkt, action->port, HG_REASON_FORWARD_REDIRECT);
}

#endif
