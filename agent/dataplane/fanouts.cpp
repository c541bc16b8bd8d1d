// SPDX-License-Identifier: Apache-2.0
#include "agent/dataplane/fanouts.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <vector>

#include "agent/base/status.h"
#include "agent/dataplane/bpf_util.h"
#include "headgate_bpf.skel.h"

namespace headgate {

absl::Status Fanouts::Restore() {
  std::vector<hg_fanout> held(HG_FANOUTS);
  HG_RETURN_IF_ERROR(ReadArray(bpf_map__fd(loader_.skeleton().maps.hg_fanouts), 0, HG_FANOUTS, held.data()));
  for (uint32_t index = 0; index < HG_FANOUTS; ++index) {
    const bool used = std::any_of(std::begin(held[index].ports), std::end(held[index].ports),
                                  [](uint64_t word) { return word != 0; });
    if (used) HG_RETURN_IF_ERROR(Set(index, held[index]));
  }
  return absl::OkStatus();
}

absl::Status Fanouts::Set(uint32_t index, const hg_fanout& ports) {
  const int maps = bpf_map__fd(loader_.skeleton().maps.hg_fanout_maps);
  uint32_t size = 0, changed = 0;
  for (const uint64_t word : ports.ports) size += static_cast<uint32_t>(std::popcount(word));
  if (size == 0) {
    fanouts_[index] = {};
    return bpf_map_delete_elem(maps, &index) == 0 || errno == ENOENT ? absl::OkStatus()
                                                                     : ErrnoStatus("clear hg_fanout_maps");
  }
  Fanout fanout{ports, Fd(bpf_map_create(BPF_MAP_TYPE_DEVMAP_HASH, "hg_fanout_devs", sizeof(uint32_t),
                                         sizeof(bpf_devmap_val), size, nullptr))};
  if (!fanout.devices) return ErrnoStatus("create a map of the devices of fanout ", index);
  for (uint32_t port = 1; port < HG_PORTS; ++port) {
    if (!Has(ports, port)) continue;
    HG_RETURN_IF_ERROR(leg_port_(port));
    HG_RETURN_IF_ERROR(Put(fanout, port, changed));
  }
  const auto devices = static_cast<uint32_t>(fanout.devices.get());
  if (bpf_map_update_elem(maps, &index, &devices, BPF_ANY) != 0) {
    return ErrnoStatus("put the devices of fanout ", index, " in hg_fanout_maps");
  }
  fanouts_[index] = std::move(fanout);
  return WriteState(index, changed);
}

absl::Status Fanouts::Put(const Fanout& fanout, uint32_t port, uint32_t& changed) {
  const auto& skeleton = loader_.skeleton();
  hg_port described{};
  if (bpf_map_lookup_elem(bpf_map__fd(skeleton.maps.hg_ports), &port, &described) != 0) {
    return ErrnoStatus("read hg_ports");
  }
  bpf_devmap_val held{}, wanted{};
  wanted.ifindex = described.ifindex;
  wanted.bpf_prog.fd = bpf_program__fd(skeleton.progs.headgate_leg);
  // What is read back has the program's id.
  const bool present = bpf_map_lookup_elem(fanout.devices.get(), &port, &held) == 0;
  if (described.ifindex == 0) {
    if (!present) return absl::OkStatus();
    ++changed;
    // Fails when the kernel let go of it with its device.
    bpf_map_delete_elem(fanout.devices.get(), &port);
    return absl::OkStatus();
  }
  if (present && held.ifindex == described.ifindex && held.bpf_prog.id != 0) return absl::OkStatus();
  ++changed;
  // A device that is gone takes its entry along, and so it will when it is known to be gone.
  if (bpf_map_update_elem(fanout.devices.get(), &port, &wanted, BPF_ANY) != 0 && errno != ENODEV &&
      errno != EINVAL) {
    return ErrnoStatus("make ifindex ", described.ifindex, " a target of multicast");
  }
  return absl::OkStatus();
}

// Where a device is in generic mode or does not exist, copies are not lost: workers make them, or nobody could.
absl::Status Fanouts::WriteState(uint32_t index, uint32_t& changed) {
  const auto& maps = loader_.skeleton().maps;
  hg_fanout_state wanted{.mtu = std::numeric_limits<uint32_t>::max(), .pad = 0}, held{};
  for (uint32_t port = 1; port < HG_PORTS; ++port) {
    if (!Has(fanouts_[index].ports, port)) continue;
    hg_port described{};
    if (bpf_map_lookup_elem(bpf_map__fd(maps.hg_ports), &port, &described) != 0)
      return ErrnoStatus("read hg_ports");
    if (described.ifindex == 0) continue;
    wanted.mtu = (described.flags & HG_PORT_NATIVE) != 0 ? std::min(wanted.mtu, described.mtu) : 0;
    if (wanted.mtu == 0) break;
  }
  const int states = bpf_map__fd(maps.hg_fanout_state);
  if (bpf_map_lookup_elem(states, &index, &held) == 0 && held.mtu == wanted.mtu) return absl::OkStatus();
  ++changed;
  return bpf_map_update_elem(states, &index, &wanted, BPF_ANY) == 0 ? absl::OkStatus()
                                                                    : ErrnoStatus("write hg_fanout_state");
}

absl::Status Fanouts::Follow(uint32_t port) {
  uint32_t changed = 0;
  for (uint32_t index = 0; index < HG_FANOUTS; ++index) {
    if (!fanouts_[index].devices || !Has(fanouts_[index].ports, port)) continue;
    HG_RETURN_IF_ERROR(Put(fanouts_[index], port, changed));
    HG_RETURN_IF_ERROR(WriteState(index, changed));
  }
  return absl::OkStatus();
}

absl::Status Fanouts::Sweep(Repairs& repairs) {
  const int maps = bpf_map__fd(loader_.skeleton().maps.hg_fanout_maps);
  for (uint32_t index = 0; index < HG_FANOUTS; ++index) {
    Fanout& fanout = fanouts_[index];
    uint32_t held = 0, changed = 0, state = 0;
    const bool present = bpf_map_lookup_elem(maps, &index, &held) == 0;
    if (!fanout.devices) {
      if (!present) continue;
      ++repairs["hg_fanout_maps"];
      HG_RETURN_IF_ERROR(Set(index, {}));
      continue;
    }
    bpf_map_info info{};
    uint32_t length = sizeof(info);
    if (bpf_obj_get_info_by_fd(fanout.devices.get(), &info, &length) != 0) return ErrnoStatus("inspect a fanout");
    if (!present || held != info.id) {
      ++changed;
      const auto devices = static_cast<uint32_t>(fanout.devices.get());
      if (bpf_map_update_elem(maps, &index, &devices, BPF_ANY) != 0) return ErrnoStatus("write hg_fanout_maps");
    }
    for (uint32_t port = 1; port < HG_PORTS; ++port) {
      if (Has(fanout.ports, port)) HG_RETURN_IF_ERROR(Put(fanout, port, changed));
    }
    HG_RETURN_IF_ERROR(WriteState(index, state));
    if (changed != 0) repairs["hg_fanout_maps"] += changed;
    if (state != 0) repairs["hg_fanout_state"] += state;
  }
  return absl::OkStatus();
}

}  // namespace headgate
