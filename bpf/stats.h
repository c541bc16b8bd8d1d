/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The one exit's counters, inlined into the entry point, and the stages that copy packets to user space. */
#ifndef HG_STATS_H
#define HG_STATS_H

#include "hg_pkt.h"

/* By port id * HG_REASON_SLOTS + reason. */
struct hg_port_stats_map {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, HG_PORTS *HG_REASON_SLOTS);
	__type(key, __u32);
	__type(value, struct hg_count);
};
extern struct hg_port_stats_map hg_port_stats SEC(".maps");

struct hg_rule_stats_map {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1); /* sized by the agent before loading */
	__type(key, __u32);
	__type(value, struct hg_rule_count_page);
};
extern struct hg_rule_stats_map hg_rule_stats SEC(".maps");

struct hg_recent_map {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1); /* as many as hg_rule_stats */
	__type(key, __u32);
	__type(value, struct hg_recent_page);
};
extern struct hg_recent_map hg_rule_recent SEC(".maps");

struct hg_counters_map {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, HG_COUNTERS);
	__type(key, __u32);
	__type(value, struct hg_count);
};
extern struct hg_counters_map hg_counters SEC(".maps");

/* By route id: the packets that a multicast route is for. */
struct hg_mroute_stats_map {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, HG_MROUTES);
	__type(key, __u32);
	__type(value, struct hg_count);
};
extern struct hg_mroute_stats_map hg_mroute_stats SEC(".maps");

struct hg_mroute_last_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, HG_MROUTES);
	__type(key, __u32);
	__type(value, struct hg_mroute_last);
};
extern struct hg_mroute_last_map hg_mroute_last SEC(".maps");

/* What few packets need: counts what a rate limit dropped, and carries a full word of hg_rule_recent over. */
HG_STAGE int hg_count_rule_slow(const struct hg_pkt *pkt);

static __always_inline void hg_add(struct hg_count *count, const struct hg_pkt *pkt)
{
	count->packets++;
	count->bytes += pkt->length;
}

/* Counts the packet by its rule. What is rare is left to hg_count_rule_slow. */
static __always_inline void hg_count_rule(const struct hg_pkt *pkt)
{
	__u32 index = pkt->rule_id / HG_RULE_COUNTS_PER_PAGE;
	struct hg_recent_page *page = bpf_map_lookup_elem(&hg_rule_recent, &index);
	volatile __u64 *recent;

	if (!page)
		return;
	recent = &page->rule[pkt->rule_id % HG_RULE_COUNTS_PER_PAGE];
	*recent += (__u64)pkt->length << HG_RECENT_PACKET_BITS | 1;
	if (pkt->reason == HG_REASON_DROP_RATE_LIMIT || (*recent & HG_RECENT_PACKETS) == HG_RECENT_PACKETS)
		hg_count_rule_slow(pkt);
}

/* All CPUs share the row: it is written once a tick. */
static __always_inline void hg_count_mroute(const struct hg_pkt *pkt)
{
	__u32 index = pkt->mroute;
	struct hg_count *count = bpf_map_lookup_elem(&hg_mroute_stats, &index);
	struct hg_mroute_last *last = bpf_map_lookup_elem(&hg_mroute_last, &index);
	__u64 now = bpf_ktime_get_coarse_ns();

	if (count)
		hg_add(count, pkt);
	if (last && last->time != now)
		last->time = now;
}

/* Counts the packet by port and reason, by rule, by named counter and by multicast route. */
static __always_inline void hg_count_packet(const struct hg_pkt *pkt)
{
	__u32 index = pkt->port * HG_REASON_SLOTS + pkt->reason;
	struct hg_count *count = bpf_map_lookup_elem(&hg_port_stats, &index);

	if (count)
		hg_add(count, pkt);
	if (pkt->rule_id)
		hg_count_rule(pkt);
	index = pkt->counter;
	if (index) {
		count = bpf_map_lookup_elem(&hg_counters, &index);
		if (count)
			hg_add(count, pkt);
	}
	if (pkt->mroute)
		hg_count_mroute(pkt);
}

/* Sends a copy of the packet's start to user space when the dice say so. */
HG_STAGE int hg_sample_packet(struct xdp_md *ctx, const struct hg_pkt *pkt, __u32 threshold);

/* Records a traced packet instead of counting it. */
HG_STAGE int hg_record_trace(const struct hg_pkt *pkt, const struct hg_root *root);

/* The ingress port the trace pretends, 0: by device. */
HG_HELPER __u32 hg_trace_port(void);

#endif
