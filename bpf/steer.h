/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
#ifndef HG_STEER_H
#define HG_STEER_H

#include "hg_pkt.h"

/* Hands the packet to the AF_XDP socket of its device and queue, or to the target's fallback when there is
 * none. Returns the XDP action and sets pkt->reason. */
HG_STAGE int hg_steer(struct xdp_md *ctx, struct hg_pkt *pkt, const struct hg_root *root, __u32 id);

/* The same, to a worker that replicates the packets of pkt->mroute; dropped when there is none. */
HG_STAGE int hg_steer_multicast(struct xdp_md *ctx, struct hg_pkt *pkt);

#endif
