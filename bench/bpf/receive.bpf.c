// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * The receiver: counts every frame, and those of a sender by stream: what is missing, doubled or out of
 * order, and how long each was on its way.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <stdbool.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "account.h"
#include "wire.h"

#define VLAN_TAGS    2
#define VLAN_BYTES   4
#define GENEVE_BYTES 8

/* Set before loading. */
const volatile __u8 pass;	/* let frames go on to the stack */
const volatile __u8 count_only; /* look into no frame */

__u32 streams; /* slots given out */

/* Stream id to slot + 1. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 65536);
	__type(key, __u32);
	__type(value, __u32);
} hgb_slots SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, HGB_STREAMS);
	__type(key, __u32);
	__type(value, struct hgb_window);
} hgb_windows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, HGB_STREAMS);
	__type(key, __u32);
	__type(value, struct hgb_stream);
} hgb_streams SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct hgb_totals);
} hgb_totals SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct hgb_histogram);
} hgb_latency SEC(".maps");

static __always_inline void *after_tags(void *data, void *end, __be16 *type)
{
	struct ethhdr *eth = data;
	__be16 *tag;
	int i;

	if ((void *)(eth + 1) > end)
		return NULL;
	*type = eth->h_proto;
	data = eth + 1;
#pragma unroll
	for (i = 0; i < VLAN_TAGS; i++) {
		if (*type != bpf_htons(ETH_P_8021Q) && *type != bpf_htons(ETH_P_8021AD))
			break;
		tag = data;
		if (data + VLAN_BYTES > end)
			return NULL;
		*type = tag[1];
		data += VLAN_BYTES;
	}
	return data;
}

static __always_inline void *after_ip(void *data, void *end, __be16 type, __u8 *protocol)
{
	struct ipv6hdr *ip6 = data;
	struct iphdr *ip = data;

	if (type == bpf_htons(ETH_P_IP)) {
		if ((void *)(ip + 1) > end)
			return NULL;
		*protocol = ip->protocol;
		return data + ip->ihl * 4;
	}
	if (type != bpf_htons(ETH_P_IPV6) || (void *)(ip6 + 1) > end)
		return NULL;
	*protocol = ip6->nexthdr;
	return ip6 + 1;
}

/* To what GENEVE carries (RFC 8926, section 3.4), an IP packet or a frame. A record is no GENEVE header: its
 * version would be 1. */
static __always_inline void *after_geneve(void *data, void *end, __be16 *type)
{
	__u8 *header = data;

	if (data + GENEVE_BYTES > end || header[0] >> 6)
		return NULL;
	*type = *(__be16 *)(data + 2);
	data += GENEVE_BYTES + (header[0] & 0x3f) * 4;
	return *type == bpf_htons(ETH_P_TEB) ? after_tags(data, end, type) : data;
}

/* The packet in a tunnel, when there is one; otherwise leaves all as it is. */
static __always_inline void *after_tunnel(void *data, void *end, __u8 *protocol)
{
	struct udphdr *udp = data;
	void *inner;
	__be16 type;

	if (*protocol != IPPROTO_UDP || (void *)(udp + 1) > end || udp->dest != bpf_htons(HGB_GENEVE_PORT))
		return data;
	inner = after_geneve(udp + 1, end, &type);
	if (!inner)
		return data;
	return after_ip(inner, end, type, protocol);
}

/* The record of a frame that hgbench sent. */
static __always_inline struct hgb_record *find_record(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct hgb_record *record;
	struct tcphdr *tcp;
	__u8 protocol;
	__be16 type;

	data = after_tags(data, end, &type);
	if (!data)
		return NULL;
	data = after_ip(data, end, type, &protocol);
	if (!data)
		return NULL;
	data = after_tunnel(data, end, &protocol);
	if (!data)
		return NULL;
	if (protocol == IPPROTO_UDP) {
		data += sizeof(struct udphdr);
	} else if (protocol == IPPROTO_TCP) {
		tcp = data;
		if ((void *)(tcp + 1) > end)
			return NULL;
		data += tcp->doff * 4;
	} else {
		return NULL;
	}
	record = data;
	if ((void *)(record + 1) > end || record->magic != bpf_htons(HGB_MAGIC))
		return NULL;
	return record;
}

/* The slot of a stream, HGB_STREAMS when there are too many. */
static __always_inline __u32 slot_of(__u32 stream)
{
	__u32 *entry = bpf_map_lookup_elem(&hgb_slots, &stream), slot, other;

	if (!entry)
		return HGB_STREAMS;
	if (*entry)
		return *entry - 1;
	if (streams >= HGB_STREAMS)
		return HGB_STREAMS;
	slot = __sync_fetch_and_add(&streams, 1);
	if (slot >= HGB_STREAMS)
		return HGB_STREAMS;
	other = __sync_val_compare_and_swap(entry, 0, slot + 1);
	return other ? other - 1 : slot;
}

static __always_inline void count_in_stream(__u32 slot, __u64 wire_number, __u64 bytes)
{
	struct hgb_window *window = bpf_map_lookup_elem(&hgb_windows, &slot);
	struct hgb_stream *stream = bpf_map_lookup_elem(&hgb_streams, &slot);
	__u64 number = wire_number & HGB_NUMBER_MASK;
	enum hgb_arrival arrival;

	if (!window || !stream)
		return;
	stream->packets++;
	stream->bytes += bytes;
	arrival = hgb_mark(window, number);
	if (arrival == HGB_AGAIN) {
		stream->duplicates++;
		return;
	}
	stream->beyond_window += arrival == HGB_BEYOND;
	if (number >= stream->next)
		stream->next = number + 1;
	/* Not atomic: when two CPUs receive one stream at the same time, order is theirs to lose anyway. */
	if (number >= window->next)
		window->next = number + 1;
	else if (!(wire_number & HGB_NUMBER_RETRIED))
		stream->reordered++;
}

static __always_inline void count_latency(struct hgb_totals *totals, const struct hgb_record *record)
{
	struct hgb_histogram *histogram;
	__u64 latency, sent;
	__u32 zero = 0, bucket;

	sent = (__u64)bpf_ntohs(record->time_high) << 32 | bpf_ntohl(record->time_low);
	latency = (bpf_ktime_get_ns() - sent) & HGB_TIME_MASK;
	if (latency >> HGB_LATENCY_BITS) {
		totals->clockless++;
		return;
	}
	if (latency > totals->latency_max)
		totals->latency_max = latency;
	bucket = hgb_bucket(latency);
	histogram = bpf_map_lookup_elem(&hgb_latency, &zero);
	if (histogram && bucket < HGB_BUCKETS)
		histogram->bucket[bucket]++;
}

SEC("xdp.frags")
int hgb_receive(struct xdp_md *ctx)
{
	__u64 bytes = bpf_xdp_get_buff_len(ctx);
	struct hgb_record *record = NULL;
	struct hgb_totals *totals;
	__u32 zero = 0, slot;

	totals = bpf_map_lookup_elem(&hgb_totals, &zero);
	if (!totals)
		return XDP_ABORTED;
	if (!count_only) {
		record = find_record(ctx);
		slot = record ? slot_of(bpf_ntohs(record->stream)) : HGB_STREAMS;
		if (slot >= HGB_STREAMS) {
			totals->foreign_packets++;
			totals->foreign_bytes += bytes;
			return pass ? XDP_PASS : XDP_DROP;
		}
		count_latency(totals, record);
		count_in_stream(slot, bpf_be64_to_cpu(record->number), bytes);
	}
	totals->packets++;
	totals->bytes += bytes;
	return pass ? XDP_PASS : XDP_DROP;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
