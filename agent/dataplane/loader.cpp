// SPDX-License-Identifier: Apache-2.0
#include "agent/dataplane/loader.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdarg>
#include <cstring>
#include <filesystem>
#include <set>

#include "agent/base/fd.h"
#include "agent/base/log.h"
#include "agent/base/status.h"
#include "agent/dataplane/bpf_util.h"
#include "agent/dataplane/rule_counters.h"
#include "bpf/hg_abi.h"
#include "headgate_bpf.skel.h"

namespace headgate {
namespace {

int LogLibbpf(enum libbpf_print_level level, const char* format, va_list args) {
  char line[512];
  vsnprintf(line, sizeof(line), format, args);
  const size_t length = std::strlen(line);
  if (length > 0 && line[length - 1] == '\n') line[length - 1] = '\0';
  // What matters of libbpf's warnings comes back as an error with a context; the text helps who debugs.
  if (level != LIBBPF_DEBUG) spdlog::debug("libbpf: {}", line);
  return 0;
}

absl::StatusOr<uint64_t> NetnsCookie() {
  const Fd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  uint64_t cookie = 0;
  socklen_t length = sizeof(cookie);
  if (!socket || getsockopt(socket.get(), SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &length) != 0) {
    return ErrnoStatus("read the network namespace's cookie (kernel 5.14 or later)");
  }
  return cookie;
}

absl::Status EnsureBpffs(const std::string& path) {
  struct statfs info {};
  if (statfs(path.c_str(), &info) == 0 && info.f_type == BPF_FS_MAGIC) return absl::OkStatus();
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) return absl::PermissionDeniedError(absl::StrCat("create ", path, ": ", error.message()));
  if (mount("bpf", path.c_str(), "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0700") != 0) {
    return ErrnoStatus("mount a BPF file system at ", path,
                       " (mount it there beforehand, or run with CAP_SYS_ADMIN once)");
  }
  return absl::OkStatus();
}

absl::Status MakeDirectory(const std::string& path) {
  if (mkdir(path.c_str(), 0700) == 0 || errno == EEXIST) return absl::OkStatus();
  return ErrnoStatus("create directory ", path);
}

// Two agents on the same tables would undo each other's work.
absl::StatusOr<Fd> LockDirectory(const std::string& path) {
  Fd fd(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) return ErrnoStatus("open ", path);
  if (flock(fd.get(), LOCK_EX | LOCK_NB) == 0) return fd;
  if (errno != EWOULDBLOCK) return ErrnoStatus("lock ", path);
  return absl::FailedPreconditionError(
      absl::StrCat("another headgated uses ", path, ": stop it, or choose another --bpffs-directory"));
}

// Puts the object where it is to be found, replacing what was there in one step.
absl::Status PinReplacing(int fd, const std::string& path) {
  const std::string fresh = path + "_new";
  unlink(fresh.c_str());
  if (bpf_obj_pin(fd, fresh.c_str()) != 0) return ErrnoStatus("pin ", path);
  if (rename(fresh.c_str(), path.c_str()) != 0) return ErrnoStatus("rename ", fresh, " to ", path);
  return absl::OkStatus();
}

}  // namespace

Loader::Loader(const LoadOptions& options)
    : options_(options), root_(absl::StrCat(options.bpffs, "/", options.directory)) {}

Loader::~Loader() { headgate_bpf__destroy(skeleton_); }

std::string Loader::MapPath(const bpf_map* map) const { return absl::StrCat(root_, "/maps/", bpf_map__name(map)); }

absl::Status Loader::Prepare() {
  HG_RETURN_IF_ERROR(EnsureBpffs(options_.bpffs));
  for (const char* below : {"", "/maps", "/links", "/programs"}) {
    HG_RETURN_IF_ERROR(MakeDirectory(absl::StrCat(root_, below)));
  }
  HG_ASSIGN_OR_RETURN(lock_, LockDirectory(root_));
  return absl::OkStatus();
}

