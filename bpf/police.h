/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
#ifndef HG_POLICE_H
#define HG_POLICE_H

#include "hg_pkt.h"

/* Whether the packet is within the rate limit of its action; takes its cost from the bucket unless traced. */
HG_STAGE int hg_police(const struct hg_action *action, struct hg_pkt *pkt);

/* Whether a copy is within its leg's rate limit; takes its cost. cost and depth in 2^-14 ns. */
HG_STAGE int hg_police_leg(__u32 leg, __u64 cost, __u64 depth);

#endif
