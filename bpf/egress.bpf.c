// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * Egress: what became of frames after the program let go of them. A driver may refuse frames long after
 * XDP_REDIRECT or XDP_TX was returned, and only these tracepoints tell; without them packets would be lost
 * uncounted. They fire once a bulk (16 frames), not once a frame.
 *
 * Tracepoints are system-wide and devices of other network namespaces may share an ifindex: both ends of a
 * redirect must be ours to be counted, and errors name the map.
 */
#include "hg_pkt.h"
#include "tables.h"

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct hg_egress_owner);
} hg_egress_own SEC(".maps");

/* Set before loading; no two programs that are attached at a time have the same. */
const volatile __u32 incarnation = 0;

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, HG_PORTS);
	__type(key, __u32);
	__type(value, struct hg_egress);
} hg_egress_stats SEC(".maps");

/* Fields as in /sys/kernel/tracing/events/xdp/.../format, after the eight common bytes. */
struct devmap_xmit {
	__u64 common;
	__s32 from_ifindex;
	__u32 act;
	__s32 to_ifindex;
	__s32 drops;
	__s32 sent;
	__s32 err;
};

struct bulk_tx {
	__u64 common;
	__s32 ifindex;
	__u32 act;
	__s32 drops;
	__s32 sent;
	__s32 err;
};

struct redirect_err {
	__u64 common;
	__s32 prog_id;
	__u32 act;
	__s32 ifindex;
	__s32 err;
	__s32 to_ifindex;
	__u32 map_id;
	__s32 map_index;
};

/* Whether this program is the one that counts the event. A tracepoint runs its programs in the order in which they
 * were attached: one that hands over does so before its successor runs for the same event, which counts it then. */
static __always_inline const struct hg_egress_owner *own(void)
{
	__u32 zero = 0, next;
	struct hg_egress_owner *owner = bpf_map_lookup_elem(&hg_egress_own, &zero);

	if (!owner || owner->incarnation != incarnation)
		return NULL;
	next = *(volatile __u32 *)&owner->next;
	if (next && next != incarnation) {
		owner->incarnation = next;
		return NULL;
	}
	return owner;
}

static __always_inline void count(__u32 port, __s32 sent, __s32 dropped)
{
	struct hg_egress *stats = bpf_map_lookup_elem(&hg_egress_stats, &port);

	if (!stats)
		return;
	stats->sent += sent;
	stats->dropped += dropped;
}

SEC("tracepoint/xdp/xdp_devmap_xmit")
int hg_devmap_xmit(struct devmap_xmit *event)
{
	__u32 port = hg_port_of(event->to_ifindex);

	if (port && hg_port_of(event->from_ifindex) && own())
		count(port, event->sent, event->drops);
	return 0;
}

SEC("tracepoint/xdp/xdp_bulk_tx")
int hg_bulk_tx(struct bulk_tx *event)
{
	__u32 port = hg_port_of(event->ifindex);

	if (port && own())
		count(port, event->sent, event->drops);
	return 0;
}

SEC("tracepoint/xdp/xdp_redirect_err")
int hg_redirect_err(struct redirect_err *event)
{
	const struct hg_egress_owner *owner = own();
	__u32 port = event->map_index;
	struct hg_egress *stats;

	if (!owner || owner->devmap_id != event->map_id)
		return 0;
	stats = bpf_map_lookup_elem(&hg_egress_stats, &port);
	if (stats)
		stats->refused++;
	return 0;
}
