// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * Feed: which multicast packets are new and which came before, by a sequence number that they carry or by
 * their content. Owns what each feed has had.
 */
#include "feed.h"

#include <linux/errno.h>
#include <linux/in.h>
#include <linux/udp.h>

#define FEED_WORDS    (HG_FEED_WINDOW / 64)
#define CONTENT_BYTES 1536
#define CONTENT_WORDS (CONTENT_BYTES / 8)
#define CONTENT_MS    1000000 /* of a window, in ns */

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, HG_MROUTES);
	__type(key, __u32);
	__type(value, struct hg_feed);
} hg_feeds SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, HG_CONTENTS);
	__type(key, struct hg_content);
	__type(value, __u64);
} hg_contents SEC(".maps");

/* A payload, which may lie in several buffers, in one. A power of two, which the verifier can follow. */
struct payload {
	__u64 word[256];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct payload);
} hg_payload SEC(".maps");

/* Random, for who sends is not to know them; written once, for hashes are kept as long as the map is. */
struct content_keys {
	__u64 left, right, begin, multiplier;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct content_keys);
} hg_content_keys SEC(".maps");

/* What a sequence number says of its packet. */
enum judgement {
	NEWEST,
	LATE,
	DUPLICATE,
	STALE,
	BEGIN, /* of a sequence */
};

/* Behind the last byte of the network packet: what follows is padding. */
static __always_inline __u32 end_of(const struct hg_pkt *pkt)
{
	return pkt->l3 + (pkt->key[HG_WORD_EXTRA] & 0xffff);
}

static __always_inline bool is_udp(const struct hg_pkt *pkt)
{
	return (hg_kind(pkt) & HG_KIND_PORTS) && hg_protocol(pkt) == IPPROTO_UDP;
}

static __always_inline bool read_number(struct xdp_md *ctx, const struct hg_pkt *pkt,
					const struct hg_feed_key *key, __u64 *number)
{
	__u32 offset = pkt->l4 + sizeof(struct udphdr) + key->offset;
	__u32 width = ((key->width - 1) & 7) + 1; /* as it is, which the verifier cannot know */
	__u64 bytes = 0;

	if (!is_udp(pkt) || offset + width > end_of(pkt) || bpf_xdp_load_bytes(ctx, offset, &bytes, width))
		return false;
	bytes = bpf_be64_to_cpu(bytes);
	*number = key->flags & HG_FEED_LITTLE_ENDIAN ? __builtin_bswap64(bytes) : bytes >> (64 - 8 * width);
	return true;
}

/* How far a number is ahead of the next, modulo what `width` bytes hold; negative: behind. */
static __always_inline __s64 ahead_of(__u64 number, __u64 next, __u32 width)
{
	__u32 shift = 64 - 8 * width;

	return (__s64)((number - next) << shift) >> shift;
}

static __always_inline enum judgement judge(const struct hg_feed *feed, __s64 ahead, __u32 window, __u64 now)
{
	/* Of no longer than a run's packets are under way: what is old by then is of another run. */
	bool quiet = (__s64)(now - feed->time) > HG_FEED_QUIET;
	__u64 number = feed->next + ahead;

	if (!feed->begun || ahead > HG_FEED_JUMP)
		return BEGIN;
	if (ahead >= 0)
		return NEWEST;
	if (-ahead > window)
		return quiet ? BEGIN : STALE;
	if (!(feed->seen[number / 64 % FEED_WORDS] >> number % 64 & 1))
		return LATE;
	return quiet ? BEGIN : DUPLICATE;
}

/* Numbers from `first` to `last` have not come. */
static __always_inline void forget(struct hg_feed *feed, __u64 first, __u64 last)
{
	__u64 word = first / 64, words = (last - word * 64) / 64, bits = ~0ULL << first % 64;
	__u32 i;

	if (words > FEED_WORDS)
		bits = ~0ULL;
	for (i = 0; i < FEED_WORDS && i < words; i++) {
		feed->seen[(word + i) % FEED_WORDS] &= ~bits;
		bits = ~0ULL;
	}
	if (words <= FEED_WORDS)
		feed->seen[last / 64 % FEED_WORDS] &= ~(bits & ~0ULL >> (63 - last % 64));
}

static __always_inline void advance(struct hg_feed *feed, __s64 ahead, __u64 now)
{
	__u64 told = feed->begun + ahead + 1;

	forget(feed, feed->next, feed->next + ahead);
	feed->missing += ahead;
	feed->next += ahead + 1;
	feed->begun = told < HG_FEED_WINDOW ? told : HG_FEED_WINDOW;
	feed->time = now;
}

/* hg_feed.begun is how many numbers up to the highest are told, HG_FEED_WINDOW at most: what is before them
 * was not missing until something from further before came. */
static __always_inline void fill_in(struct hg_feed *feed, __u64 behind)
{
	if (behind > feed->begun) {
		feed->missing += behind - feed->begun - 1;
		feed->begun = behind;
	} else {
		feed->missing--;
	}
	feed->late++;
}

static __always_inline void begin(struct hg_feed *feed, __u64 number, __u64 now)
{
	if (feed->begun)
		feed->restarts++;
	forget(feed, number + 1 - HG_FEED_WINDOW, number);
	feed->next = number + 1;
	feed->begun = 1;
	feed->time = now;
}

static __always_inline void note(struct hg_feed *feed, enum judgement judgement, __u64 number, __s64 ahead,
				 __u64 now)
{
	switch (judgement) {
	case DUPLICATE:
		feed->duplicates++;
		return;
	case STALE:
		feed->stale++;
		return;
	case NEWEST:
		advance(feed, ahead, now);
		break;
	case LATE:
		fill_in(feed, -ahead);
		break;
	case BEGIN:
		begin(feed, number, now);
		break;
	}
	feed->packets++;
	feed->seen[number / 64 % FEED_WORDS] |= 1ULL << number % 64;
}

