/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Steering to AF_XDP workers: a part of hg_abi.h. */
#ifndef HG_ABI_STEER_H
#define HG_ABI_STEER_H

/* What becomes of steered packets that no worker's socket is to take. */
struct hg_target {
	__u8 fallback; /* HG_VERDICT_PASS or HG_VERDICT_DROP */
	__u8 shed_at;  /* how much of the queue's ring may wait for its worker, in 256ths, before packets are
			  dropped; 0: all of it */
	__u8 pad[6];
};
HG_STATIC_ASSERT(sizeof(struct hg_target) == 8, "hg_target has no hidden padding");

/* Ids of targets: those of the configuration, and one whose handler replicates multicast. */
#define HG_TARGET_MULTICAST (HG_TARGET_PAGES * HG_TARGETS_PER_PAGE)
#define HG_TARGETS	    (HG_TARGET_MULTICAST + 1)

struct hg_target_page {
	struct hg_target target[HG_TARGETS_PER_PAGE];
};

/* What a worker is told of a steered packet, in the XDP metadata right before its first byte. */
struct hg_steer_meta {
	__u32 rule_id; /* HG_TARGET_MULTICAST: the multicast route's */
	__u16 target;  /* id of the steer target */
	__u16 port;    /* ingress port id */
	__u16 l3;      /* offset of the network header */
	__u16 l4;   /* offset of the transport header; of nothing unless HG_KIND_PORTS or HG_KIND_ICMP is in
		       kind */
	__u32 kind; /* enum hg_kind */
};
HG_STATIC_ASSERT(sizeof(struct hg_steer_meta) == 16, "metadata is at most 32 bytes before kernel 6.8");

enum hg_queue_flags {
	HG_QUEUE_FRAGS = 1 << 0, /* the socket takes packets of several buffers; before kernel 6.6 none does,
				    and such packets would be lost uncounted after the redirect */
};

/* By port id * HG_QUEUES_PER_PORT + queue, as the sockets. The worker that reads the queue's socket writes
 * the time here whenever it comes round; one that has not for HG_BEAT_NS hangs, and packets take the
 * fallback. */
struct hg_queue {
	__u64 beat; /* CLOCK_MONOTONIC, ns; 0: never */
	/* When the worker last looked: packets that waited for it in the socket's ring, and in the upper half
	 * what `given` was. One word, for it is read while it is written. */
	__u64 looked;
	__u32 given; /* packets handed to the socket, written by the program */
	__u32 flags; /* enum hg_queue_flags */
};
#define HG_BEAT_NS    1000000000ULL
#define HG_QUEUE_RING 4096 /* packets that a socket's receive ring holds */

/* By target id. */
struct hg_target_state {
	__u32 absent; /* 1: nobody takes its packets, as an application that is not there */
	__u32 pad;
};
HG_STATIC_ASSERT(sizeof(struct hg_target_state) == 8, "values of a mapped array are 8 bytes apart");

#endif /* HG_ABI_STEER_H */