void Loader::SetSizes() {
  const TableSizes& sizes = options_.sizes;
  auto& maps = skeleton_->maps;
  // Twice what is in force: the next generation is built beside it. Nodes and items have room for the coarser
  // shapes that a tree may take on, which no rule set seen comes near.
  const uint64_t entries = sizes.max_entries, prefixes = sizes.max_prefixes;
  // In whole runs of the agent's allocator, with one to spare for the reserved cell 0.
  const auto pages = [](uint64_t cells, uint32_t per_page) {
    return static_cast<uint32_t>((cells / HG_RUN_CELLS + 2) * HG_RUN_CELLS / per_page);
  };
  bpf_map__set_max_entries(maps.hg_nodes, pages(entries + prefixes, HG_NODES_PER_PAGE));
  bpf_map__set_max_entries(maps.hg_slots, pages(4 * entries + 2 * prefixes, HG_SLOTS_PER_PAGE));
  bpf_map__set_max_entries(maps.hg_rules, pages(4 * entries, HG_RULES_PER_PAGE));
  bpf_map__set_max_entries(maps.hg_matches, pages(2 * entries, HG_MATCHES_PER_PAGE));
  bpf_map__set_max_entries(maps.hg_prefixes, pages(4 * prefixes, HG_PREFIXES_PER_PAGE));
  bpf_map__set_max_entries(maps.hg_actions, pages(2 * entries, 1));
  bpf_map__set_max_entries(maps.hg_next_hops, pages(2 * HG_NEXT_HOP_PAGES, 1));
  bpf_map__set_max_entries(maps.hg_targets, pages(2 * HG_TARGET_PAGES, 1));
  bpf_map__set_max_entries(maps.hg_limiters, 2 * sizes.max_entries + 1);
  bpf_map__set_max_entries(maps.hg_sources, sizes.max_sources);
  bpf_map__set_max_entries(maps.hg_rule_recent, RuleCounters::PagesFor(2 * entries + 1));
  bpf_map__set_max_entries(maps.hg_rule_stats, RuleCounters::PagesFor(2 * entries + 1));
  bpf_map__set_max_entries(maps.hg_rule_base, 2 * sizes.max_entries + 1);
}

// The pinned map, when it has the shape that the object gives it.
Fd Loader::PinnedLike(const bpf_map* map) const {
  Fd fd(bpf_obj_get(MapPath(map).c_str()));
  bpf_map_info info{};
  uint32_t length = sizeof(info);
  if (!fd || bpf_obj_get_info_by_fd(fd.get(), &info, &length) != 0) return {};
  // The kernel adds this one to device maps by itself.
  if (info.type == BPF_MAP_TYPE_DEVMAP) info.map_flags &= ~static_cast<uint32_t>(BPF_F_RDONLY_PROG);
  const bool same = info.type == bpf_map__type(map) && info.key_size == bpf_map__key_size(map) &&
                    info.value_size == bpf_map__value_size(map) && info.max_entries == bpf_map__max_entries(map) &&
                    info.map_flags == bpf_map__map_flags(map);
  return same ? std::move(fd) : Fd();
}

