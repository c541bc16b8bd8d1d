/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * A packet's header as a benchmark draws it, in the byte order of the wire, and how it is written into a
 * frame of Ethernet, IPv4 and whatever follows; for BPF programs also the table that they take headers from.
 * Plain C that clang's BPF target and g++ accept.
 */
#ifndef HGB_HEADER_H
#define HGB_HEADER_H

#include <linux/types.h>

struct hgb_header {
	__be32 source;
	__be32 destination;
	__be16 source_port; /* both zero where the protocol has none */
	__be16 destination_port;
	__u8 protocol;
	__u8 pad[3];
};

#ifdef __bpf__
#include <linux/if_ether.h>
#include <linux/ip.h>

#define HGB_L4 (ETH_HLEN + sizeof(struct iphdr))

/* What is left in place serves TCP and UDP alike: UDP's length and TCP's data offset lie apart. */
static __always_inline void hgb_write_header(__u8 *data, const struct hgb_header *header)
{
	struct iphdr *ip = (void *)(data + ETH_HLEN);

	ip->protocol = header->protocol;
	ip->saddr = header->source;
	ip->daddr = header->destination;
	*(__be32 *)(data + HGB_L4) = *(const __be32 *)&header->source_port;
}

/* Constant to the verifier: set before loading, as the table's size is. 0: there are none. */
const volatile __u32 header_count;

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1); /* header_count */
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct hgb_header);
} hgb_headers SEC(".maps");

static __always_inline __u32 hgb_index_after(__u32 index)
{
	return index + 1 < header_count ? index + 1 : 0;
}
#endif

#endif /* HGB_HEADER_H */
