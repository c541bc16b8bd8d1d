// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * Makes the frame of a prog run another one at each repetition, and hands it to the program under test. That
 * is called by its tail, so that the time of the run is this program's and that one's, and the same of this
 * one whatever it feeds.
 */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "header.h"

__u32 next_header;

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} hgb_fed SEC(".maps");

SEC("xdp.frags")
int hgb_feed(struct xdp_md *ctx)
{
	__u8 *data = (void *)(long)ctx->data;
	__u32 index = next_header;
	const struct hgb_header *header = bpf_map_lookup_elem(&hgb_headers, &index);

	if (!header || data + HGB_L4 + sizeof(__u32) > (__u8 *)(long)ctx->data_end)
		return XDP_ABORTED;
	next_header = hgb_index_after(index);
	hgb_write_header(data, header);
	bpf_tail_call(ctx, &hgb_fed, 0);
	return XDP_ABORTED;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
