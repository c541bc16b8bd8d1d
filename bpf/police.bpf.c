// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * Police: rate limits, global by rule or by rule and source address. Owns the buckets.
 *
 * A bucket is one 64-bit theoretical arrival time (GCRA, ITU-T I.371): the time at which it would be full
 * again. One compare-and-swap takes a packet's cost, so the limit is exact over all CPUs without a lock.
 */
#include "police.h"

/* By rule id; kept across generations so that a change elsewhere does not refill a bucket. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} hg_limiters SEC(".maps");

/* By leg id. */
/* Workers take of the same buckets, through a memory map. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, HG_LEGS);
	__type(key, __u32);
	__type(value, __u64);
} hg_leg_limiters SEC(".maps");

struct source_key {
	__u32 rule_id;
	__u32 addr[4]; /* host-order words, as in the match key */
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1);
	__type(key, struct source_key);
	__type(value, __u64);
} hg_sources SEC(".maps");

#define CAS_TRIES 8

/* A CPU may look at the time, and at the bucket only after others took from it at a later time. */
#define CLOCK_SLACK (1000000000ULL << HG_POLICE_SHIFT)

/* now, cost and depth in 2^-14 ns, modular. */
static __always_inline bool take(__u64 *full_at, __u64 now, __u64 cost, __u64 depth, bool commit)
{
	__u64 seen, next, ahead;
	int i;

	for (i = 0; i < CAS_TRIES; i++) {
		seen = *(volatile __u64 *)full_at;
		ahead = seen - now;
		/* In the past, or much further ahead than a bucket of this depth can be (an idle time past
		 * the wrap, or a deeper bucket before a rule change): full. */
		if (ahead > depth + CLOCK_SLACK)
			ahead = 0;
		if (ahead + cost > depth)
			return false;
		if (!commit)
			return true;
		next = now + ahead + cost;
		if (__sync_val_compare_and_swap(full_at, seen, next) == seen)
			return true;
	}
	/* Eight other CPUs won in a row; there was room each time, and what is taken too much is waited for
	 * later. */
	__sync_fetch_and_add(full_at, cost);
	return true;
}

static __always_inline __u64 *source_bucket(const struct hg_pkt *pkt, __u64 now)
{
	struct source_key key = {.rule_id = pkt->rule_id};
	__u64 *bucket;
	int i;

	for (i = 0; i < 4; i++)
		key.addr[i] = pkt->key[HG_WORD_SRC + i];
	bucket = bpf_map_lookup_elem(&hg_sources, &key);
	if (bucket || hg_is_traced(pkt))
		return bucket;
	bpf_map_update_elem(&hg_sources, &key, &now, BPF_NOEXIST);
	return bpf_map_lookup_elem(&hg_sources, &key);
}

HG_STAGE int hg_police(const struct hg_action *action, struct hg_pkt *pkt)
{
	__u64 *bucket, now, cost;
	__u32 rule_id;

	if (!action || !pkt)
		return false;
	now = bpf_ktime_get_ns() << HG_POLICE_SHIFT;
	cost = action->police_cost;
	rule_id = pkt->rule_id;
	pkt->stages |= HG_STAGE_POLICE;
	if (action->flags & HG_ACTION_POLICE_BITS)
		cost *= pkt->length;
	if (action->flags & HG_ACTION_POLICE_SOURCE)
		bucket = source_bucket(pkt, now);
	else
		bucket = bpf_map_lookup_elem(&hg_limiters, &rule_id);
	/* A source without a bucket yet has a full one. */
	if (!bucket)
		return true;
	return take(bucket, now, cost, action->police_depth, !hg_is_traced(pkt));
}

HG_STAGE int hg_police_leg(__u32 leg, __u64 cost, __u64 depth)
{
	__u64 *bucket = bpf_map_lookup_elem(&hg_leg_limiters, &leg);

	return !bucket || take(bucket, bpf_ktime_get_ns() << HG_POLICE_SHIFT, cost, depth, true);
}
