/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * What a tally tells frames apart by. Plain C that clang's BPF target and g++ accept.
 */
#ifndef HGT_TALLY_H
#define HGT_TALLY_H

#include <linux/types.h>

#define HGT_TALLY_ROWS 65536
#define HGT_TALLY_BYTES 2048 /* of UDP, header and payload, that a tally of payloads looks into */
#define HGT_TALLY_WORDS (HGT_TALLY_BYTES / 8)

enum hgt_tally_total {
  HGT_TALLY_ALL,
  HGT_TALLY_LOST,
  HGT_TALLY_METADATA, /* frames that came with metadata, which none should */
  HGT_TALLY_TOTALS,
};

struct hgt_mark {
  __u8 destination_mac[6];
  __u8 source_mac[6];
  __u32 source; /* IPv4, host order */
  __u32 destination;
  __u16 source_port;
  __u16 destination_port;
  __u16 tci; /* of an 802.1Q tag */
  __u8 tagged;
  __u8 ttl;
  __u8 pad[4];
  /* Of tallies of payloads, whose checksums are right: */
  __u64 payload; /* hgt_mix of UDP's; 0: not UDP, or a checksum is wrong */
};

/* A hash of words, one after the other; what is short of the last word is zeros. */
static inline __attribute__((always_inline)) __u64 hgt_mix(__u64 hash, __u64 word) {
  hash = (hash ^ word) * 0x9e3779b97f4a7c15ULL;
  return hash ^ hash >> 29;
}

#endif /* HGT_TALLY_H */
