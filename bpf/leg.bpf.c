// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * Leg: what an egress device's leg does to its copy of a multicast packet. Runs for each copy on its way out
 * (BPF_XDP_DEVMAP, kernel 5.8); the device says which leg it is, or, where there are several, the order of
 * the copies (copier.bpf.c). Owns the legs, and who listens. Checksums are kept by what changes (RFC 1624),
 * so that one that was wrong stays wrong.
 */
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>

#include "forward.h"
#include "leg.h"
#include "multicast.h"
#include "police.h"
#include "tables.h"
#include "vlan.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct hg_leg_page);
} hg_legs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, HG_PORTS);
	__type(key, __u32);
	__type(value, struct hg_port_address);
} hg_port_ips SEC(".maps");

/* Whether what the key says is wanted: 0 or 1. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, HG_LISTENERS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct hg_listener);
	__type(value, __u32);
} hg_listeners SEC(".maps");

/* What a checksum's field changes by when the 16 bits `old` become `now`; RFC 1624, equation 3. */
static __always_inline __u32 difference(__u16 old, __u16 now)
{
	return (__u16)~old + now;
}

static __always_inline __u32 difference32(__u32 old, __u32 now)
{
	return difference(old, now) + difference(old >> 16, now >> 16);
}

static __always_inline __u16 fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

static __always_inline __u16 adjusted(__u16 check, __u32 off)
{
	return ~fold((__u16)~check + off);
}

static __always_inline const struct hg_leg *find_leg(const struct hg_root *root, __u32 id)
{
	__u32 slot = id / HG_LEGS_PER_PAGE, number;
	const struct hg_leg_page *page;

	if (slot >= HG_LEG_PAGES)
		return NULL;
	number = root->leg_page[slot];
	page = bpf_map_lookup_elem(&hg_legs, &number);
	return page ? &page->leg[id % HG_LEGS_PER_PAGE] : NULL;
}

static __always_inline void *header(struct xdp_md *ctx, __u32 offset, __u32 size)
{
	void *start = (void *)(long)ctx->data + offset;

	return start + size > (void *)(long)ctx->data_end ? NULL : start;
}

/* The TTL the copy leaves with, 0: it does not. */
static __always_inline __u8 age(const struct hg_leg *leg, __u8 ttl)
{
	if (leg->flags & HG_LEG_TTL)
		return leg->ttl;
	ttl = ttl ? ttl - 1 : 0;
	return ttl < leg->ttl_threshold ? 0 : ttl;
}

static __always_inline int rewrite_ipv4(struct xdp_md *ctx, const struct hg_leg *leg, struct hg_copy *copy,
					struct hg_leg_count *count)
{
	struct iphdr *ip = header(ctx, copy->l3 & 0x3f, sizeof(*ip));
	const struct hg_port_address *egress = bpf_map_lookup_elem(&hg_port_ips, &copy->port);
	__u32 source, off = 0;
	__u16 word;
	__u8 ttl;

	if (!ip || !egress) {
		count->malformed++;
		return false;
	}
	ttl = age(leg, ip->ttl);
	if (!ttl) {
		count->ttl++;
		return false;
	}
	source = leg->flags & HG_LEG_SOURCE_EGRESS ? egress->ip4 : leg->src[0];
	if ((leg->flags & HG_LEG_SOURCE_EGRESS) && !source) {
		count->no_source++;
		return false;
	}
	if (leg->flags & (HG_LEG_SOURCE | HG_LEG_SOURCE_EGRESS)) {
		off += difference32(ip->saddr, source);
		ip->saddr = source;
	}
	if (leg->flags & HG_LEG_DESTINATION) {
		off += difference32(ip->daddr, leg->dst[0]);
		ip->daddr = leg->dst[0];
	}
	copy->transport = off;
	word = *(__u16 *)&ip->ttl;
	ip->ttl = ttl;
	off += difference(word, *(__u16 *)&ip->ttl);
	if (leg->flags & HG_LEG_DSCP) {
		word = *(__u16 *)ip;
		ip->tos = leg->dscp << 2 | (ip->tos & 3);
		off += difference(word, *(__u16 *)ip);
	}
	ip->check = adjusted(ip->check, off);
	return true;
}

static __always_inline __u32 write_address(struct in6_addr *to, const __u32 *from)
{
	__u32 off = 0;
	int i;

#pragma unroll
	for (i = 0; i < 4; i++) {
		off += difference32(to->s6_addr32[i], from[i]);
		to->s6_addr32[i] = from[i];
	}
	return off;
}