// Adopts pinned maps. The tables of a generation only together, and only of the same ABI.
absl::Status Loader::ReuseMaps() {
  const auto reuse = [](bpf_map* map, const Fd& fd) -> absl::Status {
    // libbpf keeps a duplicate.
    if (const int error = bpf_map__reuse_fd(map, fd.get()); error != 0) {
      return ErrnoStatusOf(error, "adopt pinned map ", bpf_map__name(map));
    }
    return absl::OkStatus();
  };
  auto& maps = skeleton_->maps;
  const std::vector<bpf_map*> tables = {maps.hg_active,    maps.hg_roots,   maps.hg_nodes,   maps.hg_slots,
                                        maps.hg_rules,     maps.hg_matches, maps.hg_actions, maps.hg_prefixes,
                                        maps.hg_next_hops, maps.hg_targets};
  std::vector<Fd> fds;
  fds.reserve(tables.size());
  for (const bpf_map* table : tables) fds.push_back(PinnedLike(table));
  hg_active active{};
  const uint32_t zero = 0;
  if (std::all_of(fds.begin(), fds.end(), [](const Fd& fd) { return static_cast<bool>(fd); }) &&
      bpf_map_lookup_elem(fds[0].get(), &zero, &active) == 0 && active.abi == HG_ABI_VERSION) {
    for (size_t i = 0; i < tables.size(); ++i) HG_RETURN_IF_ERROR(reuse(tables[i], fds[i]));
  }
  // hg_traces, hg_flows and .rodata are each process's own.
  for (bpf_map* map :
       {maps.hg_ifindexes, maps.hg_ports, maps.hg_devmap, maps.hg_xsks, maps.hg_limiters, maps.hg_sources,
        maps.hg_port_stats, maps.hg_rule_recent, maps.hg_rule_stats, maps.hg_rule_base, maps.hg_counters,
        maps.hg_egress_stats, maps.hg_egress_own, maps.hg_samples, maps.hg_samples_lost}) {
    if (const Fd fd = PinnedLike(map)) HG_RETURN_IF_ERROR(reuse(map, fd));
  }
  return absl::OkStatus();
}

// Of no program that may still be attached.
absl::StatusOr<uint32_t> Loader::NextIncarnation() const {
  const int map = bpf_map__fd(skeleton_->maps.hg_egress_own);
  if (map < 0) return 1;  // not adopted
  HG_ASSIGN_OR_RETURN(const auto owners, ReadCpus<hg_egress_owner>(map, 0));
  uint32_t last = 0;
  for (const hg_egress_owner& owner : owners) last = std::max({last, owner.incarnation, owner.next});
  return last + 1;
}

