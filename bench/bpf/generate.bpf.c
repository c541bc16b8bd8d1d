// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * The sender: makes frames in live-frame prog runs, and keeps the account of which of them the device took.
 *
 * A device may refuse frames after XDP_REDIRECT was returned (a veth's ring is full, a driver's too), and
 * says so only to the xdp_devmap_xmit tracepoint, once for each bulk of up to 16 frames. It fires within the
 * batch of the prog run, on its CPU and with softirqs off, which is how events of other redirects are told
 * apart: frames of ours are pending then and never else. The driver takes a bulk from its start, so that the
 * numbers of the refused frames are known, and later frames carry them: what the device took is 0, 1, 2 ...
 * without a gap.
 */
#include <linux/bpf.h>
#include <stdbool.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "fill.h"
#include "header.h"
#include "wire.h"

#define BULK 16

/* Constants to the verifier: they are set before loading. */
const volatile struct hgb_template frame;

/* Constant to the verifier; of frame.sizes, in turn by number. The last is of the page that frames are made
 * of. */
const volatile __u16 sizes[HGB_SIZES];
const volatile __u32 largest;

/* Set before loading, as the table's size is. 0: frames are made of the template. */
const volatile __u32 captured_count;

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1); /* captured_count */
	__type(key, __u32);
	__type(value, struct hgb_captured);
} hgb_captured SEC(".maps");

/* Numbers below it are given out. Written by the thread that sends, between its prog runs. */
__u64 limit;
/* Read at any time. */
__u64 sent;
__u64 refused;

__u64 next_number;
__u64 task; /* the thread that sends */
struct hgb_turn turn;
__u32 next_header; /* of next_number, when there are headers */
struct hgb_numbers pending, leftover;

struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} hgb_out SEC(".maps");

static __always_inline void put(struct hgb_numbers *numbers, __u64 number)
{
	numbers->number[(numbers->first + numbers->count) & (HGB_NUMBERS - 1)] = number;
	numbers->count++;
}

static __always_inline __u64 take(struct hgb_numbers *numbers)
{
	numbers->count--;
	return numbers->number[numbers->first++ & (HGB_NUMBERS - 1)];
}

/* Pages have the largest size again when they come back. */
static __always_inline bool fit(struct xdp_md *ctx, __u32 size)
{
	return size == largest || !bpf_xdp_adjust_tail(ctx, (int)size - (int)largest);
}

static __always_inline __u32 size_of(__u64 number)
{
	__u32 index = (number & HGB_NUMBER_MASK) % frame.sizes;

	return sizes[index & (HGB_SIZES - 1)];
}

static __always_inline bool write_captured(struct xdp_md *ctx, __u64 number)
{
	__u32 index = (number & HGB_NUMBER_MASK) % captured_count, size;
	const struct hgb_captured *captured = bpf_map_lookup_elem(&hgb_captured, &index);

	if (!captured)
		return false;
	size = captured->size;
	if (size < ETH_HLEN || size > HGB_FRAME_BYTES || !fit(ctx, size))
		return false;
	return !bpf_xdp_store_bytes(ctx, 0, (void *)captured->bytes, size);
}

static __always_inline void write_header(__u8 *data, __u32 index)
{
	const struct hgb_header *header = bpf_map_lookup_elem(&hgb_headers, &index);
	struct iphdr *ip = (void *)(data + ETH_HLEN);
	__u32 i, sum = 0;

	if (!header || frame.bytes < HGB_L4 + sizeof(__u32))
		return;
	hgb_write_header(data, header);
	ip->check = 0;
#pragma unroll
	for (i = 0; i < sizeof(*ip) / 4; i++)
		sum = hgb_add(sum, *((__u32 *)ip + i));
	ip->check = hgb_fold(sum);
}

/* The number of a frame that could not be made. */
static __always_inline int take_back(__u64 number)
{
	pending.count--;
	put(&leftover, number);
	return XDP_ABORTED;
}

SEC("xdp")
int hgb_generate(struct xdp_md *ctx)
{
	__u8 *data = (void *)(long)ctx->data;
	__u32 header = 0, size = 0, sum = 0;
	__u64 number;

	if (data + frame.bytes > (__u8 *)(long)ctx->data_end)
		return XDP_ABORTED;
	/* The header goes with the number, so that of the headers too the device takes each in its turn. */
	if (leftover.count) {
		number = take(&leftover) | HGB_NUMBER_RETRIED;
		if (header_count)
			header = (number & HGB_NUMBER_MASK) % header_count;
	} else if (next_number < limit) {
		number = next_number++;
		header = next_header;
		next_header = hgb_index_after(header);
	} else {
		return XDP_DROP;
	}
	if (!pending.count)
		task = bpf_get_current_task();
	put(&pending, number);
	if (captured_count) {
		if (!write_captured(ctx, number))
			return take_back(number);
		return bpf_redirect_map(&hgb_out, 0, XDP_DROP);
	}
	if (frame.sizes) {
		size = size_of(number);
		if (!fit(ctx, size))
			return take_back(number);
		data = (void *)(long)ctx->data;
		if (data + frame.bytes > (__u8 *)(long)ctx->data_end)
			return take_back(number);
	}
	/* Pages come back as the receiver left them. */
	hgb_write_template(data, &frame);
	if (header_count) {
		write_header(data, header);
	} else {
		if (frame.sizes)
			sum = hgb_write_lengths(data, &frame, size);
		sum = hgb_add(sum, hgb_write_flow(data, &frame, &turn));
		hgb_write_record(data, &frame, number, bpf_ktime_get_ns(), sum);
	}
	return bpf_redirect_map(&hgb_out, 0, XDP_DROP);
}

static __always_inline bool ours(void)
{
	return pending.count && task == bpf_get_current_task();
}

/* from_dev, to_dev, sent, drops, err */
SEC("raw_tp/xdp_devmap_xmit")
int hgb_on_xmit(struct bpf_raw_tracepoint_args *event)
{
	__u32 taken = event->args[2], dropped = event->args[3], i;

	if (!ours())
		return 0;
	sent += taken;
	refused += dropped;
	pending.first += taken;
	pending.count -= taken;
	for (i = 0; i < BULK; i++) {
		if (i >= dropped)
			break;
		put(&leftover, take(&pending));
	}
	return 0;
}

/* A frame that was not queued at all (device down, longer than its MTU): the one made last. */
SEC("raw_tp/xdp_redirect_err")
int hgb_on_error(struct bpf_raw_tracepoint_args *event)
{
	(void)event;
	if (!ours())
		return 0;
	refused++;
	pending.count--;
	put(&leftover, pending.number[(pending.first + pending.count) & (HGB_NUMBERS - 1)]);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
