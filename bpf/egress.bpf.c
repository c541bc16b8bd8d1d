// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * Egress: what became of frames after the program let go of them. A driver may refuse frames long after
 * XDP_REDIRECT or XDP_TX was returned, and only these tracepoints tell; without them packets would be lost
 * uncounted. What is sent is told once a bulk (16 frames), not once a frame.
 *
 * Tracepoints are system-wide and devices of other network namespaces may share an ifindex: a redirect is
 * counted when both of its ends are ports in the agent's namespace, an error when it names our map.
 */
#include <bpf/bpf_core_read.h>
#include "hg_pkt.h"
#include "multicast.h"
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

/* Of the agent's network namespace (SO_NETNS_COOKIE). Set before loading. */
const volatile __u64 netns_cookie = 0;

/* What is read of the kernel's structs; libbpf finds the offsets in the running kernel's BTF. */
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct net {
	__u64 net_cookie;
};

typedef struct {
	struct net *net;
} possible_net_t;

struct net_device {
	int ifindex;
	possible_net_t nd_net;
};

struct bpf_prog_aux {
	char name[16];
};

struct bpf_prog {
	struct bpf_prog_aux *aux;
};
#pragma clang attribute pop

/* Arguments as in include/trace/events/xdp.h, TP_PROTO. */
struct devmap_xmit {
	const struct net_device *from;
	const struct net_device *to;
	__u64 sent;
	__u64 drops;
	__u64 err;
};

struct bulk_tx {
	const struct net_device *dev;
	__u64 sent;
	__u64 drops;
	__u64 err;
};

struct exception {
	const struct net_device *dev;
	const struct bpf_prog *program;
	__u64 action;
};

struct redirect_err {
	const struct net_device *dev;
	const void *program;
	const void *target;
	__u64 err;
	__u64 map_type;
	__u64 map_id;
	__u64 index;
};

static __always_inline bool is_ours(const struct net_device *dev)
{
	return BPF_CORE_READ(dev, nd_net.net, net_cookie) == netns_cookie;
}

/* The port that frames left by on their way from one port to another, 0: not such a way. `copied`: they are
 * the copier's. */
static __always_inline __u32 egress_port(const struct net_device *from, const struct net_device *to,
					 bool copied)
{
	__u32 port = hg_port_of(BPF_CORE_READ(to, ifindex));

	if (!port || !is_ours(to))
		return 0;
	if (from != to && !copied && (!hg_port_of(BPF_CORE_READ(from, ifindex)) || !is_ours(from)))
		return 0;
	return port;
}

/* Whether this program is the one that counts the event. A tracepoint runs its programs in the order in which
 * they were attached: one that hands over does so before its successor runs for the same event, which counts
 * it then. */
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

/* What legs' programs did to the bulk. They ran for it, on this CPU, just before: bulks are sent one after
 * the other. */
static __always_inline struct leg_bulk take_bulk(__u32 drops)
{
	struct leg_bulk *bulk, taken = {};
	__u32 zero = 0;

	bulk = bpf_map_lookup_elem(&hg_leg_dropped, &zero);
	if (!bulk)
		return taken;
	taken = *bulk;
	/* Without the tracepoint, which may have been attached only now, nobody took them. */
	if (taken.dropped > drops)
		taken.dropped = drops;
	bulk->dropped = 0;
	bulk->copied_to = 0;
	return taken;
}

SEC("raw_tp/xdp_devmap_xmit")
int hg_devmap_xmit(struct devmap_xmit *event)
{
	const struct net_device *from = event->from, *to = event->to;
	struct leg_bulk bulk = take_bulk(event->drops);
	__u32 device = BPF_CORE_READ(to, ifindex), port;

	port = egress_port(from, to, bulk.copied_to == device);
	if (port && own())
		count(port, event->sent, event->drops - bulk.dropped);
	return 0;
}

SEC("raw_tp/xdp_bulk_tx")
int hg_bulk_tx(struct bulk_tx *event)
{
	__u32 port = egress_port(event->dev, event->dev, false);

	if (port && own())
		count(port, event->sent, event->drops);
	return 0;
}

SEC("raw_tp/xdp_redirect_err")
int hg_redirect_err(struct redirect_err *event)
{
	const struct hg_egress_owner *owner = own();
	__u32 port = event->index;
	struct hg_egress *stats;

	if (!owner || owner->devmap_id != (__u32)event->map_id)
		return 0;
	stats = bpf_map_lookup_elem(&hg_egress_stats, &port);
	if (stats)
		stats->refused++;
	return 0;
}

/* By name, which all versions of it share: a frame may fail after the next version took over. */
static __always_inline bool is_our_program(const struct bpf_prog *program)
{
	static const char ours[] = "headgate";
	const struct bpf_prog_aux *aux = BPF_CORE_READ(program, aux);
	char name[sizeof(ours)] = {};
	int i;

	bpf_core_read(name, sizeof(name), &aux->name);
	for (i = 0; i < (int)sizeof(ours); i++)
		if (name[i] != ours[i])
			return false;
	return true;
}

/* A frame that was lost on its way out one by one: XDP_TX in drivers that do not send in bulks, and any way
 * out in generic mode, where `dev` is the egress device. Failed redirects of drivers come here, too, with
 * their own action; xdp_redirect_err has counted them. */
SEC("raw_tp/xdp_exception")
int hg_exception(struct exception *event)
{
	__u32 port;

	if ((__u32)event->action != XDP_TX || !is_our_program(event->program))
		return 0;
	port = egress_port(event->dev, event->dev, false);
	if (port && own())
		count(port, 0, 1);
	return 0;
}
