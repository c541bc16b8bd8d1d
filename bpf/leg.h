/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
#ifndef HG_LEG_H
#define HG_LEG_H

#include "hg_pkt.h"
#include "multicast.h"

/* A copy on its way. */
struct hg_copy {
	__u32 l3;
	__u32 l4;
	__u32 kind; /* enum hg_kind */
	__u32 protocol;
	__u32 port;	 /* egress */
	__u32 length;	 /* frame bytes, as it came */
	__u32 transport; /* what the transport checksum is off by: ones' complement, not folded */
};

/* Makes the copy what the leg says, and counts what became of it, a drop also for hg_devmap_xmit. Returns
 * XDP_PASS or XDP_DROP. A stage: the verifier checks it for any copy. */
HG_STAGE int hg_make_leg(struct xdp_md *ctx, const struct hg_leg *leg, struct hg_copy *copy, __u32 id);

#endif
