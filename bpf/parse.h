/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
#ifndef HG_PARSE_H
#define HG_PARSE_H

#include "hg_pkt.h"

/* Fills pkt's key, offsets and flags from the frame. Expects length, port and an otherwise zero key.
 * On malformed input sets pkt->reason and returns false. */
HG_STAGE int hg_parse(struct xdp_md *ctx, struct hg_pkt *pkt);

#endif
