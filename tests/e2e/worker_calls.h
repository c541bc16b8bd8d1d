/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What a worker's thread called, as worker_calls.bpf.c counts it. */
#ifndef HGT_WORKER_CALLS_H
#define HGT_WORKER_CALLS_H

enum hgt_call_kind {
  HGT_CALL_SYSTEM,  /* number: of the system call; fd: its first argument */
  HGT_CALL_LIBRARY, /* number: of the probed function */
};

struct hgt_call {
  __u32 kind;
  __u32 number;
  __s64 fd;
};

#endif
