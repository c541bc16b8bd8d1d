// SPDX-License-Identifier: Apache-2.0
#include "tests/e2e/worker_call_count.h"

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/types.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>
#include <stdexcept>

#include "agent/base/fd.h"
#include "tests/e2e/worker_calls.h"
#include "worker_calls_bpf.skel.h"

namespace headgate::testing {
namespace {

// What takes memory or gives it back, in C's and C++'s names; each allocator has those it has.
const char* const kHeap[] = {"malloc",
                             "calloc",
                             "realloc",
                             "free",
                             "aligned_alloc",
                             "posix_memalign",
                             "memalign",
                             "_Znwm",
                             "_Znam",
                             "_ZnwmSt11align_val_t",
                             "_ZnwmRKSt9nothrow_t",
                             "_ZdlPv",
                             "_ZdaPv",
                             "_ZdlPvm",
                             "_ZdlPvmSt11align_val_t",
                             "mallocx",
                             "dallocx",
                             "sdallocx"};
const char* const kLocks[] = {"pthread_mutex_lock",
                              "pthread_mutex_trylock",
                              "pthread_rwlock_rdlock",
                              "pthread_rwlock_wrlock",
                              "pthread_spin_lock",
                              "pthread_cond_wait",
                              "pthread_cond_signal",
                              "pthread_cond_broadcast",
                              "sem_wait",
                              "sem_post"};

// The libraries whose code the process has mapped, by path.
std::set<std::string> Libraries(pid_t process, const std::vector<std::string>& names) {
  std::set<std::string> found;
  std::ifstream maps("/proc/" + std::to_string(process) + "/maps");
  for (std::string line; std::getline(maps, line);) {
    const size_t path = line.find('/');
    if (path == std::string::npos) continue;
    for (const std::string& name : names) {
      if (absl::StrContains(line, "/" + name)) found.insert(line.substr(path));
    }
  }
  return found;
}

}  // namespace

WorkerCallCount::WorkerCallCount(pid_t agent) : agent_(agent), skeleton_(worker_calls_bpf__open()) {
  if (skeleton_ == nullptr) throw std::runtime_error("cannot open worker_calls");
  struct stat ns {};
  if (stat("/proc/self/ns/pid", &ns) != 0) throw std::runtime_error("no namespace of process ids");
  skeleton_->rodata->namespace_device = ns.st_dev;
  skeleton_->rodata->namespace_inode = ns.st_ino;
  skeleton_->rodata->agent = static_cast<uint32_t>(agent);
  if (worker_calls_bpf__load(skeleton_) != 0) throw std::runtime_error("cannot load worker_calls");
  bpf_link* link = bpf_program__attach(skeleton_->progs.on_system_call);
  if (link == nullptr) throw std::runtime_error("cannot trace system calls");
  links_.push_back(link);
  for (const std::string& library : Libraries(agent, {"libjemalloc.so", "libc.so"})) {
    for (const char* function : kHeap) Probe(library, function);
    for (const char* function : kLocks) Probe(library, function);
  }
  for (const char* needed : {"malloc", "free", "_Znwm", "_ZdlPv", "pthread_mutex_lock"}) {
    if (std::find(probed_.begin(), probed_.end(), needed) == probed_.end()) {
      throw std::runtime_error(std::string("cannot probe ") + needed);
    }
  }
}

WorkerCallCount::~WorkerCallCount() {
  for (bpf_link* link : links_) bpf_link__destroy(link);
  worker_calls_bpf__destroy(skeleton_);
}

void WorkerCallCount::Probe(const std::string& library, const std::string& function) {
  LIBBPF_OPTS(bpf_uprobe_opts, options, .bpf_cookie = probed_.size(), .func_name = function.c_str());
  // Libraries lack some of the functions, which is not worth libbpf's warnings.
  const libbpf_print_fn_t print = libbpf_set_print(nullptr);
  bpf_link* link =
      bpf_program__attach_uprobe_opts(skeleton_->progs.on_library_call, agent_, library.c_str(), 0, &options);
  libbpf_set_print(print);
  if (link == nullptr) return;
  links_.push_back(link);
  probed_.push_back(function);
}

void WorkerCallCount::Clear() {
  const int map = bpf_map__fd(skeleton_->maps.calls);
  hgt_call call{};
  while (bpf_map_get_next_key(map, nullptr, &call) == 0) bpf_map_delete_elem(map, &call);
}

void WorkerCallCount::Start() { skeleton_->bss->counting = 1; }

void WorkerCallCount::Stop() { skeleton_->bss->counting = 0; }

bool WorkerCallCount::IsXdpSocket(int fd) const {
  const Fd process(static_cast<int>(syscall(SYS_pidfd_open, agent_, 0)));
  const Fd copy(static_cast<int>(syscall(SYS_pidfd_getfd, process.get(), fd, 0)));
  int domain = 0;
  socklen_t length = sizeof(domain);
  return copy && getsockopt(copy.get(), SOL_SOCKET, SO_DOMAIN, &domain, &length) == 0 && domain == AF_XDP;
}

bool WorkerCallCount::IsEventfd(int fd) const {
  std::error_code error;
  const std::string link = absl::StrCat("/proc/", agent_, "/fd/", fd);
  return std::filesystem::read_symlink(link, error) == "anon_inode:[eventfd]";
}

std::map<std::string, uint64_t> WorkerCallCount::LibraryCalls() const {
  std::map<std::string, uint64_t> calls;
  const int map = bpf_map__fd(skeleton_->maps.calls);
  hgt_call call{};
  for (const hgt_call* last = nullptr; bpf_map_get_next_key(map, last, &call) == 0; last = &call) {
    uint64_t count = 0;
    if (call.kind != HGT_CALL_LIBRARY || bpf_map_lookup_elem(map, &call, &count) != 0) continue;
    calls[probed_.at(call.number)] += count;
  }
  return calls;
}

std::vector<WorkerCallCount::SystemCall> WorkerCallCount::SystemCalls() const {
  std::vector<SystemCall> calls;
  const int map = bpf_map__fd(skeleton_->maps.calls);
  hgt_call call{};
  for (const hgt_call* last = nullptr; bpf_map_get_next_key(map, last, &call) == 0; last = &call) {
    uint64_t count = 0;
    if (call.kind != HGT_CALL_SYSTEM || bpf_map_lookup_elem(map, &call, &count) != 0) continue;
    const auto fd = static_cast<int>(call.fd);
    calls.push_back({call.number, IsXdpSocket(fd), IsEventfd(fd), count});
  }
  return calls;
}

}  // namespace headgate::testing
