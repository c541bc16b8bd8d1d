/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
#ifndef HG_FORWARD_H
#define HG_FORWARD_H

#include "hg_pkt.h"

/* Each returns the XDP action and sets pkt->reason and, when the packet leaves, pkt->egress_port. */

/* Back out of the ingress device, addresses swapped as the action's flags say. */
HG_STAGE int hg_tx(struct xdp_md *ctx, struct hg_pkt *pkt, const struct hg_action *action);

/* Out of the action's port, with its addresses where it gives any. */
HG_STAGE int hg_redirect(struct xdp_md *ctx, struct hg_pkt *pkt, const struct hg_action *action);

/* By the kernel's routes and neighbours. */
HG_STAGE int hg_route(struct xdp_md *ctx, struct hg_pkt *pkt);

/* To a named next hop of this generation. */
HG_STAGE int hg_to_next_hop(struct xdp_md *ctx, struct hg_pkt *pkt, const struct hg_root *root, __u32 id);

#endif
