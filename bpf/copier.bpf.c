// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * Copier: has the kernel copy what workers send for many legs behind one device. A worker's packet comes in
 * by a veth pair of the agent's own, is copied once for each leg by a map that has the egress device as
 * often, and each copy becomes its leg's at the egress. There copies come in the order of the map, which
 * tells the legs. Owns the bundles.
 */
#include "forward.h"
#include "leg.h"
#include "tables.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, HG_BUNDLES);
	__type(key, __u32);
	__type(value, struct hg_bundle);
} hg_bundles SEC(".maps");

/* An array, whose entries a broadcast takes in their order; of as many as the bundle has legs. */
struct bundle_map {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(struct bpf_devmap_val));
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, HG_BUNDLES);
	__uint(key_size, sizeof(__u32));
	__array(values, struct bundle_map);
} hg_bundle_maps SEC(".maps");

/* The packet whose copies are leaving, and the place of its next copy's leg. */
struct turn {
	__u64 packet;
	__u32 next;
	__u32 pad;
};

/* By egress port. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, HG_PORTS);
	__type(key, __u32);
	__type(value, struct turn);
} hg_bundle_turns SEC(".maps");

SEC("xdp")
int headgate_copier(struct xdp_md *ctx)
{
	const struct hg_bundle_meta *meta = (void *)(long)ctx->data;
	void *devices;
	__u32 bundle;

	if ((void *)(meta + 1) > (void *)(long)ctx->data_end)
		return XDP_DROP;
	bundle = meta->bundle;
	devices = bpf_map_lookup_elem(&hg_bundle_maps, &bundle);
	/* What lies before the packet becomes its metadata, where it is. */
	if (!devices || bpf_xdp_adjust_head(ctx, sizeof(*meta)) ||
	    bpf_xdp_adjust_meta(ctx, -(int)sizeof(*meta)))
		return XDP_DROP;
	return bpf_redirect_map(devices, 0, BPF_F_BROADCAST);
}

/* Copies of one packet leave a device one after the other, whatever leaves by others meanwhile. */
static __always_inline __u32 next_place(__u32 port, __u64 packet)
{
	struct turn *turn = bpf_map_lookup_elem(&hg_bundle_turns, &port);

	if (!turn)
		return HG_BUNDLE_LEGS;
	if (turn->packet != packet) {
		turn->packet = packet;
		turn->next = 0;
	}
	return turn->next++;
}

/* A function of its own so that BTF has struct hg_bundle_meta. */
static __attribute__((noinline)) void fill_copy(struct hg_copy *copy, const struct hg_bundle_meta *meta)
{
	copy->l3 = meta->l3;
	copy->l4 = meta->l4;
	copy->kind = meta->kind;
	copy->protocol = meta->protocol;
}

static __always_inline int send_bundled(struct xdp_md *ctx)
{
	const struct hg_bundle_meta *meta = (void *)(long)ctx->data_meta;
	const struct hg_bundled_leg *leg;
	const struct hg_bundle *bundle;
	struct hg_copy copy = {};
	__u32 index, place;
	__u64 packet;

	if ((void *)(meta + 1) > (void *)(long)ctx->data)
		return XDP_DROP;
	index = meta->bundle;
	packet = meta->packet;
	fill_copy(&copy, meta);
	copy.port = hg_port_of(ctx->egress_ifindex);
	copy.length = bpf_xdp_get_buff_len(ctx);
	if (bpf_xdp_adjust_meta(ctx, sizeof(*meta)))
		return XDP_DROP;
	place = next_place(copy.port, packet);
	bundle = bpf_map_lookup_elem(&hg_bundles, &index);
	if (!bundle || place >= HG_BUNDLE_LEGS || place >= bundle->count)
		return XDP_DROP;
	leg = &bundle->leg[place];
	return hg_make_leg(ctx, &leg->leg, &copy, leg->id);
}

SEC("xdp.frags/devmap")
int headgate_bundled(struct xdp_md *ctx)
{
	struct leg_bulk *bulk;
	__u32 zero = 0;

	bulk = bpf_map_lookup_elem(&hg_leg_dropped, &zero);
	if (bulk)
		bulk->copied_to = ctx->egress_ifindex;
	return send_bundled(ctx);
}