static __always_inline int rewrite_ipv6(struct xdp_md *ctx, const struct hg_leg *leg, struct hg_copy *copy,
					struct hg_leg_count *count)
{
	struct ipv6hdr *ip = header(ctx, copy->l3 & 0x3f, sizeof(*ip));
	const struct hg_port_address *egress = bpf_map_lookup_elem(&hg_port_ips, &copy->port);
	const __u32 *source = leg->src;
	__u16 first;
	__u8 ttl;

	if (!ip || !egress) {
		count->malformed++;
		return false;
	}
	ttl = age(leg, ip->hop_limit);
	if (!ttl) {
		count->ttl++;
		return false;
	}
	if (leg->flags & HG_LEG_SOURCE_EGRESS) {
		source = egress->ip6;
		if (!(source[0] | source[1] | source[2] | source[3])) {
			count->no_source++;
			return false;
		}
	}
	if (leg->flags & (HG_LEG_SOURCE | HG_LEG_SOURCE_EGRESS))
		copy->transport += write_address(&ip->saddr, source);
	if (leg->flags & HG_LEG_DESTINATION)
		copy->transport += write_address(&ip->daddr, leg->dst);
	ip->hop_limit = ttl;
	if (leg->flags & HG_LEG_DSCP) {
		/* Version, the upper six bits of the traffic class, ECN, and the flow label's first bits. */
		first = bpf_ntohs(*(__be16 *)ip);
		*(__be16 *)ip = bpf_htons((first & 0xf03f) | leg->dscp << 6);
	}
	return true;
}

/* Ports, and the checksum over them and the addresses. */
static __always_inline int rewrite_udp(struct xdp_md *ctx, const struct hg_leg *leg, struct hg_copy *copy,
				       struct hg_leg_count *count)
{
	struct udphdr *udp = header(ctx, copy->l4 & 0x7fff, sizeof(*udp));
	__u32 off = copy->transport;

	if (!udp) {
		count->malformed++;
		return false;
	}
	if (leg->flags & HG_LEG_SOURCE_PORT) {
		off += difference(udp->source, leg->sport);
		udp->source = leg->sport;
	}
	if (leg->flags & HG_LEG_DESTINATION_PORT) {
		off += difference(udp->dest, leg->dport);
		udp->dest = leg->dport;
	}
	/* None was sent (RFC 768). */
	if (!udp->check)
		return true;
	udp->check = adjusted(udp->check, off);
	if (!udp->check)
		udp->check = 0xffff;
	return true;
}

static __always_inline int rewrite_ethernet(struct xdp_md *ctx, const struct hg_leg *leg,
					    struct hg_copy *copy, struct hg_leg_count *count)
{
	const struct hg_port *egress = hg_port(copy->port);
	struct ethhdr *eth = hg_ethernet(ctx);

	if (!eth || !egress) {
		count->malformed++;
		return false;
	}
	hg_set_mac(eth->h_source, egress->mac);
	if (leg->flags & HG_LEG_DESTINATION)
		hg_set_mac(eth->h_dest, leg->dmac);
	if (!hg_tag_for(ctx, copy->l3 > sizeof(*eth), leg->vlan_mode, leg->vlan)) {
		count->malformed++;
		return false;
	}
	return true;
}

static __always_inline void copy_address(__u32 *to, const __u32 *from)
{
	to[0] = from[0];
	to[1] = from[1];
	to[2] = from[2];
	to[3] = from[3];
}

/* Fills the key with what the copy leaves with. */
static __always_inline int leaves_with(struct xdp_md *ctx, const struct hg_leg *leg,
				       const struct hg_copy *copy, struct hg_listener *key)
{
	const struct hg_port_address *egress = bpf_map_lookup_elem(&hg_port_ips, &copy->port);
	const int ipv4 = copy->kind & HG_KIND_IPV4;
	const struct ipv6hdr *ip6;
	const struct iphdr *ip4;

	if (!egress)
		return false;
	if (ipv4) {
		ip4 = header(ctx, copy->l3 & 0x3f, sizeof(*ip4));
		if (!ip4)
			return false;
		key->group[0] = ip4->daddr;
		key->source[0] = ip4->saddr;
	} else {
		ip6 = header(ctx, copy->l3 & 0x3f, sizeof(*ip6));
		if (!ip6)
			return false;
		copy_address(key->group, ip6->daddr.s6_addr32);
		copy_address(key->source, ip6->saddr.s6_addr32);
	}
	if (leg->flags & HG_LEG_DESTINATION)
		copy_address(key->group, leg->dst);
	if (leg->flags & HG_LEG_SOURCE_EGRESS) {
		if (ipv4)
			key->source[0] = egress->ip4;
		else
			copy_address(key->source, egress->ip6);
	} else if (leg->flags & HG_LEG_SOURCE) {
		copy_address(key->source, leg->src);
	}
	return true;
}

