// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * Counts the frames that arrive at a device by what was done to them: addresses, tag, TTL and flow.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "tally.h"

struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_HASH);
  __uint(max_entries, HGT_TALLY_ROWS);
  __type(key, struct hgt_mark);
  __type(value, __u64);
} hgt_rows SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, HGT_TALLY_TOTALS);
  __type(key, __u32);
  __type(value, __u64);
} hgt_totals SEC(".maps");

/* Set before loading: how slow to be, in steps of some nanoseconds a frame. */
const volatile __u32 delay;

static long nothing(__u32 index, void* context) {
  (void)index;
  (void)context;
  return 0;
}

static __always_inline void read_ip(const struct iphdr* ip, void* end, struct hgt_mark* mark) {
  const __be16* ports = (const void*)(ip + 1);

  if ((void*)(ip + 1) > end) return;
  mark->ttl = ip->ttl;
  mark->source = bpf_ntohl(ip->saddr);
  if (ip->ihl == 5 && (void*)(ports + 2) <= end) mark->source_port = bpf_ntohs(*ports);
}

static __always_inline void read_frame(struct xdp_md* ctx, struct hgt_mark* mark) {
  void *data = (void*)(long)ctx->data, *end = (void*)(long)ctx->data_end;
  struct ethhdr* eth = data;
  __be16 type, *tag = (void*)(eth + 1);
  void* network = eth + 1;

  if ((void*)(eth + 1) > end) return;
  __builtin_memcpy(mark->destination_mac, eth->h_dest, ETH_ALEN);
  __builtin_memcpy(mark->source_mac, eth->h_source, ETH_ALEN);
  type = eth->h_proto;
  if (type == bpf_htons(ETH_P_8021Q) && (void*)(tag + 2) <= end) {
    mark->tci = bpf_ntohs(tag[0]);
    mark->tagged = 1;
    type = tag[1];
    network = tag + 2;
  }
  if (type == bpf_htons(ETH_P_IP)) read_ip(network, end, mark);
}

static __always_inline void add(void* map, const void* key) {
  __u64* count = bpf_map_lookup_elem(map, key);

  if (count) (*count)++;
}

SEC("xdp")
int hgt_tally(struct xdp_md* ctx) {
  __u32 total = HGT_TALLY_ALL, lost = HGT_TALLY_LOST, metadata = HGT_TALLY_METADATA;
  struct hgt_mark mark = {};
  __u64 one = 1, *count;

  if (delay) bpf_loop(delay, nothing, NULL, 0);
  read_frame(ctx, &mark);
  count = bpf_map_lookup_elem(&hgt_rows, &mark);
  if (count) {
    (*count)++;
  } else if (bpf_map_update_elem(&hgt_rows, &mark, &one, BPF_NOEXIST)) {
    /* Another CPU made the row meanwhile, or there is no room. */
    count = bpf_map_lookup_elem(&hgt_rows, &mark);
    if (count)
      (*count)++;
    else
      add(&hgt_totals, &lost);
  }
  if ((void*)(long)ctx->data_meta + 1 <= (void*)(long)ctx->data) add(&hgt_totals, &metadata);
  add(&hgt_totals, &total);
  return XDP_DROP;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
