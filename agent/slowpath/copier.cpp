// SPDX-License-Identifier: Apache-2.0
#include "agent/slowpath/copier.h"

#include <bpf/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>

#include <algorithm>
#include <set>
#include <utility>

#include "agent/base/log.h"
#include "agent/base/status.h"

namespace headgate {
namespace {

// Until packets that were sent by a plan that is gone have left.
constexpr auto kGrace = std::chrono::seconds(2);

}  // namespace

Copier::Copier(const DataPath& data_path, VethPair pair, Fd link)
    : data_path_(data_path), pair_(std::move(pair)), link_(std::move(link)) {}

absl::StatusOr<std::unique_ptr<Copier>> Copier::Create(const DataPath& data_path, const std::string& device) {
  HG_ASSIGN_OR_RETURN(VethPair pair,
                      VethPair::Create({device + "0", device + "1"}, kQueues, HG_COPIER_FRAME - ETH_HLEN));
  LIBBPF_OPTS(bpf_link_create_opts, options, .flags = XDP_FLAGS_DRV_MODE);
  Fd link(bpf_link_create(data_path.ingress, static_cast<int>(pair.second()), BPF_XDP, &options));
  if (!link) return ErrnoStatus("attach headgate_copier to ", device, "1");
  return std::unique_ptr<Copier>(new Copier(data_path, std::move(pair), std::move(link)));
}

void Copier::RemoveStale(const std::string& device) { VethPair::Remove({device + "0", device + "1"}); }

bool Copier::Works() const { return pair_.IsUp(); }

void Copier::Place(MulticastPlan& plan) {
  absl::Status trouble;
  for (PlannedRoute& route : plan.routes) {
    std::erase_if(route.bundles, [&](LegBundle& bundle) {
      absl::Status status = Place(route, bundle);
      const bool failed = !status.ok();
      if (failed) trouble = std::move(status);
      return failed;
    });
  }
  if (!trouble.ok() && !told_) {
    Log(spdlog::level::warn, "workers make copies one by one that the kernel could make at once",
        {{"reason", trouble}});
  }
  told_ = !trouble.ok();
  Clear();
}

absl::Status Copier::Place(const PlannedRoute& route, LegBundle& bundle) {
  hg_bundle wanted{};
  for (const PlannedLeg& leg : absl::MakeConstSpan(route.legs).subspan(bundle.first, bundle.count)) {
    wanted.leg[wanted.count].leg = leg.leg;
    wanted.leg[wanted.count++].id = leg.id;
  }
  std::string content(reinterpret_cast<const char*>(&wanted), sizeof(wanted));
  content.append(reinterpret_cast<const char*>(&bundle.ifindex), sizeof(bundle.ifindex));
  auto found = placed_.find(content);
  if (found == placed_.end()) {
    HG_ASSIGN_OR_RETURN(const uint32_t id, TakeId());
    HG_RETURN_IF_ERROR(Write(id, wanted, bundle.ifindex));
    found = placed_.emplace(std::move(content), Placed{id, std::make_shared<char>(), {}}).first;
  }
  bundle.id = found->second.id;
  bundle.hold = found->second.hold;
  return absl::OkStatus();
}

absl::StatusOr<uint32_t> Copier::TakeId() {
  std::set<uint32_t> taken;
  for (const auto& [content, placed] : placed_) taken.insert(placed.id);
  for (uint32_t i = 0; i < HG_BUNDLES; ++i) {
    last_ = (last_ + 1) % HG_BUNDLES;
    if (!taken.contains(last_)) return last_;
  }
  return absl::ResourceExhaustedError(absl::StrCat("all ", HG_BUNDLES, " bundles of legs are in use"));
}

absl::Status Copier::Write(uint32_t id, const hg_bundle& bundle, uint32_t ifindex) const {
  const Fd devices(bpf_map_create(BPF_MAP_TYPE_DEVMAP, "hg_bundle_devs", sizeof(uint32_t), sizeof(bpf_devmap_val),
                                  bundle.count, nullptr));
  if (!devices) return ErrnoStatus("create a map of ", bundle.count, " devices");
  bpf_devmap_val value{};
  value.ifindex = ifindex;
  value.bpf_prog.fd = data_path_.egress;
  for (uint32_t place = 0; place < bundle.count; ++place) {
    if (bpf_map_update_elem(devices.get(), &place, &value, BPF_ANY) != 0) {
      return ErrnoStatus("make ifindex ", ifindex, " a target of the copier");
    }
  }
  if (bpf_map_update_elem(data_path_.bundles, &id, &bundle, BPF_ANY) != 0) return ErrnoStatus("write hg_bundles");
  const auto inner = static_cast<uint32_t>(devices.get());
  if (bpf_map_update_elem(data_path_.bundle_maps, &id, &inner, BPF_ANY) != 0) {
    return ErrnoStatus("write hg_bundle_maps");
  }
  return absl::OkStatus();
}

void Copier::Clear() {
  const Clock::time_point now = Clock::now();
  for (auto placed = placed_.begin(); placed != placed_.end();) {
    if (placed->second.hold.use_count() > 1) placed->second.since = now;
    if (now - placed->second.since < kGrace) {
      ++placed;
      continue;
    }
    bpf_map_delete_elem(data_path_.bundle_maps, &placed->second.id);
    placed = placed_.erase(placed);
  }
}

}  // namespace headgate
