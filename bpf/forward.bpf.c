// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * Forward: TX, route and next hop; redirect is in the header. Owns the device map and the next hops. The one
 * stage that writes packet memory; each function decides first and rewrites last.
 */
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>

#include "forward.h"
#include "tables.h"
#include "vlan.h"

#define AF_INET	       2
#define AF_INET6       10
#define IPV6_FLOW_MASK 0x0fffffff

struct hg_devmap_map hg_devmap SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct hg_next_hop_page);
} hg_next_hops SEC(".maps");

static __always_inline int pass(struct hg_pkt *pkt, enum hg_reason reason)
{
	pkt->reason = reason;
	return XDP_PASS;
}

/* The network header parse found, if `size` bytes of it still lie before data_end. */
static __always_inline void *network(struct xdp_md *ctx, const struct hg_pkt *pkt, __u32 size)
{
	void *header = (void *)(long)ctx->data + (pkt->l3 & 0x3f);

	return header + size > (void *)(long)ctx->data_end ? NULL : header;
}

static __always_inline bool is_zero(const __u8 *mac)
{
	return !(mac[0] | mac[1] | mac[2] | mac[3] | mac[4] | mac[5]);
}

/* RFC 1624, equation 3, for a field that falls by 0x0100. */
static __always_inline void decrement_ttl(struct iphdr *ip)
{
	__u32 check = ip->check;

	check += bpf_htons(0x0100);
	ip->check = (__u16)(check + (check >= 0xffff));
	ip->ttl--;
}

/* False when the packet's life ends here; the header is untouched then. */
static __always_inline bool age(struct xdp_md *ctx, const struct hg_pkt *pkt)
{
	struct ipv6hdr *ip6;
	struct iphdr *ip;

	if (pkt->ethertype == ETH_P_IP) {
		ip = network(ctx, pkt, sizeof(*ip));
		if (!ip || ip->ttl <= 1)
			return false;
		decrement_ttl(ip);
	} else if (pkt->ethertype == ETH_P_IPV6) {
		ip6 = network(ctx, pkt, sizeof(*ip6));
		if (!ip6 || ip6->hop_limit <= 1)
			return false;
		ip6->hop_limit--;
	}
	return true;
}

static __always_inline void swap_mac(struct ethhdr *eth)
{
	__u8 mac[ETH_ALEN];

	__builtin_memcpy(mac, eth->h_dest, ETH_ALEN);
	__builtin_memcpy(eth->h_dest, eth->h_source, ETH_ALEN);
	__builtin_memcpy(eth->h_source, mac, ETH_ALEN);
}

/* Sums over addresses do not change when they trade places, so no checksum does. */
static __always_inline void swap_ip(struct xdp_md *ctx, const struct hg_pkt *pkt)
{
	struct in6_addr address;
	struct ipv6hdr *ip6;
	struct iphdr *ip;
	__be32 word;

	if (pkt->ethertype == ETH_P_IP) {
		ip = network(ctx, pkt, sizeof(*ip));
		if (!ip)
			return;
		word = ip->saddr;
		ip->saddr = ip->daddr;
		ip->daddr = word;
	} else if (pkt->ethertype == ETH_P_IPV6) {
		ip6 = network(ctx, pkt, sizeof(*ip6));
		if (!ip6)
			return;
		address = ip6->saddr;
		ip6->saddr = ip6->daddr;
		ip6->daddr = address;
	}
}

static __always_inline void swap_ports(struct xdp_md *ctx, const struct hg_pkt *pkt)
{
	void *data = (void *)(long)ctx->data;
	__be16 *ports, port;

	/* SCTP's checksum is a CRC, which does tell places apart (RFC 9260, section 6.8). */
	if (!(hg_kind(pkt) & HG_KIND_PORTS) || hg_protocol(pkt) == IPPROTO_SCTP)
		return;
	/* The parser reads no header beyond; the mask tells the verifier. */
	ports = data + (pkt->l4 & 0x7fff);
	if ((void *)(ports + 2) > (void *)(long)ctx->data_end)
		return;
	port = ports[0];
	ports[0] = ports[1];
	ports[1] = port;
}

