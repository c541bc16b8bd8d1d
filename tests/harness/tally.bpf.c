// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * Counts the frames that arrive at a device by what was done to them: addresses, tag, TTL and flow, and by
 * what they carry.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <stdbool.h>

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

/* Set before loading: whether marks have payloads. */
const volatile __u8 payloads;

struct datagram {
  __u64 words[HGT_TALLY_WORDS + 1];
};

struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct datagram);
} hgt_datagram SEC(".maps");

static long nothing(__u32 index, void* context) {
  (void)index;
  (void)context;
  return 0;
}

static __always_inline bool is_sum_right(__u64 sum) {
  sum = (sum & 0xffffffff) + (sum >> 32);
  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  return sum == 0xffff;
}

/* Of a datagram whose checksum is right, or is none. */
static __always_inline __u64 hash_of(const struct datagram* udp, __u32 size, __u64 pseudo_header) {
  __u64 hash = 0, sum = pseudo_header, word;
  __u32 i;

  for (i = 0; i < HGT_TALLY_WORDS; i++) {
    if (8 * i >= size) break;
    word = udp->words[i];
    sum += (word & 0xffffffff) + (word >> 32);
    if (i) hash = hgt_mix(hash, word); /* the first is the header */
  }
  return !(udp->words[0] >> 48) || is_sum_right(sum) ? hash : 0;
}

static __always_inline __u64 read_payload(struct xdp_md* ctx, const struct iphdr* ip, void* end) {
  __u64 sum = 0, pseudo_header;
  __u32 zero = 0, i, size, at;
  struct datagram* udp = bpf_map_lookup_elem(&hgt_datagram, &zero);

  if (!udp || (void*)(ip + 1) > end || ip->ihl != 5 || ip->protocol != IPPROTO_UDP) return 0;
  for (i = 0; i < sizeof(*ip) / 4; i++) sum += ((const __u32*)ip)[i];
  if (!is_sum_right(sum)) return 0;
  size = bpf_ntohs(ip->tot_len) - sizeof(*ip);
  at = (__u32)((void*)(ip + 1) - (void*)(long)ctx->data);
  if (size < 8 || size > HGT_TALLY_BYTES) return 0;
  pseudo_header = (__u64)ip->saddr + ip->daddr + bpf_htons(IPPROTO_UDP) + bpf_htons(size);
  if (bpf_xdp_load_bytes(ctx, at, udp, size)) return 0;
  *(__u64*)((void*)udp + size) = 0;
  return hash_of(udp, size, pseudo_header);
}

static __always_inline void read_ip(struct xdp_md* ctx, const struct iphdr* ip, void* end, struct hgt_mark* mark) {
  const __be16* ports = (const void*)(ip + 1);

  if ((void*)(ip + 1) > end) return;
  mark->ttl = ip->ttl;
  mark->source = bpf_ntohl(ip->saddr);
  mark->destination = bpf_ntohl(ip->daddr);
  if (ip->ihl == 5 && (void*)(ports + 2) <= end) {
    mark->source_port = bpf_ntohs(ports[0]);
    mark->destination_port = bpf_ntohs(ports[1]);
  }
  if (payloads) mark->payload = read_payload(ctx, ip, end);
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
  if (type == bpf_htons(ETH_P_IP)) read_ip(ctx, network, end, mark);
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