absl::StatusOr<std::unique_ptr<Loader>> Loader::Load(const LoadOptions& options) {
  const auto start = std::chrono::steady_clock::now();
  libbpf_set_print(LogLibbpf);
  std::unique_ptr<Loader> loader(new Loader(options));
  HG_RETURN_IF_ERROR(loader->Prepare());
  loader->skeleton_ = headgate_bpf__open();
  if (loader->skeleton_ == nullptr) return ErrnoStatus("open the BPF object");
  loader->SetSizes();
  HG_RETURN_IF_ERROR(loader->ReuseMaps());
  HG_ASSIGN_OR_RETURN(loader->skeleton_->rodata->incarnation, loader->NextIncarnation());
  HG_ASSIGN_OR_RETURN(loader->skeleton_->rodata->netns_cookie, NetnsCookie());
  loader->skeleton_->rodata->use_flow_cache = options.flow_cache ? 1 : 0;
  if (const int error = headgate_bpf__load(loader->skeleton_); error != 0) {
    return ErrnoStatusOf(
        error, "load the BPF programs (needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON, kernel 6.1 or later; ",
        "log level debug shows the verifier's words)");
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  Log(spdlog::level::info, "BPF programs and tables loaded", {{"seconds", absl::StrFormat("%.2f", took.count())}});
  return loader;
}

// When the number of rules that have counters changes, what they counted so far moves to hg_rule_base.
absl::Status Loader::CarryRuleCounters() {
  auto& maps = skeleton_->maps;
  const Fd old_recent(bpf_obj_get(MapPath(maps.hg_rule_recent).c_str()));
  const Fd old_stats(bpf_obj_get(MapPath(maps.hg_rule_stats).c_str()));
  const Fd old_base(bpf_obj_get(MapPath(maps.hg_rule_base).c_str()));
  bpf_map_info info{}, now{};
  uint32_t length = sizeof(info);
  if (!old_recent || !old_stats || !old_base || bpf_obj_get_info_by_fd(old_stats.get(), &info, &length) != 0) {
    return absl::OkStatus();  // nothing to carry
  }
  if (bpf_obj_get_info_by_fd(bpf_map__fd(maps.hg_rule_stats), &now, &length) != 0) {
    return ErrnoStatus("inspect hg_rule_stats");
  }
  if (info.id == now.id) return absl::OkStatus();
  bpf_map_info base{}, new_base{};
  if (bpf_obj_get_info_by_fd(old_base.get(), &base, &length) != 0 ||
      bpf_obj_get_info_by_fd(bpf_map__fd(maps.hg_rule_base), &new_base, &length) != 0) {
    return ErrnoStatus("inspect hg_rule_base");
  }
  if (info.value_size != now.value_size || base.value_size != new_base.value_size) return absl::OkStatus();
  const RuleCounters counters(bpf_map__fd(maps.hg_rule_recent), bpf_map__fd(maps.hg_rule_stats),
                              bpf_map__fd(maps.hg_rule_base));
  return counters.Carry(RuleCounters(old_recent.get(), old_stats.get(), old_base.get()),
                        std::min(base.max_entries, new_base.max_entries));
}

template <typename Visit>
absl::Status Loader::ForEachPin(Visit&& visit) const {
  bpf_map* map = nullptr;
  bpf_object__for_each_map(map, skeleton_->obj) {
    if (bpf_map__is_internal(map)) continue;
    HG_RETURN_IF_ERROR(visit(bpf_map__fd(map), MapPath(map)));
  }
  bpf_program* program = nullptr;
  bpf_object__for_each_program(program, skeleton_->obj) {
    HG_RETURN_IF_ERROR(
        visit(bpf_program__fd(program), absl::StrCat(root_, "/programs/", bpf_program__name(program))));
  }
  return absl::OkStatus();
}

absl::Status Loader::Pin() {
  HG_RETURN_IF_ERROR(CarryRuleCounters());
  HG_RETURN_IF_ERROR(ForEachPin(PinReplacing));
  return RemoveOtherPins();
}

// Of maps and programs that another version has and this one has not: they would keep their memory for nobody.
absl::Status Loader::RemoveOtherPins() const {
  std::set<std::string> ours;
  HG_RETURN_IF_ERROR(ForEachPin([&ours](int, const std::string& path) {
    ours.insert(path);
    return absl::OkStatus();
  }));
  for (const char* directory : {"/maps", "/programs"}) {
    std::error_code error;
    for (const auto& pin : std::filesystem::directory_iterator(root_ + directory, error)) {
      if (!ours.contains(pin.path().string())) std::filesystem::remove(pin.path(), error);
    }
    if (error) return absl::InternalError(absl::StrCat("tidy ", root_, directory, ": ", error.message()));
  }
  return absl::OkStatus();
}

absl::Status Loader::RepairPins(Repairs& repairs) const {
  return ForEachPin([&repairs](int fd, const std::string& path) -> absl::Status {
    if (access(path.c_str(), F_OK) == 0) return absl::OkStatus();
    ++repairs["pins"];
    return PinReplacing(fd, path);
  });
}

// A link that nothing pins or holds detaches itself.
absl::Status RemoveFrom(const LoadOptions& options) {
  const std::string root = absl::StrCat(options.bpffs, "/", options.directory);
  std::error_code error;
  Fd lock;
  if (std::filesystem::exists(root, error)) {
    HG_ASSIGN_OR_RETURN(lock, LockDirectory(root));
  }
  std::filesystem::remove_all(root + "/links", error);
  if (!error) std::filesystem::remove_all(root, error);
  if (error) return absl::InternalError(absl::StrCat("remove ", root, ": ", error.message()));
  Log(spdlog::level::info, "detached", {{"pins", root}});
  return absl::OkStatus();
}

}  // namespace headgate