HG_STAGE int hg_tx(struct xdp_md *ctx, struct hg_pkt *pkt, const struct hg_action *action)
{
	struct ethhdr *eth = hg_ethernet(ctx);

	if (!pkt || !action)
		return XDP_ABORTED;
	if (!eth)
		return hg_drop(pkt, HG_REASON_DROP_INTERNAL);
	pkt->stages |= HG_STAGE_FORWARD;
	if (pkt->flags & HG_PKT_GROUP)
		return hg_drop(pkt, HG_REASON_DROP_TX_GROUP);
	pkt->egress_port = pkt->port;
	pkt->reason = HG_REASON_FORWARD_TX;
	swap_mac(eth);
	if (action->flags & HG_ACTION_SWAP_IP)
		swap_ip(ctx, pkt);
	if (action->flags & HG_ACTION_SWAP_PORTS)
		swap_ports(ctx, pkt);
	return XDP_TX;
}

static __always_inline bool fill_fib(struct xdp_md *ctx, const struct hg_pkt *pkt, struct bpf_fib_lookup *fib)
{
	const struct ipv6hdr *ip6;
	const struct iphdr *ip;

	fib->ifindex = ctx->ingress_ifindex;
	fib->l4_protocol = hg_protocol(pkt);
	fib->tot_len = pkt->key[HG_WORD_EXTRA] & 0xffff;
	if (pkt->ethertype == ETH_P_IP) {
		ip = network(ctx, pkt, sizeof(*ip));
		if (!ip)
			return false;
		fib->family = AF_INET;
		fib->tos = ip->tos;
		fib->ipv4_src = ip->saddr;
		fib->ipv4_dst = ip->daddr;
	} else {
		ip6 = network(ctx, pkt, sizeof(*ip6));
		if (!ip6)
			return false;
		fib->family = AF_INET6;
		fib->flowinfo = *(__be32 *)ip6 & bpf_htonl(IPV6_FLOW_MASK);
		__builtin_memcpy(fib->ipv6_src, &ip6->saddr, sizeof(ip6->saddr));
		__builtin_memcpy(fib->ipv6_dst, &ip6->daddr, sizeof(ip6->daddr));
	}
	/* Rules of the kernel's policy routing may name ports. */
	if (hg_kind(pkt) & HG_KIND_PORTS) {
		fib->sport = bpf_htons(pkt->key[HG_WORD_PORTS] >> 16);
		fib->dport = bpf_htons(pkt->key[HG_WORD_PORTS] & 0xffff);
	}
	return true;
}

/* What the kernel's answers mean; negative: the program's own fault. */
static __always_inline int refuse_route(struct hg_pkt *pkt, long result)
{
	switch (result) {
	case BPF_FIB_LKUP_RET_BLACKHOLE:
		return hg_drop(pkt, HG_REASON_DROP_NO_ROUTE);
	case BPF_FIB_LKUP_RET_UNREACHABLE:
	case BPF_FIB_LKUP_RET_PROHIBIT:
		return pass(pkt, HG_REASON_PASS_ROUTE_UNREACHABLE);
	case BPF_FIB_LKUP_RET_NOT_FWDED:
		return pass(pkt, HG_REASON_PASS_ROUTE_LOCAL);
	case BPF_FIB_LKUP_RET_FWD_DISABLED:
		return pass(pkt, HG_REASON_PASS_ROUTE_DISABLED);
	case BPF_FIB_LKUP_RET_NO_NEIGH:
		return pass(pkt, HG_REASON_PASS_ROUTE_NEIGHBOUR);
	case BPF_FIB_LKUP_RET_FRAG_NEEDED:
		return pass(pkt, HG_REASON_PASS_ROUTE_MTU);
	}
	return pass(pkt, HG_REASON_PASS_ROUTE_KERNEL);
}

/* An address that no router forwards: this network and this host (RFC 1122, section 3.2.1.3), unspecified,
 * loopback and link-local (RFC 4291, section 2.5). bpf_fib_lookup does not ask, the kernel's own path does.
 */
static __always_inline bool is_confined(const __u32 *address, bool is_ip6)
{
	if (!is_ip6)
		return address[0] >> 24 == 0 || address[0] >> 24 == 127;
	return (address[0] & 0xffc00000) == 0xfe800000 ||
	       !(address[0] | address[1] | address[2] | (address[3] & ~1U));
}

static __always_inline bool is_sent_to(struct xdp_md *ctx, const struct hg_port *port)
{
	const struct ethhdr *eth = hg_ethernet(ctx);

	return eth && port && hg_same_mac(eth->h_dest, port->mac);
}

