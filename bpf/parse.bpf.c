// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * Parse: Ethernet, up to two VLAN tags, IPv4 with options, IPv6 with a bounded extension walk, fragments,
 * TCP, UDP, UDP-Lite, SCTP, DCCP, ICMP and ICMPv6. Owns no map. Every function checks its own bounds and
 * advances the offset of the next header; none follows a pointer it has not compared with data_end.
 */
#include <linux/icmpv6.h>
#include <linux/ipv6.h>

#include "parse.h"

/* Not in the UAPI headers. */
#define IPV6_FRAG_OFFSET_MASK 0xfff8
#define IPV6_FRAG_MORE	      0x0001
#define MLD2_REPORT	      143
#define ND_ROUTER_SOLICIT     133
#define ND_REDIRECT	      137
#define ND_HOP_LIMIT	      255

#define MAX_IPV6_EXT 8
/* Keeps packet offsets below the verifier's MAX_PACKET_OFF; eight extension headers of 2,048 bytes fit. */
#define MAX_HEADERS 0x7fff

struct vlan_tag {
	__be16 tci;
	__be16 ethertype;
};

struct ipv6_fragment {
	__u8 nexthdr;
	__u8 reserved;
	__be16 offset_flags;
	__be32 id;
};

static __always_inline bool reject(struct hg_pkt *pkt, enum hg_reason reason)
{
	pkt->reason = reason;
	return false;
}

/* The header of `size` bytes at `off`, or NULL with the reason set: `reason` when the frame ends before
 * it, HEADER_SPLIT when only its first buffer does. */
static __always_inline void *header(struct xdp_md *ctx, struct hg_pkt *pkt, __u32 off, __u32 size,
				    enum hg_reason reason)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;

	if (off > MAX_HEADERS || data + off + size > end) {
		reject(pkt, off + size > pkt->length ? reason : HG_REASON_HEADER_SPLIT);
		return NULL;
	}
	return data + off;
}

static __always_inline bool is_vlan(__be16 ethertype)
{
	return ethertype == bpf_htons(ETH_P_8021Q) || ethertype == bpf_htons(ETH_P_8021AD);
}

static __always_inline bool parse_ethernet(struct xdp_md *ctx, struct hg_pkt *pkt, __u32 *off)
{
	struct ethhdr *eth = header(ctx, pkt, 0, sizeof(*eth), HG_REASON_ETH_SHORT);
	struct vlan_tag *tag;
	__be16 ethertype;

	if (!eth)
		return false;
	if (eth->h_dest[0] & 1)
		pkt->flags |= HG_PKT_GROUP;
	ethertype = eth->h_proto;
	*off = sizeof(*eth);

	if (is_vlan(ethertype)) {
		tag = header(ctx, pkt, *off, sizeof(*tag), HG_REASON_VLAN_SHORT);
		if (!tag)
			return false;
		pkt->key[HG_WORD_INGRESS] |= bpf_ntohs(tag->tci) & 0xfff;
		ethertype = tag->ethertype;
		*off += sizeof(*tag);
		pkt->vlan_tags = 1;
		if (is_vlan(ethertype)) {
			tag = header(ctx, pkt, *off, sizeof(*tag), HG_REASON_VLAN_SHORT);
			if (!tag)
				return false;
			pkt->key[HG_WORD_EXTRA] = (bpf_ntohs(tag->tci) & 0xfff) << 16;
			ethertype = tag->ethertype;
			*off += sizeof(*tag);
			pkt->vlan_tags = 2;
			if (is_vlan(ethertype))
				return reject(pkt, HG_REASON_VLAN_DEPTH);
		}
	}
	pkt->ethertype = bpf_ntohs(ethertype);
	pkt->l3 = *off;
	return true;
}

static __always_inline void set_proto(struct hg_pkt *pkt, __u32 protocol, __u32 dscp, __u32 kind)
{
	pkt->key[HG_WORD_PROTO] = protocol << HG_PROTO_SHIFT | dscp << HG_DSCP_SHIFT | kind;
}

static __always_inline void set_length(struct hg_pkt *pkt, __u32 length)
{
	pkt->key[HG_WORD_EXTRA] |= length > 0xffff ? 0xffff : length;
}

