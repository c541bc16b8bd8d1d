// SPDX-License-Identifier: Apache-2.0
#include "agent/dataplane/egress.h"

#include <absl/strings/str_cat.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <unistd.h>

#include <cstdio>
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

}  // namespace

// Attaches this process's counters beside those of the last one, which hand over to them. Pinned first, so that
// what is counted by then survives this process, and who comes next can finish what it began.
absl::Status AttachEgressCounters(Loader& loader, const std::function<absl::Status()>& quiesce) {
  HG_RETURN_IF_ERROR(FinishHandOver(loader, quiesce));
  auto& skeleton = loader.skeleton();
  bpf_program* const programs[] = {skeleton.progs.hg_devmap_xmit, skeleton.progs.hg_bulk_tx,
                                   skeleton.progs.hg_redirect_err, skeleton.progs.hg_exception};
  for (size_t i = 0; i < std::size(kEgressEvents); ++i) {
    const Fd link(bpf_raw_tracepoint_open(kEgressEvents[i], bpf_program__fd(programs[i])));
    if (!link) {
      return ErrnoStatus("attach to tracepoint ", kEgressEvents[i],
                         " (frames that drivers refuse after a redirect will not be counted)");
    }
    const std::string path = loader.LinkPath(kEgressEvents[i]) + kFresh;
    if (bpf_obj_pin(link.get(), path.c_str()) != 0) return ErrnoStatus("pin ", path);
  }
  bpf_map_info devmap{};
  uint32_t length = sizeof(devmap);
  if (bpf_obj_get_info_by_fd(bpf_map__fd(skeleton.maps.hg_devmap), &devmap, &length) != 0) {
    return ErrnoStatus("inspect hg_devmap");
  }
  const int map = bpf_map__fd(skeleton.maps.hg_egress_own);
  HG_ASSIGN_OR_RETURN(auto owners, ReadCpus<hg_egress_owner>(map, 0));
  for (hg_egress_owner& owner : owners) {
    owner.devmap_id = devmap.id;
    owner.next = skeleton.rodata->incarnation;
  }
  HG_RETURN_IF_ERROR(UpdateCpus(map, 0, owners.data()));
  return FinishHandOver(loader, quiesce);
}

}  // namespace headgate
