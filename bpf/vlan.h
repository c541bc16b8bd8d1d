/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* VLAN tags of frames that leave. */
#ifndef HG_VLAN_H
#define HG_VLAN_H

#include <linux/if_ether.h>

#include "hg_pkt.h"

#define HG_VLAN_LENGTH 4
#define HG_VID_MASK    0x0fff

/* Moves the two addresses with the frame's start, which leaves the EtherType where a tag begins. */
static __always_inline bool hg_push_vlan(struct xdp_md *ctx, __u16 vlan)
{
	void *data, *end;
	__be16 *tag;

	if (bpf_xdp_adjust_head(ctx, -HG_VLAN_LENGTH))
		return false;
	data = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	if (data + sizeof(struct ethhdr) + HG_VLAN_LENGTH > end)
		return false;
	__builtin_memmove(data, data + HG_VLAN_LENGTH, 2 * ETH_ALEN);
	tag = data + 2 * ETH_ALEN;
	tag[0] = bpf_htons(ETH_P_8021Q);
	tag[1] = bpf_htons(vlan);
	return true;
}

static __always_inline bool hg_pop_vlan(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	__u32 addresses[3];

	if (data + sizeof(struct ethhdr) + HG_VLAN_LENGTH > end)
		return false;
	__builtin_memcpy(addresses, data, sizeof(addresses));
	__builtin_memcpy(data + HG_VLAN_LENGTH, addresses, sizeof(addresses));
	return !bpf_xdp_adjust_head(ctx, HG_VLAN_LENGTH);
}

static __always_inline bool hg_set_vlan(struct xdp_md *ctx, __u16 vlan)
{
	__be16 *tci = (void *)(long)ctx->data + sizeof(struct ethhdr);

	if ((void *)(tci + 1) > (void *)(long)ctx->data_end)
		return false;
	/* Priority and drop eligibility stay. */
	*tci = (*tci & bpf_htons(~HG_VID_MASK)) | bpf_htons(vlan);
	return true;
}

/* Makes a frame leave as `mode` (enum hg_next_hop_vlan) says. False: no room, or it ends within
 * its headers. */
static __always_inline bool hg_tag_for(struct xdp_md *ctx, bool tagged, __u8 mode, __u16 vlan)
{
	if (mode == HG_NEXT_HOP_VLAN_SET)
		return tagged ? hg_set_vlan(ctx, vlan) : hg_push_vlan(ctx, vlan);
	if (mode == HG_NEXT_HOP_VLAN_STRIP && tagged)
		return hg_pop_vlan(ctx);
	return true;
}

#endif
