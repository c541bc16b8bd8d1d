// SPDX-License-Identifier: Apache-2.0
#include "agent/dataplane/attach.h"

#include <absl/strings/str_cat.h>
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/ethtool.h>
#include <linux/if_link.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <map>

#include "agent/base/status.h"
#include "agent/dataplane/bpf_util.h"
#include "headgate_bpf.skel.h"

namespace headgate {
namespace {

std::string PortName(uint32_t port) { return absl::StrCat("port-", port); }

uint32_t LinkIfindex(int link) {
  bpf_link_info info{};
  uint32_t length = sizeof(info);
  return bpf_obj_get_info_by_fd(link, &info, &length) == 0 ? info.xdp.ifindex : 0;
}

// Whether the link's program is that of this namespace's device. One that was moved to another namespace takes its
// number and its link along.
bool IsAttached(int link, uint32_t ifindex) {
  bpf_link_info info{};
  uint32_t length = sizeof(info);
  LIBBPF_OPTS(bpf_xdp_query_opts, query);
  return bpf_obj_get_info_by_fd(link, &info, &length) == 0 && info.xdp.ifindex == ifindex &&
         bpf_xdp_query(static_cast<int>(ifindex), 0, &query) == 0 && query.prog_id == info.prog_id;
}

// 0: it cannot be told, and is no program's.
uint32_t ProgramId(int program) {
  bpf_prog_info info{};
  uint32_t length = sizeof(info);
  return bpf_obj_get_info_by_fd(program, &info, &length) == 0 ? info.id : 0;
}

// Which mode the device's program runs in.
DriverMode ModeOf(uint32_t ifindex) {
  LIBBPF_OPTS(bpf_xdp_query_opts, query);
  if (bpf_xdp_query(static_cast<int>(ifindex), 0, &query) == 0 && query.attach_mode == XDP_ATTACHED_SKB) {
    return DriverMode::kGeneric;
  }
  return DriverMode::kNative;
}

absl::string_view ModeName(DriverMode mode) { return mode == DriverMode::kNative ? "native" : "generic"; }

template <typename Value>
absl::Status WriteWhereOther(const bpf_map* map, uint32_t key, const Value& wanted, uint32_t& changed) {
  Value held{};
  if (bpf_map_lookup_elem(bpf_map__fd(map), &key, &held) != 0) return ErrnoStatus("read ", bpf_map__name(map));
  if (std::memcmp(&wanted, &held, sizeof(held)) == 0) return absl::OkStatus();
  ++changed;
  if (bpf_map_update_elem(bpf_map__fd(map), &key, &wanted, BPF_ANY) == 0) return absl::OkStatus();
  return ErrnoStatus("write ", bpf_map__name(map));
}

// What about the device may keep packets from being seen as they are.
std::vector<std::string> WarningsFor(const Device& device) {
  std::vector<std::string> warnings;
  ethtool_value flags{.cmd = ETHTOOL_GFLAGS};
  ifreq request{};
  const Fd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  device.name.copy(request.ifr_name, sizeof(request.ifr_name) - 1);
  request.ifr_data = reinterpret_cast<char*>(&flags);
  if (socket && ioctl(socket.get(), SIOCETHTOOL, &request) == 0 && (flags.data & ETH_FLAG_RXVLAN) != 0) {
    warnings.push_back(
        absl::StrCat("VLAN tags that the device takes off are not seen (rules with vlan, next hops that "
                     "strip): ethtool -K ",
                     device.name, " rxvlan off"));
  }
  return warnings;
}

std::string WhyNot(int error, const Device& device) {
  LIBBPF_OPTS(bpf_xdp_query_opts, query);
  if (error == EBUSY || error == EEXIST) {
    bpf_xdp_query(static_cast<int>(device.ifindex), 0, &query);
    return absl::StrCat("another XDP program (id ", query.prog_id,
                        ") is attached; remove it first: ip link set dev ", device.name,
                        " xdp off, or where a link holds it (bpftool link): bpftool link detach id LINK");
  }
  if (error == EINVAL || error == ERANGE || error == EOPNOTSUPP) {
    return absl::StrCat("the driver refuses; an MTU of ", device.mtu,
                        " may be too large for it, or native XDP not supported (mode generic works everywhere)");
  }
  if (error == ENOSPC || error == ENOMEM) return "the device has too few queues (ethtool -L) or resources for XDP";
  return "the kernel says";
}

}  // namespace

absl::Status Ports::Restore() {
  std::vector<hg_port> entries(HG_PORTS);
  HG_RETURN_IF_ERROR(ReadArray(bpf_map__fd(loader_.skeleton().maps.hg_ports), 0, HG_PORTS, entries.data()));
  for (uint32_t port = 1; port < HG_PORTS; ++port) {
    Port& restored = ports_[port];
    // One that could not be attached has entries, too.
    restored.ifindex = entries[port].ifindex;
    restored.link = Fd(bpf_obj_get(loader_.LinkPath(PortName(port)).c_str()));
    if (!restored.link) continue;
    restored.ifindex = LinkIfindex(restored.link.get());
    if (restored.ifindex != 0) restored.mode = ModeOf(restored.ifindex);
  }
  return absl::OkStatus();
}

absl::Status Ports::TakeOver() {
  const int program = bpf_program__fd(loader_.skeleton().progs.headgate);
  for (uint32_t port = 1; port < HG_PORTS; ++port) {
    const Port& bound = ports_[port];
    // The link of a device that is gone has nothing to update.
    if (!bound.link || bound.ifindex == 0) continue;
    if (bpf_link_update(bound.link.get(), program, nullptr) != 0 && errno != ENOLINK) {
      return ErrnoStatus("put the new program in place on ifindex ", bound.ifindex);
    }
  }
  return absl::OkStatus();
}

// One slot for each device and none else for its port; ifindex 0: none at all. A device that goes from one port to
// another is at no moment without.
absl::Status Ports::SetIfindexSlots(absl::Span<const hg_ifindex> wanted, uint32_t& changed) {
  const int map = bpf_map__fd(loader_.skeleton().maps.hg_ifindexes);
  std::vector<hg_ifindex> held(HG_IFINDEX_SLOTS);
  HG_RETURN_IF_ERROR(ReadArray(map, 0, HG_IFINDEX_SLOTS, held.data()));
  const auto has_ifindex = [&wanted](uint32_t ifindex) {
    return std::any_of(wanted.begin(), wanted.end(),
                       [=](const hg_ifindex& one) { return one.ifindex == ifindex; });
  };
  const auto has_port = [&wanted](uint32_t port) {
    return std::any_of(wanted.begin(), wanted.end(), [=](const hg_ifindex& one) { return one.port == port; });
  };
  // A slot of one of the ports with another device's number is to be cleared.
  const auto free = [&](const hg_ifindex& entry) {
    return entry.ifindex == 0 || (has_port(entry.port) && !has_ifindex(entry.ifindex));
  };
  const auto ours = [&](const hg_ifindex& entry) {
    return entry.ifindex != 0 && (has_port(entry.port) || has_ifindex(entry.ifindex));
  };
  std::map<uint32_t, hg_ifindex> chosen;  // by slot
  for (const hg_ifindex& entry : wanted) {
    if (entry.ifindex == 0) continue;
    // The slot it has; else the first that is free.
    std::optional<uint32_t> place;
    for (uint32_t i = HG_IFINDEX_PROBES; i-- > 0;) {
      const uint32_t slot = (entry.ifindex + i) % HG_IFINDEX_SLOTS;
      if (free(held[slot]) && !chosen.contains(slot)) place = slot;
    }
    for (uint32_t i = 0; i < HG_IFINDEX_PROBES; ++i) {
      const uint32_t slot = (entry.ifindex + i) % HG_IFINDEX_SLOTS;
      if (held[slot].ifindex == entry.ifindex) place = slot;
    }
    if (!place) {
      return absl::ResourceExhaustedError(absl::StrCat("table hg_ifindexes: no slot near ifindex ", entry.ifindex,
                                                       ": too many interfaces whose numbers are equal modulo ",
                                                       HG_IFINDEX_SLOTS));
    }
    chosen[*place] = entry;
  }
  std::vector<uint32_t> slots;
  std::vector<hg_ifindex> entries;
  for (uint32_t slot = 0; slot < HG_IFINDEX_SLOTS; ++slot) {
    const auto found = chosen.find(slot);
    if (found == chosen.end() && !ours(held[slot])) continue;
    const hg_ifindex entry = found == chosen.end() ? hg_ifindex{} : found->second;
    if (held[slot].ifindex == entry.ifindex && held[slot].port == entry.port) continue;
    slots.push_back(slot);
    entries.push_back(entry);
  }
  changed += static_cast<uint32_t>(slots.size());
  return Annotate(WriteArray(map, slots, entries.data()), "hg_ifindexes");
}

absl::Status Ports::WritePort(uint32_t port, const hg_port& entry, uint32_t& changed) {
  uint32_t written = 0;
  HG_RETURN_IF_ERROR(WriteWhereOther(loader_.skeleton().maps.hg_ports, port, entry, written));
  changed += written;
  return written == 0 ? absl::OkStatus() : described_(port);
}

absl::Status Ports::DescribeDevice(uint32_t port, const Device& device, bool native, uint32_t& changed) {
  const auto& maps = loader_.skeleton().maps;
  hg_port entry{};
  entry.ifindex = device.ifindex;
  entry.mtu = device.mtu;
  entry.flags = native ? HG_PORT_NATIVE : 0;
  std::copy(device.mac.begin(), device.mac.end(), entry.mac);
  hg_port_address addresses{};
  if (device.address4) addresses.ip4 = htonl(device.address4->words[0]);
  if (device.address6) {
    std::transform(device.address6->words.begin(), device.address6->words.end(), addresses.ip6, htonl);
  }
  HG_RETURN_IF_ERROR(WriteWhereOther(maps.hg_port_ips, port, addresses, changed));
  return WritePort(port, entry, changed);
}

// Everything the program knows of the port, before the first packet can come.
// `former`: the port that has the device until now, or 0.
absl::Status Ports::Describe(uint32_t port, const Device& device, uint32_t former, uint32_t& changed) {
  const Port& holder = ports_[former != 0 ? former : port];
  const bool native = holder.link && holder.ifindex == device.ifindex && holder.mode == DriverMode::kNative;
  HG_RETURN_IF_ERROR(DescribeDevice(port, device, native, changed));
  std::vector<hg_ifindex> slots = {{device.ifindex, port}};
  if (former != 0) slots.push_back({ports_[port].link ? ports_[port].ifindex : 0, former});
  HG_RETURN_IF_ERROR(SetIfindexSlots(slots, changed));
  return WriteTarget(port, device.ifindex, changed);
}

absl::Status Ports::WriteTarget(uint32_t port, uint32_t ifindex, uint32_t& changed) {
  const auto& skeleton = loader_.skeleton();
  const int devices = bpf_map__fd(skeleton.maps.hg_devmap);
  const int program = bpf_program__fd(skeleton.progs.headgate_leg);
  bpf_devmap_val held{}, wanted{};
  wanted.ifindex = ifindex;
  wanted.bpf_prog.fd = legs_[port] ? program : -1;
  // What is read back has the program's id.
  const uint32_t id = legs_[port] ? ProgramId(program) : 0;
  if (bpf_map_lookup_elem(devices, &port, &held) == 0 && held.ifindex == ifindex && held.bpf_prog.id == id) {
    return absl::OkStatus();
  }
  ++changed;
  return bpf_map_update_elem(devices, &port, &wanted, BPF_ANY) == 0
             ? absl::OkStatus()
             : ErrnoStatus("make ifindex ", ifindex, " a redirect target");
}

absl::Status Ports::RunLegs(uint32_t port) {
  if (legs_[port]) return absl::OkStatus();
  legs_.set(port);
  uint32_t changed = 0;
  // A device that is gone took its entry along, and Attach makes that of the next.
  if (!ports_[port].link ||
      if_indextoname(ports_[port].ifindex, std::array<char, IF_NAMESIZE>().data()) == nullptr) {
    return absl::OkStatus();
  }
  return WriteTarget(port, ports_[port].ifindex, changed);
}

absl::StatusOr<Fd> Ports::CreateLink(uint32_t port, const Device& device, DriverMode mode) {
  LIBBPF_OPTS(bpf_link_create_opts, options,
              .flags = mode == DriverMode::kNative ? XDP_FLAGS_DRV_MODE : XDP_FLAGS_SKB_MODE);
  const int program = bpf_program__fd(loader_.skeleton().progs.headgate);
  Fd link(bpf_link_create(program, static_cast<int>(device.ifindex), BPF_XDP, &options));
  if (!link) {
    const int error = errno;
    return StatusOfErrno(error, "attach to ", device.name, " in ", ModeName(mode),
                         " mode: ", WhyNot(error, device));
  }
  HG_RETURN_IF_ERROR(PinLink(port, link));
  return link;
}

absl::Status Ports::PinLink(uint32_t port, const Fd& link) {
  const std::string path = loader_.LinkPath(PortName(port));
  unlink(path.c_str());
  return bpf_obj_pin(link.get(), path.c_str()) == 0 ? absl::OkStatus() : ErrnoStatus("pin ", path);
}

// The port whose link is on the device, 0: none.
uint32_t Ports::HolderOf(uint32_t ifindex) const {
  for (uint32_t port = 1; port < HG_PORTS; ++port) {
    if (ports_[port].link && IsAttached(ports_[port].link.get(), ifindex)) return port;
  }
  return 0;
}

// Exchanges two ports' devices with their links, so that neither is without the program meanwhile. What is written
// of the former for its new device is for its own Attach to see to.
absl::Status Ports::TakeLink(uint32_t port, uint32_t former) {
  std::swap(ports_[port], ports_[former]);
  HG_RETURN_IF_ERROR(PinLink(port, ports_[port].link));
  if (!ports_[former].link) return Detach(former);
  ports_[former].device = Device{};
  return PinLink(former, ports_[former].link);
}

// Attaches a port that is not, in native mode where possible when none is asked for.
absl::Status Ports::MakeLink(uint32_t port, const Device& device, std::optional<DriverMode> mode) {
  Port& bound = ports_[port];
  bound.native_refused = absl::OkStatus();
  absl::StatusOr<Fd> link = CreateLink(port, device, mode.value_or(DriverMode::kNative));
  bound.mode = mode.value_or(DriverMode::kNative);
  if (!link.ok() && !mode) {
    bound.native_refused = link.status();
    link = CreateLink(port, device, DriverMode::kGeneric);
    bound.mode = DriverMode::kGeneric;
    if (!link.ok()) return bound.native_refused;
  }
  HG_RETURN_IF_ERROR(link.status());
  bound.link = *std::move(link);
  return absl::OkStatus();
}

// The kernel has no two modes on a device at once: the link gives way to one in the other mode, and comes back
// when that is refused. Asking again would interrupt again, so the refusal stands until the device changes.
absl::Status Ports::ChangeMode(uint32_t port, const Device& device, std::optional<DriverMode> mode) {
  Port& bound = ports_[port];
  if (!bound.change_refused.ok() && bound.mode_refused == mode) return bound.change_refused;
  const DriverMode former = bound.mode;
  // Now, while closing and unpinning may take effect later.
  bpf_link_detach(bound.link.get());
  bound.link = Fd();
  unlink(loader_.LinkPath(PortName(port)).c_str());
  bound.change_refused = MakeLink(port, device, mode);
  if (bound.change_refused.ok()) return absl::OkStatus();
  bound.mode_refused = mode;
  HG_RETURN_IF_ERROR(Annotate(MakeLink(port, device, former), bound.change_refused.message(), "; and then"));
  return bound.change_refused;
}

// Auto is expected to be native. Why it is not, only the process that tried knows.
std::string Ports::ModeWarning(const Port& bound) {
  return absl::StrCat("in generic mode, several times slower than native",
                      bound.native_refused.ok()
                          ? ""
                          : absl::StrCat("; native mode was refused: ", bound.native_refused.message()));
}

absl::StatusOr<Attachment> Ports::Attach(uint32_t port, const Device& device, std::optional<DriverMode> mode) {
  Port& bound = ports_[port];
  Attachment result{.warnings = WarningsFor(device)};
  const bool same_device = bound.link && bound.ifindex == device.ifindex && bound.device == device;
  bool linked = bound.link && IsAttached(bound.link.get(), device.ifindex);
  const uint32_t former = linked ? 0 : HolderOf(device.ifindex);
  uint32_t changed = 0;
  if (!bound.link) bound.ifindex = device.ifindex;  // bound from its first entry on, for Detach to find
  HG_RETURN_IF_ERROR(Describe(port, device, former, changed));
  if (former != 0) {
    HG_RETURN_IF_ERROR(TakeLink(port, former));
    linked = true;
  }
  // A new or changed device is no drift; the same one with other entries or without its link is.
  if (same_device) result.repaired = changed + (linked ? 0 : 1);
  // Without its pin the link ends with this process.
  if (linked && access(loader_.LinkPath(PortName(port)).c_str(), F_OK) != 0) {
    HG_RETURN_IF_ERROR(PinLink(port, bound.link));
    ++result.repaired;
  }
  if (!same_device) bound.change_refused = absl::OkStatus();
  bound.ifindex = device.ifindex;
  bound.device = device;

  if (!linked) {
    bound.link = Fd();
    HG_RETURN_IF_ERROR(MakeLink(port, device, mode));
  } else if (mode ? *mode != bound.mode : bound.generic_asked) {
    // What auto became stays, for a second try would interrupt; what was asked for does not.
    const absl::Status status = ChangeMode(port, device, mode);
    if (!bound.link) return status;
    result.refused = status;
  }
  // How the program runs is known only now.
  uint32_t told = 0;
  HG_RETURN_IF_ERROR(DescribeDevice(port, device, bound.mode == DriverMode::kNative, told));
  if (result.refused.ok()) bound.generic_asked = mode == DriverMode::kGeneric;
  result.mode = bound.mode;
  if (!mode && bound.mode == DriverMode::kGeneric) result.warnings.push_back(ModeWarning(bound));
  return result;
}

absl::Status Ports::Detach(uint32_t port) {
  const auto& maps = loader_.skeleton().maps;
  unlink(loader_.LinkPath(PortName(port)).c_str());
  ports_[port] = Port{};
  bpf_map_delete_elem(bpf_map__fd(maps.hg_devmap), &port);  // the kernel may have done so already
  uint32_t changed = 0;
  HG_RETURN_IF_ERROR(WritePort(port, hg_port{}, changed));
  HG_RETURN_IF_ERROR(WriteWhereOther(maps.hg_port_ips, port, hg_port_address{}, changed));
  return SetIfindexSlots({{0, port}}, changed);
}

std::vector<std::pair<uint32_t, uint32_t>> Ports::Bound() const {
  std::vector<std::pair<uint32_t, uint32_t>> bound;
  for (uint32_t port = 1; port < HG_PORTS; ++port) {
    if (ports_[port].link || ports_[port].ifindex != 0) bound.emplace_back(port, ports_[port].ifindex);
  }
  return bound;
}

absl::Status Ports::SweepIfindexes(Repairs& repairs) {
  const int map = bpf_map__fd(loader_.skeleton().maps.hg_ifindexes);
  std::vector<hg_ifindex> held(HG_IFINDEX_SLOTS);
  HG_RETURN_IF_ERROR(ReadArray(map, 0, HG_IFINDEX_SLOTS, held.data()));
  std::vector<uint32_t> slots;
  for (uint32_t slot = 0; slot < HG_IFINDEX_SLOTS; ++slot) {
    const hg_ifindex& entry = held[slot];
    if (entry.ifindex == 0 && entry.port == 0) continue;
    const bool bound = entry.port != 0 && entry.port < HG_PORTS && ports_[entry.port].ifindex == entry.ifindex;
    if (!bound || entry.ifindex == 0) slots.push_back(slot);
  }
  if (slots.empty()) return absl::OkStatus();
  repairs["hg_ifindexes"] += slots.size();
  return Annotate(WriteArray(map, slots, std::vector<hg_ifindex>(slots.size()).data()), "hg_ifindexes");
}

absl::Status Ports::Sweep(Repairs& repairs) {
  const auto& maps = loader_.skeleton().maps;
  const int devices = bpf_map__fd(maps.hg_devmap);
  for (uint32_t port = 0; port < HG_PORTS; ++port) {
    if (ports_[port].link || ports_[port].ifindex != 0) continue;  // Attach sees to it
    uint32_t described = 0, addressed = 0;
    HG_RETURN_IF_ERROR(WritePort(port, hg_port{}, described));
    HG_RETURN_IF_ERROR(WriteWhereOther(maps.hg_port_ips, port, hg_port_address{}, addressed));
    if (described != 0) repairs["hg_ports"] += described;
    if (addressed != 0) repairs["hg_port_ips"] += addressed;
    bpf_devmap_val target{};
    if (bpf_map_lookup_elem(devices, &port, &target) != 0) continue;
    ++repairs["hg_devmap"];
    if (bpf_map_delete_elem(devices, &port) != 0) return ErrnoStatus("clear hg_devmap");
  }
  return SweepIfindexes(repairs);
}

}  // namespace headgate
