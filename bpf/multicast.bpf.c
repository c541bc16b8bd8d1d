// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * Multicast: finds a packet's route, and has the kernel copy the packet to all of its legs or a worker do
 * that. Owns the routes and the maps of egress devices; what a leg does to its copy is leg.bpf.c's.
 */
#include "multicast.h"
#include "classify.h"
#include "feed.h"
#include "forward.h"
#include "steer.h"
#include "tables.h"
#include "vlan.h"

struct hg_mroutes_map hg_mroutes SEC(".maps");
struct hg_leg_stats_map hg_leg_stats SEC(".maps");
struct hg_leg_dropped_map hg_leg_dropped SEC(".maps");

/* The legs' account of copies that workers make, who write it through a memory map. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, HG_LEGS);
	__type(key, __u32);
	__type(value, struct hg_leg_count);
} hg_worker_legs SEC(".maps");

/* What the agent made hg_fanout_maps of. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, HG_FANOUTS);
	__type(key, __u32);
	__type(value, struct hg_fanout);
} hg_fanouts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, HG_FANOUTS);
	__type(key, __u32);
	__type(value, struct hg_fanout_state);
} hg_fanout_state SEC(".maps");

/* By port id. A hash map, because a broadcast goes over all slots of an array. */
struct fanout_map {
	__uint(type, BPF_MAP_TYPE_DEVMAP_HASH);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(struct bpf_devmap_val));
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, HG_FANOUTS);
	__uint(key_size, sizeof(__u32));
	__array(values, struct fanout_map);
} hg_fanout_maps SEC(".maps");

/* A function of its own so that BTF has struct hg_leg_meta. */
static __attribute__((noinline)) void fill_meta(struct hg_leg_meta *meta, const struct hg_pkt *pkt)
{
	meta->stamp = pkt->stamp;
	meta->route = pkt->mroute;
	meta->l3 = pkt->l3;
	meta->l4 = pkt->l4;
	meta->kind = hg_kind(pkt);
	meta->protocol = hg_protocol(pkt);
}

static __always_inline bool describe(struct xdp_md *ctx, const struct hg_pkt *pkt)
{
	struct hg_leg_meta *meta;

	if (hg_is_traced(pkt))
		return true;
	meta = hg_add_meta(ctx, sizeof(*meta));
	if (!meta)
		return false;
	fill_meta(meta, pkt);
	return true;
}

/* What is for devices to carry beyond their MTU: of two tags the kernel allows for one, and passes without a
 * word over devices that a frame is too long for. */
static __always_inline __u32 link_header(const struct hg_pkt *pkt)
{
	__u32 most = ETH_HLEN + HG_VLAN_LENGTH;

	return pkt->l3 < most ? pkt->l3 : most;
}

/* Whether the kernel may copy the packet: all devices take it whole, and it lies in one buffer. Broadcast
 * frees the further buffers of a frame once for each copy (CVE-2026-64355). In generic mode copies lose the
 * metadata. */
static __always_inline bool may_broadcast(const struct xdp_md *ctx, const struct hg_pkt *pkt, __u32 fanout)
{
	const struct hg_fanout_state *state = bpf_map_lookup_elem(&hg_fanout_state, &fanout);
	const struct hg_port *ingress = hg_port(pkt->port);

	return state && ingress && (ingress->flags & HG_PORT_NATIVE) &&
	       pkt->length - link_header(pkt) <= state->mtu &&
	       pkt->length <= (__u32)(ctx->data_end - ctx->data);
}

static __always_inline void offer(const struct hg_mroute *route)
{
	struct hg_leg_count *count;
	__u32 i, leg;

	for (i = 0; i < HG_PORTS && i < route->ports; i++) {
		leg = route->leg_of_port[route->port[i]];
		count = bpf_map_lookup_elem(&hg_leg_stats, &leg);
		if (count)
			count->offered++;
	}
}

static __always_inline int broadcast(struct xdp_md *ctx, struct hg_pkt *pkt, const struct hg_mroute *route)
{
	__u32 fanout = route->fanout;
	void *devices = bpf_map_lookup_elem(&hg_fanout_maps, &fanout);

	if (!devices || !describe(ctx, pkt))
		return hg_drop(pkt, HG_REASON_DROP_INTERNAL);
	if (!hg_is_traced(pkt))
		offer(route);
	pkt->reason = HG_REASON_FORWARD_MULTICAST;
	return bpf_redirect_map(devices, 0, BPF_F_BROADCAST);
}

/* What a switch or a bridge sends back where it came from. */
static __always_inline bool is_our_own(struct xdp_md *ctx, const struct hg_pkt *pkt)
{
	const struct hg_port *port = hg_port(pkt->port);
	const struct ethhdr *eth = hg_ethernet(ctx);

	return eth && port && hg_same_mac(eth->h_source, port->mac);
}

/* The route's id | HG_ID_MROUTE, 0: none. The entries are rules to the walk; what it takes of the one that
 * matches gives way to the packet's own rule again. */
static __always_inline __u32 find_route(struct hg_pkt *pkt, __u32 tree)
{
	__u32 rule_id = pkt->rule_id, rule_flags = pkt->rule_flags, action = pkt->action, found;
	__u64 best;

	pkt->rule_id = 0;
	best = hg_search_tree(pkt, NULL, tree, 0);
	found = best == HG_NO_ENTRY ? 0 : pkt->rule_id;
	pkt->rule_id = rule_id;
	pkt->rule_flags = rule_flags;
	pkt->action = action;
	return found;
}

HG_STAGE int hg_multicast(struct xdp_md *ctx, struct hg_pkt *pkt)
{
	const struct hg_mroute *route;
	const struct hg_root *root;
	__u32 id;

	if (!pkt)
		return XDP_ABORTED;
	root = hg_generation(pkt->stamp);
	/* Membership reports go to the group that they are about. */
	if (!root || !root->mroute_tree || (pkt->flags & HG_PKT_ESSENTIAL))
		return HG_NO_MROUTE;
	id = find_route(pkt, root->mroute_tree);
	if (!id || (id & HG_ID_LEFT_OUT))
		return HG_NO_MROUTE;
	id &= ~HG_ID_MROUTE;
	pkt->stages |= HG_STAGE_MULTICAST;
	pkt->mroute = id;
	route = hg_find_mroute(root, id);
	if (!route)
		return hg_drop(pkt, HG_REASON_DROP_INTERNAL);
	if (is_our_own(ctx, pkt))
		return hg_drop(pkt, HG_REASON_DROP_MULTICAST_LOOP);
	/* Once, for the kernel's copies and for workers'. */
	if (route->feed.feed && !hg_take_from_feed(ctx, pkt, &route->feed))
		return hg_drop(pkt, HG_REASON_DROP_MULTICAST_DUPLICATE);
	if (route->fanout && may_broadcast(ctx, pkt, route->fanout))
		return broadcast(ctx, pkt, route);
	return hg_steer_multicast(ctx, pkt);
}
