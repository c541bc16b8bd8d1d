/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
#ifndef HG_FEED_H
#define HG_FEED_H

#include "hg_pkt.h"

/* Counts the packet by its feed. Whether it is to be relayed: false for what the feed had before, where
 * duplicates are dropped. */
HG_STAGE int hg_take_from_feed(struct xdp_md *ctx, const struct hg_pkt *pkt, const struct hg_feed_key *key);

#endif
