/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
#ifndef HG_CLASSIFY_H
#define HG_CLASSIFY_H

#include "hg_pkt.h"

/* The prefix sets that hold a packet's addresses. */
struct hg_sets {
	__u64 src[HG_SET_WORDS];
	__u64 dst[HG_SET_WORDS];
};

/* Both return false when a table entry is missing, which no configuration should cause. */

/* Finds the packet's sets; for generations with rules that ask. */
HG_STAGE int hg_find_sets(const struct hg_root *root, struct hg_pkt *pkt, struct hg_sets *sets);

/* Sets pkt's rule_id, rule_flags and action to those of the matching entry of highest priority, or
 * leaves them zero; remembers that for the flow. */
HG_STAGE int hg_classify(const struct hg_root *root, struct hg_pkt *pkt, const struct hg_sets *sets);

static __always_inline void hg_take_rule(struct hg_pkt *pkt, const struct hg_rule *rule)
{
	pkt->rule_id = rule->id;
	pkt->rule_flags = rule->flags;
	pkt->action = rule->action;
}

#endif