static __always_inline bool parse_tcp(struct xdp_md *ctx, struct hg_pkt *pkt, __u32 off, __u32 left)
{
	struct tcphdr *tcp;
	__u32 size;

	if (left < sizeof(*tcp))
		return reject(pkt, HG_REASON_TCP_SHORT);
	tcp = header(ctx, pkt, off, sizeof(*tcp), HG_REASON_TCP_SHORT);
	if (!tcp)
		return false;
	size = tcp->doff * 4;
	/* Options of a first fragment may go on in the next one. */
	if (size < sizeof(*tcp) || (size > left && !(hg_kind(pkt) & HG_KIND_FRAGMENT)))
		return reject(pkt, HG_REASON_TCP_OFFSET);
	pkt->key[HG_WORD_PORTS] = (__u32)bpf_ntohs(tcp->source) << 16 | bpf_ntohs(tcp->dest);
	pkt->key[HG_WORD_PROTO] |= (__u32)((__u8 *)tcp)[13] << HG_TCP_FLAGS_SHIFT | HG_KIND_PORTS;
	return true;
}

static __always_inline bool parse_udp(struct xdp_md *ctx, struct hg_pkt *pkt, __u32 off, __u32 left)
{
	struct udphdr *udp;
	__u32 size;

	if (left < sizeof(*udp))
		return reject(pkt, HG_REASON_UDP_SHORT);
	udp = header(ctx, pkt, off, sizeof(*udp), HG_REASON_UDP_SHORT);
	if (!udp)
		return false;
	size = bpf_ntohs(udp->len);
	/* A first fragment states the length of the whole datagram. */
	if (size > left && !(hg_kind(pkt) & HG_KIND_FRAGMENT))
		return reject(pkt, HG_REASON_UDP_LENGTH);
	/* Zero is a jumbogram's (RFC 2675). */
	if (size < sizeof(*udp) && (size != 0 || left <= 0xffff))
		return reject(pkt, HG_REASON_UDP_LENGTH);
	pkt->key[HG_WORD_PORTS] = (__u32)bpf_ntohs(udp->source) << 16 | bpf_ntohs(udp->dest);
	pkt->key[HG_WORD_PROTO] |= HG_KIND_PORTS;
	return true;
}

/* SCTP, DCCP and UDP-Lite: all begin with the two ports. */
static __always_inline bool parse_ports(struct xdp_md *ctx, struct hg_pkt *pkt, __u32 off, __u32 left)
{
	__be16 *ports;

	if (left < 2 * sizeof(*ports))
		return reject(pkt, HG_REASON_L4_SHORT);
	ports = header(ctx, pkt, off, 2 * sizeof(*ports), HG_REASON_L4_SHORT);
	if (!ports)
		return false;
	pkt->key[HG_WORD_PORTS] = (__u32)bpf_ntohs(ports[0]) << 16 | bpf_ntohs(ports[1]);
	pkt->key[HG_WORD_PROTO] |= HG_KIND_PORTS;
	return true;
}

static __always_inline bool parse_icmp(struct xdp_md *ctx, struct hg_pkt *pkt, __u32 off, __u32 left,
				       __u32 min, __u32 hop_limit)
{
	__u8 *icmp;

	if (left < min)
		return reject(pkt, HG_REASON_ICMP_SHORT);
	icmp = header(ctx, pkt, off, 4, HG_REASON_ICMP_SHORT);
	if (!icmp)
		return false;
	pkt->key[HG_WORD_PORTS] = (__u32)icmp[0] << 8 | icmp[1];
	pkt->key[HG_WORD_PROTO] |= HG_KIND_ICMP;
	if (hg_protocol(pkt) != IPPROTO_ICMPV6 || !(hg_kind(pkt) & HG_KIND_IPV6))
		return true;
	/* A hop limit of 255 proves an ND message to come from the link itself (RFC 4861, section 7.1). */
	if (icmp[0] >= ND_ROUTER_SOLICIT && icmp[0] <= ND_REDIRECT && hop_limit == ND_HOP_LIMIT)
		pkt->flags |= HG_PKT_ESSENTIAL;
	if ((icmp[0] >= ICMPV6_MGM_QUERY && icmp[0] <= ICMPV6_MGM_REDUCTION) || icmp[0] == MLD2_REPORT)
		pkt->flags |= HG_PKT_ESSENTIAL;
	return true;
}

/* left: bytes the network header leaves for this one. */
static __always_inline bool parse_l4(struct xdp_md *ctx, struct hg_pkt *pkt, __u32 off, __u32 left,
				     __u32 hop_limit)
{
	pkt->l4 = off;
	switch (hg_protocol(pkt)) {
	case IPPROTO_TCP:
		return parse_tcp(ctx, pkt, off, left);
	case IPPROTO_UDP:
		return parse_udp(ctx, pkt, off, left);
	case IPPROTO_ICMP:
		return parse_icmp(ctx, pkt, off, left, 8, hop_limit);
	case IPPROTO_ICMPV6:
		return parse_icmp(ctx, pkt, off, left, 4, hop_limit);
	case IPPROTO_SCTP:
	case IPPROTO_DCCP:
	case IPPROTO_UDPLITE:
		return parse_ports(ctx, pkt, off, left);
	}
	return true;
}