/* Whether a router may forward the packet, by its addresses and headers alone; sets the reason when not. */
static __always_inline bool is_routable(struct xdp_md *ctx, struct hg_pkt *pkt)
{
	bool is_ip6 = pkt->ethertype == ETH_P_IPV6;
	const struct iphdr *ip;

	pkt->reason = HG_REASON_PASS_ROUTE_KERNEL;
	/* The kernel routes a tagged frame from its VLAN device, which bpf_fib_lookup cannot be told. */
	if ((pkt->ethertype != ETH_P_IP && !is_ip6) || pkt->vlan_tags || (pkt->flags & HG_PKT_GROUP))
		return false;
	/* Seen in promiscuous mode, or on a mirror port. */
	if (!is_sent_to(ctx, hg_port(pkt->port))) {
		pkt->reason = HG_REASON_PASS_ROUTE_OTHERHOST;
		return false;
	}
	if (is_confined(&pkt->key[HG_WORD_SRC], is_ip6) || is_confined(&pkt->key[HG_WORD_DST], is_ip6))
		return false;
	if (is_ip6)
		return true;
	/* Options are for routers on the way to act on (RFC 1812, section 5.2.4.2). */
	ip = network(ctx, pkt, sizeof(*ip));
	return ip && ip->ihl == 5;
}

HG_STAGE int hg_route(struct xdp_md *ctx, struct hg_pkt *pkt)
{
	struct bpf_fib_lookup fib = {};
	struct ethhdr *eth;
	long result;
	__u32 port;

	if (!pkt)
		return XDP_ABORTED;
	pkt->stages |= HG_STAGE_FORWARD;
	if (!is_routable(ctx, pkt))
		return XDP_PASS;
	if (!fill_fib(ctx, pkt, &fib))
		return hg_drop(pkt, HG_REASON_DROP_INTERNAL);
	result = bpf_fib_lookup(ctx, &fib, sizeof(fib), 0);
	if (result != BPF_FIB_LKUP_RET_SUCCESS)
		return refuse_route(pkt, result);
	port = hg_port_of(fib.ifindex);
	if (!port)
		return pass(pkt, HG_REASON_PASS_ROUTE_KERNEL);
	if (!age(ctx, pkt))
		return pass(pkt, HG_REASON_PASS_ROUTE_TTL);
	eth = hg_ethernet(ctx);
	if (!eth)
		return hg_drop(pkt, HG_REASON_DROP_INTERNAL);
	__builtin_memcpy(eth->h_dest, fib.dmac, ETH_ALEN);
	__builtin_memcpy(eth->h_source, fib.smac, ETH_ALEN);
	return hg_send(ctx, pkt, port, HG_REASON_FORWARD_ROUTE);
}

HG_STAGE int hg_to_next_hop(struct xdp_md *ctx, struct hg_pkt *pkt, const struct hg_root *root, __u32 id)
{
	__u32 slot = id / HG_NEXT_HOPS_PER_PAGE, number;
	const struct hg_next_hop_page *page;
	const struct hg_next_hop *hop;
	const struct hg_port *egress;
	struct ethhdr *eth;

	if (!pkt || !root)
		return XDP_ABORTED;
	pkt->stages |= HG_STAGE_FORWARD;
	if (slot >= HG_NEXT_HOP_PAGES)
		return hg_drop(pkt, HG_REASON_DROP_NO_NEXT_HOP);
	number = root->next_hop_page[slot];
	page = bpf_map_lookup_elem(&hg_next_hops, &number);
	if (!page)
		return hg_drop(pkt, HG_REASON_DROP_NO_NEXT_HOP);
	hop = &page->hop[id % HG_NEXT_HOPS_PER_PAGE];
	egress = hg_port(hop->port);
	if (!hop->port || !egress)
		return hg_drop(pkt, HG_REASON_DROP_NO_NEXT_HOP);
	if (hop->decrement_ttl && !age(ctx, pkt))
		return hg_drop(pkt, HG_REASON_DROP_TTL);
	if (!hg_tag_for(ctx, pkt->vlan_tags, hop->vlan_mode, hop->vlan))
		return hg_drop(pkt, HG_REASON_DROP_NO_HEADROOM);
	eth = hg_ethernet(ctx);
	if (!eth)
		return hg_drop(pkt, HG_REASON_DROP_INTERNAL);
	hg_set_mac(eth->h_dest, hop->dmac);
	hg_set_mac(eth->h_source, is_zero(hop->smac) ? egress->mac : hop->smac);
	return hg_send(ctx, pkt, hop->port, HG_REASON_FORWARD_NEXT_HOP);
}
