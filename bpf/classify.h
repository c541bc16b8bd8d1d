/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
#ifndef HG_CLASSIFY_H
#define HG_CLASSIFY_H

#include "hg_pkt.h"

/* The prefix sets that hold a packet's addresses. */
struct hg_sets {
	union {
		struct {
			__u64 src[HG_SET_WORDS];
			__u64 dst[HG_SET_WORDS];
		};
		__u64 words[2 * HG_SET_WORDS];
	};
};

/* What is returned when a table entry is missing, which no configuration should cause. */
#define HG_NO_ENTRY (~0ULL)

/* Walks a tree of rules. Sets pkt's rule_id, rule_flags and action to those of the matching entry of highest
 * priority, if that is above `best`. Returns the priority to beat from now on, or HG_NO_ENTRY. Without `sets`
 * no entry that names one matches. */
HG_STAGE __u64 hg_search_tree(struct hg_pkt *pkt, const struct hg_sets *sets, __u32 tree, __u32 best);

/* For generations with rules that name sets. Finds the packet's; false when a table entry is missing. */
HG_STAGE int hg_find_sets(const struct hg_root *root, struct hg_pkt *pkt, struct hg_sets *sets);

/* As hg_search_tree, of the trees of those of these sets that are in `word`. */
HG_STAGE __u64 hg_search_sets(const struct hg_root *root, struct hg_pkt *pkt, const struct hg_sets *sets,
			      __u32 word, __u32 best);

static __always_inline void hg_take_rule(struct hg_pkt *pkt, const struct hg_rule *rule)
{
	pkt->rule_id = rule->id;
	pkt->rule_flags = rule->flags;
	pkt->action = rule->action;
}

#endif
