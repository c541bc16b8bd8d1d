// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * Counts the system calls that the worker threads of one agent make, and their calls of library functions that
 * user space has put probes on.
 */
#include <linux/bpf.h>
#include <linux/ptrace.h>
#include <linux/types.h>

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "worker_calls.h"

/* The agent in the test's process id namespace. */
const volatile __u64 namespace_device, namespace_inode;
const volatile __u32 agent;

__u32 counting; /* by user space: 1 while it counts */

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 1024);
  __type(key, struct hgt_call);
  __type(value, __u64);
} calls SEC(".maps");

static __always_inline int is_worker(void) {
  struct bpf_pidns_info id;
  const char name[] = "hg-worker-";
  char comm[16];
  __u32 i;

  if (!counting || bpf_get_ns_current_pid_tgid(namespace_device, namespace_inode, &id, sizeof(id)) ||
      id.tgid != agent || bpf_get_current_comm(comm, sizeof(comm)))
    return 0;
  for (i = 0; i < sizeof(name) - 1; i++) {
    if (comm[i] != name[i]) return 0;
  }
  return 1;
}

static __always_inline void count(const struct hgt_call* call) {
  __u64 one = 1, *counter = bpf_map_lookup_elem(&calls, call);

  if (counter)
    __sync_fetch_and_add(counter, 1);
  else if (bpf_map_update_elem(&calls, call, &one, BPF_NOEXIST) && (counter = bpf_map_lookup_elem(&calls, call)))
    __sync_fetch_and_add(counter, 1);
}

SEC("raw_tracepoint/sys_enter")
int on_system_call(struct bpf_raw_tracepoint_args* event) {
  const struct pt_regs* registers = (const struct pt_regs*)event->args[0];
  struct hgt_call call = {.kind = HGT_CALL_SYSTEM, .number = event->args[1]};
  unsigned long first = 0;

  if (!is_worker()) return 0;
  bpf_probe_read_kernel(&first, sizeof(first), &PT_REGS_PARM1_SYSCALL(registers));
  call.fd = (__s32)first;
  count(&call);
  return 0;
}

SEC("uprobe")
int on_library_call(struct pt_regs* registers) {
  struct hgt_call call = {.kind = HGT_CALL_LIBRARY, .number = bpf_get_attach_cookie(registers)};

  if (is_worker()) count(&call);
  return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
