/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Where every packet starts: the root records with the word that names the active one, and the tables that
 * tie devices to port ids. Inlined into each stage that asks, because a call costs more than the lookup.
 */
#ifndef HG_TABLES_H
#define HG_TABLES_H

#include "hg_pkt.h"

/* Named types, because the linker wants each declaration of a map to repeat its whole definition. */
struct hg_active_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct hg_active);
};
extern struct hg_active_map hg_active SEC(".maps");

struct hg_roots_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, HG_ROOTS);
	__type(key, __u32);
	__type(value, struct hg_root);
};
extern struct hg_roots_map hg_roots SEC(".maps");

/* Open addressing by ifindex, kept by the agent: an array lookup is inlined, a hash map's is not. */
struct hg_ifindexes_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, HG_IFINDEX_SLOTS);
	__type(key, __u32);
	__type(value, struct hg_ifindex);
};
extern struct hg_ifindexes_map hg_ifindexes SEC(".maps");

struct hg_ports_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, HG_PORTS);
	__type(key, __u32);
	__type(value, struct hg_port);
};
extern struct hg_ports_map hg_ports SEC(".maps");

/* Names the generation that a packet belongs to, and is read once for it; different after every change. */
static __always_inline __u64 hg_stamp(void)
{
	__u32 zero = 0;
	struct hg_active *active = bpf_map_lookup_elem(&hg_active, &zero);

	return active ? *(volatile __u64 *)active : 0;
}

/* The stamp's index into hg_roots, 0: no generation is active yet. */
static __always_inline __u32 hg_root_index(__u64 stamp)
{
	union {
		__u64 stamp;
		struct hg_active active;
	} at = {.stamp = stamp};

	return at.active.root;
}

static __always_inline const struct hg_root *hg_generation(__u64 stamp)
{
	__u32 index = hg_root_index(stamp);

	return bpf_map_lookup_elem(&hg_roots, &index);
}

/* The port id of a device, 0: not an interface of ours. */
static __always_inline __u32 hg_port_of(__u32 ifindex)
{
	struct hg_ifindex *entry;
	__u32 slot;
	int i;

	for (i = 0; i < HG_IFINDEX_PROBES; i++) {
		slot = (ifindex + i) & (HG_IFINDEX_SLOTS - 1);
		entry = bpf_map_lookup_elem(&hg_ifindexes, &slot);
		if (entry && entry->ifindex == ifindex)
			return entry->port;
	}
	return 0;
}

/* The port's device as it is now, ifindex 0: none; NULL for an id out of range. */
static __always_inline const struct hg_port *hg_port(__u32 port)
{
	return bpf_map_lookup_elem(&hg_ports, &port);
}

#endif
