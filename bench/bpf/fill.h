/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Makes frames of a template: writes what differs from frame to frame. Plain C that clang's BPF target and
 * g++ accept: to the verifier the template is constant, so that only what it needs is left of the program.
 */
#ifndef HGB_FILL_H
#define HGB_FILL_H

#include <bpf/bpf_endian.h>
#include <linux/types.h>

#include "wire.h"

#define HGB_INLINE static inline __attribute__((always_inline))

/* Clang would copy byte by byte what need not be aligned; others must not assume that it is. */
#ifdef __bpf__
#define HGB_PUT(type, at, value) (*(type *)(at) = (value))
#define HGB_GET(type, at)	 (*(const type *)(at))
#else
#define HGB_PUT(type, at, value)                                                                             \
	do {                                                                                                 \
		const type hgb_put_value = (type)(value);                                                    \
		__builtin_memcpy((at), &hgb_put_value, sizeof(type));                                        \
	} while (0)
#define HGB_GET(type, at) (hgb_get_##type(at))
HGB_INLINE __u16 hgb_get___u16(const __u8 *at)
{
	__u16 value;

	__builtin_memcpy(&value, at, sizeof(value));
	return value;
}
#endif

/* Whose turn it is; begins as zeros. */
struct hgb_turn {
	__u32 flow;
	__u32 group;
};

HGB_INLINE __u32 hgb_add(__u32 sum, __u32 word)
{
	sum += word;
	return sum + (sum < word);
}

HGB_INLINE __u16 hgb_fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (__u16)~sum;
}

HGB_INLINE void hgb_write_template(__u8 *data, const volatile struct hgb_template *frame)
{
	__u32 i;

#ifdef __bpf__
#pragma unroll
#endif
	for (i = 0; i < HGB_TEMPLATE_WORDS; i++) {
		if (8 * (i + 1) <= frame->bytes)
			HGB_PUT(__u64, data + 8 * i, frame->words[i]);
		else if (8 * i + 4 <= frame->bytes)
			HGB_PUT(__u32, data + 8 * i, (__u32)frame->words[i]);
	}
}

HGB_INLINE void hgb_write_outer_lengths(__u8 *data, const volatile struct hgb_template *frame, __u32 size)
{
	__u16 length = bpf_htons((__u16)(size - frame->outer_ip_overhead));

	HGB_PUT(__u16, data + frame->outer_ip_length, length);
	HGB_PUT(__u16, data + frame->outer_udp_length, bpf_htons((__u16)(size - frame->outer_l4)));
	if (frame->outer_ip_check)
		HGB_PUT(__u16, data + frame->outer_ip_check, hgb_fold(hgb_add(frame->outer_ip_sum, length)));
}

/* Of a frame of `size` bytes, when there are several sizes. Returns what they add to the sum of the L4
 * checksum. */
HGB_INLINE __u32 hgb_write_lengths(__u8 *data, const volatile struct hgb_template *frame, __u32 size)
{
	__u16 l4 = bpf_htons((__u16)(size - frame->l4));

	if (frame->outer_port)
		hgb_write_outer_lengths(data, frame, size);
	HGB_PUT(__u16, data + frame->ip_length, bpf_htons((__u16)(size - frame->ip_overhead)));
	if (!frame->udp_length)
		return l4;
	HGB_PUT(__u16, data + frame->udp_length, l4);
	return 2 * (__u32)l4;
}

HGB_INLINE __u32 hgb_write_group(__u8 *data, const volatile struct hgb_template *frame, __u32 group)
{
	__u32 address = frame->first_destination + group, wire = bpf_htonl(address);

	HGB_PUT(__u32, data + frame->destination, wire);
	if (frame->mac_mask)
		HGB_PUT(__u32, data + 2, bpf_htonl(frame->mac_base | (address & frame->mac_mask)));
	return wire;
}

/* After the lengths. Returns what addresses and port add to the sum of the L4 checksum. */
HGB_INLINE __u32 hgb_write_flow(__u8 *data, const volatile struct hgb_template *frame, struct hgb_turn *turn)
{
	__u32 flow = turn->flow, address = bpf_htonl(frame->first_source + flow / HGB_PORTS_PER_SOURCE);
	__u16 port = bpf_htons((__u16)(frame->first_port + flow % HGB_PORTS_PER_SOURCE));
	__u32 addresses = address, sum;

	if (frame->groups > 1)
		addresses = hgb_add(addresses, hgb_write_group(data, frame, turn->group));
	if (++turn->group >= frame->groups) {
		turn->group = 0;
		if (++turn->flow >= frame->flows)
			turn->flow = 0;
	}
	HGB_PUT(__u32, data + frame->source, address);
	HGB_PUT(__u16, data + frame->source_port, port);
	if (frame->outer_port)
		HGB_PUT(__u16, data + frame->outer_port,
			bpf_htons((__u16)(HGB_OUTER_FIRST_PORT + flow % HGB_OUTER_PORTS)));
	if (frame->ip_check) {
		sum = hgb_add(frame->ip_sum, addresses);
		if (frame->sizes)
			sum = hgb_add(sum, HGB_GET(__u16, data + frame->ip_length));
		HGB_PUT(__u16, data + frame->ip_check, hgb_fold(sum));
	}
	return hgb_add(addresses, port);
}

/* `now`: CLOCK_MONOTONIC in ns. `sum`: of lengths and flow. */
HGB_INLINE void hgb_write_record(__u8 *data, const volatile struct hgb_template *frame, __u64 number,
				 __u64 now, __u32 sum)
{
	struct hgb_record *record = (struct hgb_record *)(data + frame->record);
	__u64 wire_number = bpf_cpu_to_be64(number);
	__u16 time_high = bpf_htons((__u16)(now >> 32)), check;
	__u32 time_low = bpf_htonl((__u32)now);

	record->number = wire_number;
	record->time_high = time_high;
	record->time_low = time_low;
	if (!frame->l4_check)
		return;
	sum = hgb_add(frame->l4_sum, sum);
	sum = hgb_add(sum, (__u32)wire_number);
	sum = hgb_add(sum, (__u32)(wire_number >> 32));
	sum = hgb_add(sum, time_high);
	check = hgb_fold(hgb_add(sum, time_low));
	/* Zero would mean that there is no checksum (RFC 768). */
	HGB_PUT(__u16, data + frame->l4_check, check ? check : 0xffff);
}

#endif /* HGB_FILL_H */
