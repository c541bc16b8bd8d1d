/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
#ifndef HG_PARSE_H
#define HG_PARSE_H

#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <linux/udp.h>

#include "hg_pkt.h"

/* Fills pkt's key, offsets and flags from the frame. Expects length, port and an otherwise zero key.
 * On malformed input sets pkt->reason and returns false. */
HG_STAGE int hg_parse(struct xdp_md *ctx, struct hg_pkt *pkt);

/* Not in the UAPI headers. */
#define IP_MF	       0x2000
#define IP_OFFSET_MASK 0x1fff
#define HG_FIRST_GROUP 0xe0000000 /* 224.0.0.0, where IPv4's unicast addresses end */

/* hg_parse for what most packets are, in line: untagged unicast, IPv4 without options or fragments, TCP or
 * UDP. False says nothing of the packet, but that it is for hg_parse to look at. */
static __always_inline bool hg_parse_common(struct xdp_md *ctx, struct hg_pkt *pkt)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	const struct iphdr *ip = data + ETH_HLEN;
	const __u8 *l4 = (void *)(ip + 1);
	__u32 src, dst, length, size, flags = 0;

	if ((void *)l4 + sizeof(struct udphdr) > end)
		return false;
	if (*(__be16 *)(data + 2 * ETH_ALEN) != bpf_htons(ETH_P_IP) || *(__u8 *)ip != 0x45 ||
	    (ip->frag_off & bpf_htons(IP_MF | IP_OFFSET_MASK)) || (*(__u8 *)data & 1))
		return false;
	src = bpf_ntohl(ip->saddr);
	dst = bpf_ntohl(ip->daddr);
	length = bpf_ntohs(ip->tot_len);
	if (src >= HG_FIRST_GROUP || dst >= HG_FIRST_GROUP || ETH_HLEN + length > pkt->length)
		return false;
	if (ip->protocol == IPPROTO_UDP) {
		size = bpf_ntohs(*(__be16 *)(l4 + 4));
		if (size < sizeof(struct udphdr) || sizeof(*ip) + size > length)
			return false;
	} else if (ip->protocol == IPPROTO_TCP) {
		if ((void *)l4 + sizeof(struct tcphdr) > end)
			return false;
		size = l4[12] >> 4 << 2;
		if (size < sizeof(struct tcphdr) || sizeof(*ip) + size > length)
			return false;
		flags = l4[13];
	} else {
		return false;
	}
	pkt->pairs[HG_WORD_SRC / 2] = hg_pair(src, 0);
	pkt->pairs[HG_WORD_DST / 2] = hg_pair(dst, 0);
	pkt->pairs[HG_WORD_PORTS / 2] =
	    hg_pair(bpf_ntohl(*(__be32 *)l4),
		    (__u32)ip->protocol << HG_PROTO_SHIFT | ip->tos >> 2 << HG_DSCP_SHIFT |
			flags << HG_TCP_FLAGS_SHIFT | HG_KIND_IPV4 | HG_KIND_IP | HG_KIND_PORTS);
	pkt->pairs[HG_WORD_INGRESS / 2] = hg_pair(pkt->port << 16, length);
	pkt->l3 = ETH_HLEN;
	pkt->l4 = ETH_HLEN + sizeof(*ip);
	pkt->ethertype = ETH_P_IP;
	return true;
}

#endif
