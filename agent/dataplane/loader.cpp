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
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
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

absl::Status Reuse(bpf_map* map, const Fd& fd) {
  // libbpf keeps a duplicate.
  if (const int error = bpf_map__reuse_fd(map, fd.get()); error != 0) {
    return ErrnoStatusOf(error, "adopt pinned map ", bpf_map__name(map));
  }
  return absl::OkStatus();
}

// Puts the object where it is to be found, replacing what was there in one step.
absl::Status PinReplacing(int fd, const std::string& path) {
  const std::string fresh = path + "_new";
  unlink(fresh.c_str());
  if (bpf_obj_pin(fd, fresh.c_str()) != 0) return ErrnoStatus("pin ", path);
  if (rename(fresh.c_str(), path.c_str()) != 0) return ErrnoStatus("rename ", fresh, " to ", path);
  return absl::OkStatus();
}

// Once: what is noted of contents has them in it.
absl::Status DrawContentKeys(int map) {
  const uint32_t zero = 0;
  std::array<uint64_t, 4> keys{};
  if (bpf_map_lookup_elem(map, &zero, keys.data()) != 0) return ErrnoStatus("read hg_content_keys");
  if (keys != decltype(keys){}) return absl::OkStatus();
  if (getrandom(keys.data(), sizeof(keys), 0) != sizeof(keys)) return ErrnoStatus("draw random numbers");
  if (bpf_map_update_elem(map, &zero, keys.data(), BPF_ANY) != 0) return ErrnoStatus("write hg_content_keys");
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
  // Twice what is in force: the next generation is built beside it. Nodes and slots have room for the coarser
  // shapes that a tree may take on, which no rule set seen comes near.
  const uint64_t entries = sizes.max_entries, prefixes = sizes.max_prefixes;
  // In whole runs of the agent's allocator, with one to spare for the reserved cell 0.
  const auto pages = [](uint64_t cells, uint32_t per_page) {
    return static_cast<uint32_t>((cells / HG_RUN_CELLS + 2) * HG_RUN_CELLS / per_page);
  };
  bpf_map__set_max_entries(maps.hg_nodes, pages(entries + prefixes, HG_NODES_PER_PAGE));
  // Besides, a slot for each set as source and as destination, and room for what changes copy of them.
  constexpr uint64_t kSetSlots = 8 * HG_SETS;
  bpf_map__set_max_entries(maps.hg_slots, pages(4 * entries + 2 * prefixes + kSetSlots, HG_SLOTS_PER_PAGE));
  bpf_map__set_max_entries(maps.hg_rules, pages(4 * entries, HG_RULES_PER_PAGE));
  bpf_map__set_max_entries(maps.hg_matches, pages(2 * entries, HG_MATCHES_PER_PAGE));
  bpf_map__set_max_entries(maps.hg_prefixes, pages(4 * prefixes, HG_PREFIXES_PER_PAGE));
  bpf_map__set_max_entries(maps.hg_actions, pages(2 * entries, 1));
  bpf_map__set_max_entries(maps.hg_next_hops, pages(2 * HG_NEXT_HOP_PAGES, 1));
  bpf_map__set_max_entries(maps.hg_targets, pages(2 * HG_TARGET_PAGES, 1));
  bpf_map__set_max_entries(maps.hg_mroutes, pages(2 * HG_MROUTE_PAGES, 1));
  bpf_map__set_max_entries(maps.hg_legs, pages(2 * HG_LEG_PAGES, 1));
  bpf_map__set_max_entries(maps.hg_sources, sizes.max_sources);
  // Rule ids are from 1 to twice the entries: a document may replace all rules by others.
  const uint32_t counter_pages = RuleCounters::PagesFor(2 * entries + 1),
                 base_entries = RuleCounters::BaseEntriesFor(counter_pages);
  bpf_map__set_max_entries(maps.hg_limiters, RuleCounters::RowsOf(base_entries));
  bpf_map__set_max_entries(maps.hg_rule_recent, counter_pages);
  bpf_map__set_max_entries(maps.hg_rule_stats, counter_pages);
  bpf_map__set_max_entries(maps.hg_rule_base, base_entries);
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

// Those of rules only together: each has but a part of what they counted.
absl::Status Loader::ReuseRuleCounters() {
  auto& maps = skeleton_->maps;
  const Fd recent = PinnedLike(maps.hg_rule_recent), stats = PinnedLike(maps.hg_rule_stats),
           base = PinnedLike(maps.hg_rule_base);
  if (!recent || !stats || !base) return absl::OkStatus();
  HG_ASSIGN_OR_RETURN(const bool together, RuleCounters(recent.get(), stats.get(), base.get()).BelongTogether());
  if (!together) return absl::OkStatus();
  HG_RETURN_IF_ERROR(Reuse(maps.hg_rule_recent, recent));
  HG_RETURN_IF_ERROR(Reuse(maps.hg_rule_stats, stats));
  return Reuse(maps.hg_rule_base, base);
}

// Adopts pinned maps. The tables of a generation only together, and only of the same ABI.
absl::Status Loader::ReuseMaps() {
  auto& maps = skeleton_->maps;
  const std::vector<bpf_map*> tables = {maps.hg_active,    maps.hg_roots,      maps.hg_nodes,   maps.hg_slots,
                                        maps.hg_rules,     maps.hg_matches,    maps.hg_actions, maps.hg_prefixes,
                                        maps.hg_next_hops, maps.hg_targets,    maps.hg_mroutes, maps.hg_legs,
                                        maps.hg_fanouts,   maps.hg_fanout_maps};
  std::vector<Fd> fds;
  fds.reserve(tables.size());
  for (const bpf_map* table : tables) fds.push_back(PinnedLike(table));
  hg_active active{};
  const uint32_t zero = 0;
  if (std::all_of(fds.begin(), fds.end(), [](const Fd& fd) { return static_cast<bool>(fd); }) &&
      bpf_map_lookup_elem(fds[0].get(), &zero, &active) == 0 && active.abi == HG_ABI_VERSION) {
    for (size_t i = 0; i < tables.size(); ++i) HG_RETURN_IF_ERROR(Reuse(tables[i], fds[i]));
  }
  // hg_traces, hg_flows, hg_bundles and what belongs to those, and .rodata are each process's own.
  for (bpf_map* map : {maps.hg_ifindexes,    maps.hg_ports,        maps.hg_devmap,       maps.hg_xsks,
                       maps.hg_queues,       maps.hg_target_state, maps.hg_limiters,     maps.hg_sources,
                       maps.hg_port_stats,   maps.hg_counters,     maps.hg_egress_stats, maps.hg_egress_own,
                       maps.hg_samples,      maps.hg_samples_lost, maps.hg_port_ips,     maps.hg_fanout_state,
                       maps.hg_mroute_stats, maps.hg_mroute_last,  maps.hg_leg_stats,    maps.hg_worker_legs,
                       maps.hg_leg_limiters, maps.hg_feeds,        maps.hg_contents,     maps.hg_content_keys,
                       maps.hg_listeners}) {
    if (const Fd fd = PinnedLike(map)) HG_RETURN_IF_ERROR(Reuse(map, fd));
  }
  return ReuseRuleCounters();
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
  HG_RETURN_IF_ERROR(DrawContentKeys(bpf_map__fd(loader->skeleton_->maps.hg_content_keys)));
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  Log(spdlog::level::info, "BPF programs and tables loaded", {{"seconds", absl::StrFormat("%.2f", took.count())}});
  return loader;
}

// When the number of rules that have counters changes, what they counted so far moves to the new hg_rule_base.
// That is pinned before the other two, and names them: an agent killed in between leaves nothing counted twice.
absl::Status Loader::CarryRuleCounters() {
  auto& maps = skeleton_->maps;
  const int base = bpf_map__fd(maps.hg_rule_base);
  const RuleCounters counters(bpf_map__fd(maps.hg_rule_recent), bpf_map__fd(maps.hg_rule_stats), base);
  const Fd old_recent(bpf_obj_get(MapPath(maps.hg_rule_recent).c_str()));
  const Fd old_stats(bpf_obj_get(MapPath(maps.hg_rule_stats).c_str()));
  const Fd old_base(bpf_obj_get(MapPath(maps.hg_rule_base).c_str()));
  bpf_map_info old_stats_info{}, old_base_info{};
  uint32_t length = sizeof(bpf_map_info);
  if (!old_base) return counters.Bind();
  HG_ASSIGN_OR_RETURN(const bool adopted, counters.BelongTogether());
  if (adopted) return absl::OkStatus();
  if (bpf_obj_get_info_by_fd(old_base.get(), &old_base_info, &length) != 0) {
    return ErrnoStatus("inspect the pinned hg_rule_base");
  }
  if (old_stats && bpf_obj_get_info_by_fd(old_stats.get(), &old_stats_info, &length) != 0) {
    return ErrnoStatus("inspect the pinned hg_rule_stats");
  }
  if (old_base_info.value_size != bpf_map__value_size(maps.hg_rule_base) ||
      (old_stats && old_stats_info.value_size != bpf_map__value_size(maps.hg_rule_stats))) {
    Log(spdlog::level::warn,
        "counters of rules begin anew: another version made the pinned ones, in another layout",
        {{"pins", root_}});
    HG_RETURN_IF_ERROR(counters.Bind());
  } else {
    HG_RETURN_IF_ERROR(counters.Carry(RuleCounters(old_recent.get(), old_stats.get(), old_base.get())));
  }
  return PinReplacing(base, MapPath(maps.hg_rule_base));
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
  RemoveOtherPins();
  return absl::OkStatus();
}

// Of maps and programs that another version has and this one has not: they would keep their memory for nobody.
void Loader::RemoveOtherPins() const {
  std::set<std::string> ours;
  const auto remember = [&ours](int, const std::string& path) {
    ours.insert(path);
    return absl::OkStatus();
  };
  if (!ForEachPin(remember).ok()) return;
  for (const char* directory : {"/maps", "/programs"}) {
    std::error_code error;
    std::filesystem::directory_iterator pin(root_ + directory, error);
    for (; !error && pin != std::filesystem::directory_iterator(); pin.increment(error)) {
      if (ours.contains(pin->path().string())) continue;
      if (unlink(pin->path().c_str()) != 0) {
        Log(spdlog::level::warn, "a pin of another version stays",
            {{"reason", ErrnoStatus("remove ", pin->path().string())}});
      }
    }
    if (error) {
      Log(spdlog::level::warn, "pins of other versions may stay",
          {{"directory", root_ + directory}, {"reason", error.message()}});
    }
  }
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
