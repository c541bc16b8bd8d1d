// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * A path with known faults, for tests of what a receiver makes of them: of every ten frames of a stream it drops
 * the one whose number ends in 9, doubles that which ends in 5, and swaps those which end in 1 and 2.
 */
#include <linux/bpf.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "../../bench/bpf/wire.h"

#define RECORD_OFFSET 42 /* Ethernet, IPv4, UDP */

/* The one device in both slots: a broadcast goes out twice. */
struct {
  __uint(type, BPF_MAP_TYPE_DEVMAP);
  __uint(max_entries, 2);
  __type(key, __u32);
  __type(value, __u32);
} targets SEC(".maps");

SEC("xdp")
int impair(struct xdp_md* ctx) {
  struct hgb_record* record = (void*)(long)ctx->data + RECORD_OFFSET;
  __u64 number;

  if ((void*)(record + 1) > (void*)(long)ctx->data_end || record->magic != bpf_htons(HGB_MAGIC)) return XDP_DROP;
  number = bpf_be64_to_cpu(record->number);
  switch ((number & HGB_NUMBER_MASK) % 10) {
    case 1:
      record->number = bpf_cpu_to_be64(number + 1);
      break;
    case 2:
      record->number = bpf_cpu_to_be64(number - 1);
      break;
    case 5:
      return bpf_redirect_map(&targets, 0, BPF_F_BROADCAST);
    case 9:
      return XDP_DROP;
  }
  return bpf_redirect_map(&targets, 0, XDP_DROP);
}

static long nothing(__u32 index, void* context) {
  (void)index;
  (void)context;
  return 0;
}

/* Takes microseconds a frame, so that the ring before it fills up. */
SEC("xdp")
int slow(struct xdp_md* ctx) {
  (void)ctx;
  bpf_loop(2000, nothing, NULL, 0);
  return bpf_redirect_map(&targets, 0, XDP_DROP);
}

SEC("xdp")
int pass(struct xdp_md* ctx) {
  (void)ctx;
  return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