static __always_inline bool is_new_number(struct hg_feed *feed, const struct hg_feed_key *key, __u64 read,
					  bool commit)
{
	__u64 now = bpf_ktime_get_ns(), number;
	__u32 window = key->window, width = key->width;
	enum judgement judgement;
	__s64 ahead;

	bpf_spin_lock(&feed->lock);
	ahead = ahead_of(read, feed->next, width);
	/* Not modulo: numbers go on where those of few bytes wrap. */
	number = feed->next + ahead;
	judgement = judge(feed, ahead, window, now);
	if (commit)
		note(feed, judgement, number, ahead, now);
	bpf_spin_unlock(&feed->lock);
	return judgement != DUPLICATE && judgement != STALE;
}

/* A multiplication of 64 bits lets its uppermost bit through as it is, so that differences could be chosen to
 * cancel out; the product of the halves, that each depend on a key, tells them apart. */
static __always_inline __u64 mix(__u64 hash, __u64 word, __u64 multiplier)
{
	hash = (hash ^ word) * multiplier;
	hash ^= hash >> 32;
	return hash + (word & 0xffffffff) * (word >> 32);
}

/* Of a payload that is filled up with zeros to whole pairs of words. */
static __always_inline __u64 hash_of(const struct payload *payload, __u32 size,
				     const struct content_keys *keys)
{
	__u64 left_key = keys->left, right_key = keys->right, left = keys->begin, right = left,
	      multiplier = keys->multiplier | 1;
	__u32 i;

	/* Two at a time, for one waits for its own multiplication only. */
	for (i = 0; i < CONTENT_WORDS && i * 8 < size; i += 2) {
		left = mix(left, payload->word[i] ^ left_key, multiplier);
		right = mix(right, payload->word[i + 1] ^ right_key, multiplier);
	}
	return mix(mix(left, right, multiplier), 0, multiplier);
}

static __always_inline bool read_content(struct xdp_md *ctx, const struct hg_pkt *pkt,
					 struct hg_content *content)
{
	__u32 start = pkt->l4 + (is_udp(pkt) ? sizeof(struct udphdr) : 0), end = end_of(pkt), size, zero = 0;
	const struct content_keys *keys = bpf_map_lookup_elem(&hg_content_keys, &zero);
	struct payload *payload = bpf_map_lookup_elem(&hg_payload, &zero);

	if (!keys || !payload || (hg_kind(pkt) & HG_KIND_LATER) || start > end)
		return false;
	content->length = size = end - start;
	if (size > CONTENT_BYTES)
		size = CONTENT_BYTES;
	if (size > 0) {
		payload->word[(size - 1) / 16 * 2 & 255] = 0;
		payload->word[((size - 1) / 16 * 2 + 1) & 255] = 0;
		if (bpf_xdp_load_bytes(ctx, start, payload, size))
			return false;
	}
	content->hash = hash_of(payload, size, keys);
	return true;
}

static __always_inline bool is_new_content(const struct hg_content *content, __s64 window, bool commit)
{
	__u64 *time = bpf_map_lookup_elem(&hg_contents, content), now = bpf_ktime_get_ns(), first;

	/* Of two CPUs one finds it there. */
	if (!time)
		return !commit || bpf_map_update_elem(&hg_contents, content, &now, BPF_NOEXIST) != -EEXIST;
	first = *(volatile __u64 *)time;
	/* Another CPU may have looked at the clock later. */
	if ((__s64)(now - first) < window)
		return false;
	return !commit || __sync_val_compare_and_swap(time, first, now) == first;
}

static __always_inline void count(__u64 *counter, bool commit)
{
	if (commit)
		__sync_fetch_and_add(counter, 1);
}

/* A stage of its own for the verifier's sake, as hg_take_number is. */
HG_STAGE int hg_take_content(struct xdp_md *ctx, const struct hg_pkt *pkt, const struct hg_feed_key *key)
{
	struct hg_content content = {};
	struct hg_feed *feed;
	bool commit, is_new;

	if (!pkt || !key)
		return true;
	content.feed = key->feed;
	feed = bpf_map_lookup_elem(&hg_feeds, &content.feed);
	if (!feed)
		return true;
	commit = !hg_is_traced(pkt);
	if (!read_content(ctx, pkt, &content)) {
		count(&feed->unread, commit);
		return true;
	}
	is_new = is_new_content(&content, (__s64)key->window * CONTENT_MS, commit);
	count(is_new ? &feed->packets : &feed->duplicates, commit);
	return is_new;
}

HG_STAGE int hg_take_number(struct xdp_md *ctx, const struct hg_pkt *pkt, const struct hg_feed_key *key)
{
	struct hg_feed *feed;
	bool commit;
	__u64 number;
	__u32 id;

	if (!pkt || !key)
		return true;
	id = key->feed;
	feed = bpf_map_lookup_elem(&hg_feeds, &id);
	if (!feed)
		return true;
	commit = !hg_is_traced(pkt);
	if (!read_number(ctx, pkt, key, &number)) {
		count(&feed->unread, commit);
		return true;
	}
	return is_new_number(feed, key, number, commit) || !(key->flags & HG_FEED_DROP);
}

HG_STAGE int hg_take_from_feed(struct xdp_md *ctx, const struct hg_pkt *pkt, const struct hg_feed_key *key)
{
	if (!pkt || !key)
		return true;
	return key->width ? hg_take_number(ctx, pkt, key) : hg_take_content(ctx, pkt, key);
}
