// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * Stats: every counter, the sample events and the trace record. Counters are per CPU and never belong to a
 * generation: they are indexed by ids that outlive rule changes, restarts and upgrades.
 */
#include "stats.h"

struct hg_port_stats_map hg_port_stats SEC(".maps");
struct hg_rule_stats_map hg_rule_stats SEC(".maps");
struct hg_recent_map hg_rule_recent SEC(".maps");
struct hg_counters_map hg_counters SEC(".maps");
struct hg_mroute_stats_map hg_mroute_stats SEC(".maps");
struct hg_mroute_last_map hg_mroute_last SEC(".maps");

/* What is to be added, modulo 2^64, to what a rule id has counted: from before hg_rule_stats was made anew in
 * another size, or less what the id had counted for a rule that is gone. Written by user space alone. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct hg_rule_count);
} hg_rule_base SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} hg_samples SEC(".maps");

/* Samples that found the ring full. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} hg_samples_lost SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct hg_trace);
} hg_traces SEC(".maps");

HG_STAGE int hg_count_rule_slow(const struct hg_pkt *pkt)
{
	struct hg_recent_page *recent_page;
	struct hg_rule_count_page *page;
	struct hg_rule_count *rule;
	volatile __u64 *recent;
	__u32 index;

	if (!pkt)
		return 0;
	index = pkt->rule_id / HG_RULE_COUNTS_PER_PAGE;
	page = bpf_map_lookup_elem(&hg_rule_stats, &index);
	recent_page = bpf_map_lookup_elem(&hg_rule_recent, &index);
	if (!page || !recent_page)
		return 0;
	rule = &page->rule[pkt->rule_id % HG_RULE_COUNTS_PER_PAGE];
	recent = &recent_page->rule[pkt->rule_id % HG_RULE_COUNTS_PER_PAGE];
	if (pkt->reason == HG_REASON_DROP_RATE_LIMIT)
		rule->limited++;
	if ((*recent & HG_RECENT_PACKETS) == HG_RECENT_PACKETS) {
		rule->packets += HG_RECENT_PACKETS;
		rule->bytes += *recent >> HG_RECENT_PACKET_BITS;
		/* Last, and by an atomic that orders what is before it for all CPUs: until then readers see a
		 * full word, and read again. */
		__sync_lock_test_and_set(recent, 0);
	}
	return 0;
}

/* A function of its own so that BTF has struct hg_sample, for who reads the ring by it. */
static __attribute__((noinline)) void fill_sample(struct xdp_md *ctx, const struct hg_pkt *pkt,
						  struct hg_sample *sample)
{
	__u32 captured = pkt->length;

	if (captured > HG_SAMPLE_BYTES)
		captured = HG_SAMPLE_BYTES;
	sample->time = bpf_ktime_get_ns();
	sample->rule_id = pkt->rule_id;
	sample->ifindex = ctx->ingress_ifindex;
	sample->port = pkt->port;
	sample->reason = pkt->reason;
	sample->length = pkt->length;
	sample->captured = captured;
	/* The check bounds the length for the verifier, which refuses a read of zero bytes. */
	if (captured == 0 || bpf_xdp_load_bytes(ctx, 0, sample->data, captured))
		sample->captured = 0;
}

HG_STAGE int hg_sample_packet(struct xdp_md *ctx, const struct hg_pkt *pkt, __u32 threshold)
{
	struct hg_sample *sample;
	__u32 zero = 0;
	__u64 *lost;

	if (!pkt)
		return 0;
	if (threshold != 0xffffffff && bpf_get_prandom_u32() >= threshold)
		return 0;
	sample = bpf_ringbuf_reserve(&hg_samples, sizeof(*sample), 0);
	if (!sample) {
		lost = bpf_map_lookup_elem(&hg_samples_lost, &zero);
		if (lost)
			(*lost)++;
		return 0;
	}
	fill_sample(ctx, pkt, sample);
	bpf_ringbuf_submit(sample, 0);
	return 0;
}

HG_STAGE int hg_record_trace(const struct hg_pkt *pkt, const struct hg_root *root)
{
	__u32 zero = 0;
	struct hg_trace *trace = bpf_map_lookup_elem(&hg_traces, &zero);
	int i;

	if (!trace || !pkt)
		return 0;
	trace->generation = root ? root->generation : 0;
	trace->rule_id = pkt->rule_id;
	trace->action = pkt->action;
	trace->reason = pkt->reason;
	trace->egress_port = pkt->egress_port;
	trace->stages = pkt->stages;
	trace->steps = pkt->steps;
	trace->mroute = pkt->mroute;
	for (i = 0; i < HG_WORDS; i++)
		trace->key[i] = pkt->key[i];
	return 0;
}

HG_HELPER __u32 hg_trace_port(void)
{
	__u32 zero = 0;
	struct hg_trace *trace = bpf_map_lookup_elem(&hg_traces, &zero);

	return trace ? trace->ingress_port : 0;
}
