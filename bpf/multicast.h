/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
#ifndef HG_MULTICAST_H
#define HG_MULTICAST_H

#include "hg_pkt.h"

/* No route is for the packet. */
#define HG_NO_MROUTE (-1)

/* Replicates the packet to the legs of its multicast route, or hands it to a worker that does. Returns the
 * XDP action and sets pkt->reason; HG_NO_MROUTE and leaves pkt as it was when there is no route. */
HG_STAGE int hg_multicast(struct xdp_md *ctx, struct hg_pkt *pkt);

struct hg_mroutes_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct hg_mroute_page);
};
extern struct hg_mroutes_map hg_mroutes SEC(".maps");

/* By leg id. */
struct hg_leg_stats_map {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, HG_LEGS);
	__type(key, __u32);
	__type(value, struct hg_leg_count);
};
extern struct hg_leg_stats_map hg_leg_stats SEC(".maps");

/* Of the bulk that is being sent on this CPU. */
struct leg_bulk {
	/* Copies that their leg dropped and counted: the kernel reports them with those that the driver
	 * refused. */
	__u64 dropped;
	/* The device that copies of the copier leave by: they come from a device that is no port. 0: there
	 * are none. */
	__u32 copied_to;
	__u32 pad;
};

/* Written by the program at the egress, taken by hg_devmap_xmit. */
struct hg_leg_dropped_map {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct leg_bulk);
};
extern struct hg_leg_dropped_map hg_leg_dropped SEC(".maps");

static __always_inline const struct hg_mroute *hg_find_mroute(const struct hg_root *root, __u32 id)
{
	__u32 slot = id / HG_MROUTES_PER_PAGE, number;
	const struct hg_mroute_page *page;

	if (slot >= HG_MROUTE_PAGES)
		return NULL;
	number = root->mroute_page[slot];
	page = bpf_map_lookup_elem(&hg_mroutes, &number);
	return page ? &page->route[id % HG_MROUTES_PER_PAGE] : NULL;
}

#endif