/* frag_off in bytes; left: bytes of this fragment's payload. */
static __always_inline bool check_fragment(struct hg_pkt *pkt, __u32 frag_off, __u32 left)
{
	if (frag_off + left > 0xffff)
		return reject(pkt, HG_REASON_FRAGMENT_OVERRUN);
	if (frag_off == 8 && hg_protocol(pkt) == IPPROTO_TCP)
		return reject(pkt, HG_REASON_FRAGMENT_OVERLAP);
	return true;
}

static __always_inline bool parse_ipv4(struct xdp_md *ctx, struct hg_pkt *pkt, __u32 off)
{
	struct iphdr *ip = header(ctx, pkt, off, sizeof(*ip), HG_REASON_IPV4_SHORT);
	__u32 size, length, frag, kind = HG_KIND_IPV4 | HG_KIND_IP;
	__u32 src, dst;

	if (!ip)
		return false;
	if (ip->version != 4)
		return reject(pkt, HG_REASON_IPV4_VERSION);
	size = ip->ihl * 4;
	if (size < sizeof(*ip))
		return reject(pkt, HG_REASON_IPV4_IHL);
	length = bpf_ntohs(ip->tot_len);
	if (length < size || off + length > pkt->length)
		return reject(pkt, HG_REASON_IPV4_LENGTH);
	src = bpf_ntohl(ip->saddr);
	dst = bpf_ntohl(ip->daddr);
	if (src >> 28 == 0xe || src == 0xffffffff)
		return reject(pkt, HG_REASON_SOURCE_GROUP);
	if (dst >> 28 == 0xe || dst == 0xffffffff)
		pkt->flags |= HG_PKT_GROUP;
	if (ip->protocol == IPPROTO_IGMP)
		pkt->flags |= HG_PKT_ESSENTIAL;
	frag = bpf_ntohs(ip->frag_off);
	if (frag & (IP_MF | IP_OFFSET_MASK))
		kind |= HG_KIND_FRAGMENT;
	if (frag & IP_OFFSET_MASK)
		kind |= HG_KIND_LATER;

	pkt->key[HG_WORD_SRC] = src;
	pkt->key[HG_WORD_DST] = dst;
	set_proto(pkt, ip->protocol, ip->tos >> 2, kind);
	set_length(pkt, length);
	if ((kind & HG_KIND_FRAGMENT) && !check_fragment(pkt, (frag & IP_OFFSET_MASK) * 8, length - size))
		return false;
	if (kind & HG_KIND_LATER) {
		pkt->l4 = off + size;
		return true;
	}
	return parse_l4(ctx, pkt, off + size, length - size, ip->ttl);
}

/* Where a walk over extension headers stands. */
struct ext_walk {
	__u32 off;
	__u32 end;	/* of the IPv6 payload */
	__u32 next;	/* protocol of the header at off */
	__u32 kind;	/* enum hg_kind bits found so far */
	__u32 frag_off; /* bytes */
};

static __always_inline bool is_ipv6_ext(__u32 next)
{
	return next == IPPROTO_HOPOPTS || next == IPPROTO_ROUTING || next == IPPROTO_DSTOPTS ||
	       next == IPPROTO_FRAGMENT || next == IPPROTO_AH || next == IPPROTO_MH;
}

static __always_inline bool parse_fragment_header(struct xdp_md *ctx, struct hg_pkt *pkt,
						  struct ext_walk *walk)
{
	struct ipv6_fragment *frag;
	__u32 flags;

	if (walk->off + sizeof(*frag) > walk->end)
		return reject(pkt, HG_REASON_IPV6_EXT_SHORT);
	frag = header(ctx, pkt, walk->off, sizeof(*frag), HG_REASON_IPV6_EXT_SHORT);
	if (!frag)
		return false;
	flags = bpf_ntohs(frag->offset_flags);
	/* Neither offset nor more to come: an atomic fragment, a whole packet (RFC 6946). */
	if (flags & (IPV6_FRAG_OFFSET_MASK | IPV6_FRAG_MORE))
		walk->kind |= HG_KIND_FRAGMENT;
	if (flags & IPV6_FRAG_OFFSET_MASK)
		walk->kind |= HG_KIND_LATER;
	walk->frag_off = flags & IPV6_FRAG_OFFSET_MASK;
	walk->next = frag->nexthdr;
	walk->off += sizeof(*frag);
	return true;
}