/* Whether somebody at the egress asks for the copy: what is known of its source decides, or else what holds
 * for all others. A stage: the verifier checks it for any copy. */
HG_STAGE int hg_leg_listened(struct xdp_md *ctx, const struct hg_leg *leg, const struct hg_copy *copy)
{
	struct hg_listener key = {};
	const __u32 *wanted;

	if (!leg || !copy)
		return false;
	key.port = copy->port;
	if (!leaves_with(ctx, leg, copy, &key))
		return false;
	wanted = bpf_map_lookup_elem(&hg_listeners, &key);
	if (wanted)
		return *wanted != 0;
	__builtin_memset(key.source, 0, sizeof(key.source));
	wanted = bpf_map_lookup_elem(&hg_listeners, &key);
	return wanted && *wanted != 0;
}

static __always_inline int make_leg(struct xdp_md *ctx, const struct hg_leg *leg, struct hg_copy *copy,
				    struct hg_leg_count *count, __u32 id)
{
	if ((leg->flags & HG_LEG_ON_JOIN) && !hg_leg_listened(ctx, leg, copy)) {
		count->no_listener++;
		return XDP_DROP;
	}
	if ((leg->flags & HG_LEG_POLICE) &&
	    !hg_police_leg(
		id, leg->flags & HG_LEG_POLICE_BITS ? leg->police_cost * copy->length : leg->police_cost,
		leg->police_depth)) {
		count->limited++;
		return XDP_DROP;
	}
	if (copy->kind & HG_KIND_IPV4) {
		if (!rewrite_ipv4(ctx, leg, copy, count))
			return XDP_DROP;
	} else if (!rewrite_ipv6(ctx, leg, copy, count)) {
		return XDP_DROP;
	}
	/* Later fragments have no UDP header. */
	if ((copy->protocol == IPPROTO_UDP || copy->protocol == IPPROTO_UDPLITE) &&
	    (copy->kind & HG_KIND_PORTS) && !rewrite_udp(ctx, leg, copy, count))
		return XDP_DROP;
	if (!rewrite_ethernet(ctx, leg, copy, count))
		return XDP_DROP;
	count->packets++;
	count->bytes += bpf_xdp_get_buff_len(ctx);
	return XDP_PASS;
}

HG_STAGE int hg_make_leg(struct xdp_md *ctx, const struct hg_leg *leg, struct hg_copy *copy, __u32 id)
{
	struct hg_leg_count *count = bpf_map_lookup_elem(&hg_leg_stats, &id);
	struct leg_bulk *bulk;
	__u32 zero = 0;
	int verdict;

	if (!leg || !copy || !count)
		return XDP_DROP;
	verdict = make_leg(ctx, leg, copy, count, id);
	bulk = verdict == XDP_PASS ? NULL : bpf_map_lookup_elem(&hg_leg_dropped, &zero);
	if (bulk)
		bulk->dropped++;
	return verdict;
}

static __always_inline int send_leg(struct xdp_md *ctx)
{
	const struct hg_leg_meta *meta = (void *)(long)ctx->data_meta;
	const struct hg_mroute *route;
	const struct hg_root *root;
	const struct hg_leg *leg;
	struct hg_copy copy = {};
	__u32 id;

	/* No copy: the kernel runs the program of a bulk's first frame on all of the bulk, and what is
	 * redirected to the same device is in it. */
	if ((void *)(meta + 1) > (void *)(long)ctx->data)
		return XDP_PASS;
	root = hg_generation(meta->stamp);
	if (!root)
		return XDP_DROP;
	route = hg_find_mroute(root, meta->route);
	if (!route)
		return XDP_DROP;
	copy.l3 = meta->l3;
	copy.l4 = meta->l4;
	copy.kind = meta->kind;
	copy.protocol = meta->protocol;
	copy.port = hg_port_of(ctx->egress_ifindex);
	copy.length = bpf_xdp_get_buff_len(ctx);
	/* It would stay with the packet. */
	if (bpf_xdp_adjust_meta(ctx, sizeof(*meta)))
		return XDP_DROP;
	id = route->leg_of_port[copy.port % HG_PORTS];
	leg = find_leg(root, id);
	if (!id || !leg)
		return XDP_DROP;
	return hg_make_leg(ctx, leg, &copy, id);
}

SEC("xdp.frags/devmap")
int headgate_leg(struct xdp_md *ctx)
{
	return send_leg(ctx);
}
