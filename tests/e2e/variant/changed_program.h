/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Put before every stage: the data path of another version, which does the same with other instructions.
 */
#include "tables.h"

static __always_inline __u32 hg_changed_port_of(__u32 ifindex) {
  asm volatile("%0 ^= 0" : "+r"(ifindex));
  return hg_port_of(ifindex);
}

#define hg_port_of hg_changed_port_of
