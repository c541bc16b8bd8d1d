/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * The receiver's account: which numbers of a stream came and how long frames were on their way. Its program
 * keeps it, user space reads it, and tests of both run the same code.
 */
#ifndef HGB_ACCOUNT_H
#define HGB_ACCOUNT_H

#include <linux/types.h>

#define HGB_STREAMS		64 /* streams a receiver tells apart */
#define HGB_WINDOW_WORDS	2048
#define HGB_MARK_RETRIES	16 /* of a word that other CPUs write too */
#define HGB_WINDOW_WORD_NUMBERS 32
/* A duplicate is known as one when it comes at most this far behind. */
#define HGB_WINDOW_NUMBERS (HGB_WINDOW_WORDS * HGB_WINDOW_WORD_NUMBERS)

/* Which of the last numbers came: each word holds 32 of them, below the turn of the window they belong to. */
struct hgb_window {
	__u64 next;		       /* highest number seen, plus one */
	__u64 words[HGB_WINDOW_WORDS]; /* turn << 32 | one bit a number */
};

enum hgb_arrival {
	HGB_FIRST,
	HGB_AGAIN,
	HGB_BEYOND
};

/* Notes that a number came. Several CPUs may receive one stream. */
static inline __attribute__((always_inline)) enum hgb_arrival hgb_mark(struct hgb_window *window,
								       __u64 number)
{
	__u64 *word = &window->words[number / HGB_WINDOW_WORD_NUMBERS % HGB_WINDOW_WORDS];
	__u32 bit = 1U << number % HGB_WINDOW_WORD_NUMBERS;
	__u32 turn = (__u32)(number / HGB_WINDOW_NUMBERS) + 1;
	__u64 old = *(volatile __u64 *)word, seen, fresh;
	int i;

	for (i = 0; i < HGB_MARK_RETRIES; i++) {
		if (old >> 32 > turn)
			return HGB_BEYOND;
		if (old >> 32 == turn && (old & bit))
			return HGB_AGAIN;
		fresh = old >> 32 == turn ? old | bit : (__u64)turn << 32 | bit;
		seen = __sync_val_compare_and_swap(word, old, fresh);
		if (seen == old)
			return HGB_FIRST;
		old = seen;
	}
	return HGB_BEYOND;
}

/* Per CPU. */
struct hgb_stream {
	__u64 packets;
	__u64 bytes;
	__u64 duplicates;    /* of the packets */
	__u64 reordered;     /* came after a higher number (RFC 4737, section 3) */
	__u64 beyond_window; /* too far behind to tell a first arrival from a duplicate */
	__u64 next;	     /* highest number seen by this CPU, plus one */
};

/* Per CPU. */
struct hgb_totals {
	__u64 packets; /* of streams, and in count-only mode all */
	__u64 bytes;
	__u64 foreign_packets;
	__u64 foreign_bytes;
	__u64 latency_max; /* ns */
	__u64 clockless;   /* sent in the future or longer ago than the histogram reaches: another clock */
};

/* Log-linear: 128 buckets an octave, so that a bucket is less than 0.8 % wide; below 128 ns one a value. */
#define HGB_BUCKET_BITS	       7
#define HGB_BUCKETS_PER_OCTAVE (1 << HGB_BUCKET_BITS)
#define HGB_LATENCY_BITS       37 /* up to 137 s */
#define HGB_BUCKETS	       ((HGB_LATENCY_BITS - HGB_BUCKET_BITS + 1) * HGB_BUCKETS_PER_OCTAVE)

struct hgb_histogram {
	__u64 bucket[HGB_BUCKETS];
};

/* The bucket of a value below 2^HGB_LATENCY_BITS. */
static inline __attribute__((always_inline)) __u32 hgb_bucket(__u64 value)
{
	__u32 high = (__u32)(value >> HGB_BUCKET_BITS), octave = 0;

	/* BPF has no instruction that counts leading zeros. */
	if (high >> 16) {
		octave += 16;
		high >>= 16;
	}
	if (high >> 8) {
		octave += 8;
		high >>= 8;
	}
	if (high >> 4) {
		octave += 4;
		high >>= 4;
	}
	if (high >> 2) {
		octave += 2;
		high >>= 2;
	}
	octave += (high >> 1) + (high != 0);
	if (octave == 0)
		return (__u32)value;
	return octave * HGB_BUCKETS_PER_OCTAVE + (__u32)(value >> (octave - 1)) - HGB_BUCKETS_PER_OCTAVE;
}

#endif /* HGB_ACCOUNT_H */
