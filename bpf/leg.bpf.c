// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * Leg: what an egress device's leg does to its copy of a multicast packet. Runs for each copy on its way out
 * (BPF_XDP_DEVMAP, kernel 5.8); the device says which leg it is. Owns the legs. Checksums are kept by what
 * changes (RFC 1624), so that one that was wrong stays wrong.
 */
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>

#include "forward.h"
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

/* A copy on its way. */
struct copy {
	__u32 l3;
	__u32 l4;
	__u32 kind; /* enum hg_kind */
	__u32 protocol;
	__u32 port;	 /* egress */
	__u32 length;	 /* frame bytes, as it came */
	__u32 transport; /* what the transport checksum is off by: ones' complement, not folded */
	__u32 network;	 /* and the IPv4 header's */
};

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

static __always_inline int rewrite_ipv4(struct xdp_md *ctx, const struct hg_leg *leg, struct copy *copy,
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

static __always_inline int rewrite_ipv6(struct xdp_md *ctx, const struct hg_leg *leg, struct copy *copy,
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
static __always_inline int rewrite_udp(struct xdp_md *ctx, const struct hg_leg *leg, struct copy *copy,
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

static __always_inline int rewrite_ethernet(struct xdp_md *ctx, const struct hg_leg *leg, struct copy *copy,
					    struct hg_leg_count *count)
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

/* A stage: the verifier checks it for any copy. */
HG_STAGE int hg_make_leg(struct xdp_md *ctx, const struct hg_leg *leg, struct copy *copy, __u32 id)
{
	struct hg_leg_count *count = bpf_map_lookup_elem(&hg_leg_stats, &id);

	if (!leg || !copy || !count)
		return XDP_DROP;
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

static __always_inline int send_leg(struct xdp_md *ctx)
{
	const struct hg_leg_meta *meta = (void *)(long)ctx->data_meta;
	const struct hg_mroute *route;
	const struct hg_root *root;
	const struct hg_leg *leg;
	struct copy copy = {};
	__u32 id;

	if ((void *)(meta + 1) > (void *)(long)ctx->data)
		return XDP_DROP;
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
	int verdict = send_leg(ctx);
	__u32 zero = 0;
	__u64 *dropped;

	if (verdict != XDP_PASS) {
		dropped = bpf_map_lookup_elem(&hg_leg_dropped, &zero);
		if (dropped)
			(*dropped)++;
	}
	return verdict;
}
