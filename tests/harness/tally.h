/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * What a tally tells frames apart by. Plain C that clang's BPF target and g++ accept.
 */
#ifndef HGT_TALLY_H
#define HGT_TALLY_H

#include <linux/types.h>

#define HGT_TALLY_ROWS 65536

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
  __u16 source_port;
  __u16 tci; /* of an 802.1Q tag */
  __u8 tagged;
  __u8 ttl;
  __u8 pad[2];
};

#endif /* HGT_TALLY_H */
