// SPDX-License-Identifier: Apache-2.0
#include "agent/dataplane/egress.h"

#include <absl/strings/str_cat.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <string>

#include "agent/base/fd.h"
#include "agent/base/status.h"
#include "agent/dataplane/bpf_util.h"
#include "bpf/hg_abi.h"
#include "headgate_bpf.skel.h"

namespace headgate {
namespace {

constexpr const char* kEgressEvents[] = {"xdp_devmap_xmit", "xdp_bulk_tx", "xdp_redirect_err", "xdp_exception"};
constexpr char kFresh[] = "_new";  // ends the name of a link that is to replace a pinned one

// From the counters that count to those pinned as fresh, if it was announced; else those are of no use. On a CPU
// that has events the program itself hands over, on the others nothing is in its way here.
absl::Status FinishHandOver(Loader& loader, const std::function<absl::Status()>& quiesce) {
  const int map = bpf_map__fd(loader.skeleton().maps.hg_egress_own);
  HG_ASSIGN_OR_RETURN(auto owners, ReadCpus<hg_egress_owner>(map, 0));
  const bool announced = owners[0].next != 0;
  if (announced) {
    HG_RETURN_IF_ERROR(quiesce());
    for (hg_egress_owner& owner : owners) owner.incarnation = owner.next;
    HG_RETURN_IF_ERROR(UpdateCpus(map, 0, owners.data()));
  }
  for (const char* event : kEgressEvents) {
    const std::string path = loader.LinkPath(event), fresh = path + kFresh;
    if (!announced) {
      unlink(fresh.c_str());
    } else if (rename(fresh.c_str(), path.c_str()) != 0 && errno != ENOENT) {
      return ErrnoStatus("rename ", fresh, " to ", path);
    }
  }
  for (hg_egress_owner& owner : owners) owner.next = 0;
  return announced ? UpdateCpus(map, 0, owners.data()) : absl::OkStatus();
}

absl::Status AttachAndPin(Loader& loader, const char* event, const std::string& path) {
  const auto& programs = loader.skeleton().progs;
  const bpf_program* const by_event[] = {programs.hg_devmap_xmit, programs.hg_bulk_tx, programs.hg_redirect_err,
                                         programs.hg_exception};
  const auto index =
      static_cast<size_t>(std::find(std::begin(kEgressEvents), std::end(kEgressEvents), event) - kEgressEvents);
  const Fd link(bpf_raw_tracepoint_open(event, bpf_program__fd(by_event[index])));
  if (!link) {
    return ErrnoStatus("attach to tracepoint ", event,
                       " (frames that drivers refuse after a redirect will not be counted)");
  }
  return bpf_obj_pin(link.get(), path.c_str()) == 0 ? absl::OkStatus() : ErrnoStatus("pin ", path);
}

absl::StatusOr<uint32_t> DevmapId(Loader& loader) {
  bpf_map_info devmap{};
  uint32_t length = sizeof(devmap);
  if (bpf_obj_get_info_by_fd(bpf_map__fd(loader.skeleton().maps.hg_devmap), &devmap, &length) != 0) {
    return ErrnoStatus("inspect hg_devmap");
  }
  return devmap.id;
}

}  // namespace

// Attaches this process's counters beside those of the last one, which hand over to them. Pinned first, so that
// what is counted by then survives this process, and who comes next can finish what it began.
absl::Status AttachEgressCounters(Loader& loader, const std::function<absl::Status()>& quiesce) {
  HG_RETURN_IF_ERROR(FinishHandOver(loader, quiesce));
  for (const char* event : kEgressEvents) {
    HG_RETURN_IF_ERROR(AttachAndPin(loader, event, loader.LinkPath(event) + kFresh));
  }
  HG_ASSIGN_OR_RETURN(const uint32_t devmap, DevmapId(loader));
  auto& skeleton = loader.skeleton();
  const int map = bpf_map__fd(skeleton.maps.hg_egress_own);
  HG_ASSIGN_OR_RETURN(auto owners, ReadCpus<hg_egress_owner>(map, 0));
  for (hg_egress_owner& owner : owners) {
    owner.devmap_id = devmap;
    owner.next = skeleton.rodata->incarnation;
  }
  HG_RETURN_IF_ERROR(UpdateCpus(map, 0, owners.data()));
  return FinishHandOver(loader, quiesce);
}

absl::Status RepairEgressCounters(Loader& loader, Repairs& repairs) {
  for (const char* event : kEgressEvents) {
    const std::string path = loader.LinkPath(event);
    if (access(path.c_str(), F_OK) == 0) continue;
    ++repairs["pins"];
    HG_RETURN_IF_ERROR(AttachAndPin(loader, event, path));
  }
  HG_ASSIGN_OR_RETURN(const uint32_t devmap, DevmapId(loader));
  auto& skeleton = loader.skeleton();
  const hg_egress_owner self{
      .incarnation = skeleton.rodata->incarnation, .devmap_id = devmap, .next = 0, .pad = 0};
  const int map = bpf_map__fd(skeleton.maps.hg_egress_own);
  HG_ASSIGN_OR_RETURN(auto owners, ReadCpus<hg_egress_owner>(map, 0));
  const auto is_self = [&self](const hg_egress_owner& owner) {
    return std::memcmp(&owner, &self, sizeof(self)) == 0;
  };
  if (std::all_of(owners.begin(), owners.end(), is_self)) return absl::OkStatus();
  ++repairs["hg_egress_own"];
  std::fill(owners.begin(), owners.end(), self);
  return UpdateCpus(map, 0, owners.data());
}

}  // namespace headgate
