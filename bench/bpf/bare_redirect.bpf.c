// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * The least that a redirect from one device to another takes in XDP: what a gateway is compared with.
 */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} hgb_target SEC(".maps");

SEC("xdp")
int hgb_redirect(struct xdp_md *ctx)
{
	(void)ctx;
	return bpf_redirect_map(&hgb_target, 0, XDP_DROP);
}

/* For the other end: a veth takes redirected frames only while its peer has NAPI, that is a program. */
SEC("xdp")
int hgb_pass(struct xdp_md *ctx)
{
	(void)ctx;
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