/* Moves past one extension header. A stage of its own: inlined, the verifier would follow every way through
 * eight of them. */
HG_STAGE int hg_parse_ext(struct xdp_md *ctx, struct hg_pkt *pkt, struct ext_walk *walk)
{
	struct ipv6_opt_hdr *opt;

	if (!pkt || !walk)
		return false;
	if (walk->next == IPPROTO_FRAGMENT)
		return parse_fragment_header(ctx, pkt, walk);
	if (walk->off + sizeof(*opt) > walk->end)
		return reject(pkt, HG_REASON_IPV6_EXT_SHORT);
	opt = header(ctx, pkt, walk->off, sizeof(*opt), HG_REASON_IPV6_EXT_SHORT);
	if (!opt)
		return false;
	/* The authentication header alone counts in four-byte units (RFC 4302, section 2.2). */
	walk->off += walk->next == IPPROTO_AH ? (opt->hdrlen + 2) * 4 : (opt->hdrlen + 1) * 8;
	walk->next = opt->nexthdr;
	if (walk->off > walk->end)
		return reject(pkt, HG_REASON_IPV6_EXT_SHORT);
	return true;
}

static __always_inline bool parse_ipv6(struct xdp_md *ctx, struct hg_pkt *pkt, __u32 off)
{
	struct ipv6hdr *ip = header(ctx, pkt, off, sizeof(*ip), HG_REASON_IPV6_SHORT);
	struct ext_walk walk = {.kind = HG_KIND_IPV6 | HG_KIND_IP};
	__u32 hop_limit, dscp;
	int i;

	if (!ip)
		return false;
	if (ip->version != 6)
		return reject(pkt, HG_REASON_IPV6_VERSION);
	walk.off = off + sizeof(*ip);
	walk.end = walk.off + bpf_ntohs(ip->payload_len);
	walk.next = ip->nexthdr;
	/* A jumbogram's length is in a hop-by-hop option (RFC 2675): the frame's stands in for it. */
	if (ip->payload_len == 0 && walk.next == IPPROTO_HOPOPTS)
		walk.end = pkt->length;
	if (walk.end > pkt->length)
		return reject(pkt, HG_REASON_IPV6_LENGTH);
	if (ip->saddr.s6_addr[0] == 0xff)
		return reject(pkt, HG_REASON_SOURCE_GROUP);
	if (ip->daddr.s6_addr[0] == 0xff)
		pkt->flags |= HG_PKT_GROUP;
	hop_limit = ip->hop_limit;
	dscp = (bpf_ntohs(*(__be16 *)ip) >> 6) & 0x3f;
	for (i = 0; i < 4; i++) {
		pkt->key[HG_WORD_SRC + i] = bpf_ntohl(ip->saddr.s6_addr32[i]);
		pkt->key[HG_WORD_DST + i] = bpf_ntohl(ip->daddr.s6_addr32[i]);
	}
	set_length(pkt, walk.end - off);

	for (i = 0; i < MAX_IPV6_EXT && is_ipv6_ext(walk.next) && !(walk.kind & HG_KIND_LATER); i++)
		if (!hg_parse_ext(ctx, pkt, &walk))
			return false;
	set_proto(pkt, walk.next, dscp, walk.kind);
	if ((walk.kind & HG_KIND_FRAGMENT) && !check_fragment(pkt, walk.frag_off, walk.end - walk.off))
		return false;
	if (walk.kind & HG_KIND_LATER) {
		pkt->l4 = walk.off;
		return true;
	}
	if (is_ipv6_ext(walk.next))
		return reject(pkt, HG_REASON_IPV6_EXT_DEPTH);
	return parse_l4(ctx, pkt, walk.off, walk.end - walk.off, hop_limit);
}

HG_STAGE int hg_parse(struct xdp_md *ctx, struct hg_pkt *pkt)
{
	__u32 off = 0;

	if (!pkt)
		return false;
	pkt->key[HG_WORD_INGRESS] = pkt->port << 16;
	if (!parse_ethernet(ctx, pkt, &off))
		return false;
	if (pkt->ethertype == ETH_P_IP)
		return parse_ipv4(ctx, pkt, off);
	if (pkt->ethertype == ETH_P_IPV6)
		return parse_ipv6(ctx, pkt, off);
	if (pkt->ethertype == ETH_P_ARP || pkt->ethertype == ETH_P_LLDP)
		pkt->flags |= HG_PKT_ESSENTIAL;
	set_length(pkt, pkt->length - off);
	return true;
}
