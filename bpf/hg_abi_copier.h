/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Copies that the kernel makes at a worker's request: a part of hg_abi.h. */
#ifndef HG_ABI_COPIER_H
#define HG_ABI_COPIER_H

/* A bundle: legs of one route that leave by one device, in the order of the device's entries in the bundle's
 * map in hg_bundle_maps. What is in use is never changed. */
#define HG_BUNDLES     512
#define HG_BUNDLE_LEGS 64 /* of one: a quarter of what a veth device takes at once */

struct hg_bundled_leg {
	struct hg_leg leg; /* with all that the environment says of it: never HG_LEG_SOURCE_EGRESS */
	__u32 id;	   /* of its counters and its rate limit */
	__u32 pad;
};

struct hg_bundle {
	__u32 count; /* legs */
	__u32 pad;
	struct hg_bundled_leg leg[HG_BUNDLE_LEGS];
};

/* What a worker puts before a packet that it sends to the copier, and what the program at the egress finds in
 * the XDP metadata. */
struct hg_bundle_meta {
	__u64 packet; /* tells it from all others */
	__u16 bundle;
	__u16 l3;  /* as in hg_leg_meta */
	__u16 l4;  /* likewise */
	__u8 kind; /* likewise */
	__u8 protocol;
};
HG_STATIC_ASSERT(sizeof(struct hg_bundle_meta) == 16, "metadata is at most 32 bytes before kernel 6.8");

#define HG_COPIER_FRAME 2048 /* bytes it takes at most, hg_bundle_meta included: a frame of workers */

/* Stands for the copier where workers' sockets go by port ids. Nothing arrives there. */
#define HG_PORT_COPIER 0

#endif /* HG_ABI_COPIER_H */
