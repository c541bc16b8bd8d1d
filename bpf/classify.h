/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
#ifndef HG_CLASSIFY_H
#define HG_CLASSIFY_H

#include "hg_pkt.h"

/* Both return false when a table entry is missing, which no configuration should cause. */

/* Finds the prefix sets that hold the packet's addresses; for generations with rules that ask. */
HG_STAGE int hg_find_sets(const struct hg_root *root, struct hg_pkt *pkt);

/* Sets pkt's rule, rule_id, rule_flags and action to those of the matching entry of highest priority, or
 * leaves rule zero. */
HG_STAGE int hg_classify(const struct hg_root *root, struct hg_pkt *pkt);

#endif
