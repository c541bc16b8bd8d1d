// SPDX-License-Identifier: Apache-2.0
#include "bench/bare_redirect.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/if_link.h>

#include "agent/base/status.h"
#include "bare_redirect_bpf.skel.h"
#include "bench/netns.h"

namespace headgate::bench {
namespace {

absl::StatusOr<Fd> AttachNative(const bpf_program* program, const Device& device) {
  LIBBPF_OPTS(bpf_link_create_opts, options, .flags = XDP_FLAGS_DRV_MODE);
  Fd link(bpf_link_create(bpf_program__fd(program), static_cast<int>(device.ifindex), BPF_XDP, &options));
  if (!link) {
    return ErrnoStatus("attach ", bpf_program__name(program), " to ", device.name, " in native mode",
                       " (is another XDP program attached? ip link show dev ", device.name, ")");
  }
  return link;
}

}  // namespace

BareRedirect::~BareRedirect() { bare_redirect_bpf__destroy(skeleton_); }

int BareRedirect::program_fd() const { return bpf_program__fd(skeleton_->progs.hgb_redirect); }

absl::StatusOr<std::unique_ptr<BareRedirect>> BareRedirect::Open(const std::string& netns, const std::string& in,
                                                                 const std::string& out) {
  std::unique_ptr<BareRedirect> redirect(new BareRedirect);
  HG_RETURN_IF_ERROR(InNamespace(netns, [&] { return redirect->Load(in, out); }));
  return redirect;
}

absl::Status BareRedirect::Load(const std::string& in, const std::string& out) {
  skeleton_ = bare_redirect_bpf__open_and_load();
  if (skeleton_ == nullptr) return ErrnoStatus("load the bare redirect program (needs root)");
  HG_ASSIGN_OR_RETURN(const Device in_device, FindDevice(in));
  HG_ASSIGN_OR_RETURN(const Device out_device, FindDevice(out));
  const uint32_t zero = 0;
  if (bpf_map_update_elem(bpf_map__fd(skeleton_->maps.hgb_target), &zero, &out_device.ifindex, BPF_ANY) != 0) {
    return ErrnoStatus("redirect to ", out, " (its driver may not support it)");
  }
  HG_ASSIGN_OR_RETURN(out_link_, AttachNative(skeleton_->progs.hgb_pass, out_device));
  HG_ASSIGN_OR_RETURN(in_link_, AttachNative(skeleton_->progs.hgb_redirect, in_device));
  return absl::OkStatus();
}

}  // namespace headgate::bench
