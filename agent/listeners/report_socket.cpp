// SPDX-License-Identifier: Apache-2.0
#include "agent/listeners/report_socket.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>

#include "agent/base/status.h"
#include "agent/listeners/wire.h"

namespace headgate {
namespace {

constexpr uint32_t Ancillary(int what) { return static_cast<uint32_t>(SKF_AD_OFF + what); }

// What the kernel hands over: IGMP, and of ICMPv6 behind hop-by-hop options MLD, without a VLAN id. Offsets are
// from the network header on.
const sock_filter kFilter[] = {
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, Ancillary(SKF_AD_VLAN_TAG)),
    BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 0xfff, 17, 0),
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, Ancillary(SKF_AD_PROTOCOL)),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ETH_P_IP, 0, 2),
    BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 9),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, wire::kIgmp, 12, 13),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ETH_P_IPV6, 0, 12),
    BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 6),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 10),
    BPF_STMT(BPF_LD | BPF_B | BPF_ABS, wire::kIp6Header),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, wire::kIcmp6, 0, 8),
    // The options' length is in units of eight bytes beyond the first.
    BPF_STMT(BPF_LD | BPF_B | BPF_ABS, wire::kIp6Header + 1),
    BPF_STMT(BPF_ALU | BPF_LSH | BPF_K, 3),
    BPF_STMT(BPF_MISC | BPF_TAX, 0),
    BPF_STMT(BPF_LD | BPF_B | BPF_IND, wire::kIp6Header + 8),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, wire::kMldReport2, 2, 0),
    BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, wire::kMldDone, 2, 0),
    BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, wire::kMldQuery, 0, 1),
    BPF_STMT(BPF_RET | BPF_K, 0xffff),
    BPF_STMT(BPF_RET | BPF_K, 0),
};

sockaddr_ll AddressOf(uint32_t ifindex, uint16_t protocol) {
  sockaddr_ll address{};
  address.sll_family = AF_PACKET;
  address.sll_protocol = htons(protocol);
  address.sll_ifindex = static_cast<int>(ifindex);
  return address;
}

}  // namespace

absl::StatusOr<ReportSocket> ReportSocket::Open(uint32_t ifindex) {
  // Hears nothing before it is bound: the filter comes first.
  Fd fd(socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return ErrnoStatus("open a packet socket (needs CAP_NET_RAW)");
  sock_fprog program{static_cast<unsigned short>(std::size(kFilter)), const_cast<sock_filter*>(kFilter)};
  const int on = 1;
  packet_mreq all{};
  all.mr_ifindex = static_cast<int>(ifindex);
  all.mr_type = PACKET_MR_ALLMULTI;
  if (setsockopt(fd.get(), SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)) != 0 ||
      setsockopt(fd.get(), SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof(on)) != 0 ||
      setsockopt(fd.get(), SOL_PACKET, PACKET_ADD_MEMBERSHIP, &all, sizeof(all)) != 0) {
    return ErrnoStatus("set up a packet socket for IGMP and MLD on ifindex ", ifindex);
  }
  const sockaddr_ll address = AddressOf(ifindex, ETH_P_ALL);
  if (bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    return ErrnoStatus("listen for IGMP and MLD on ifindex ", ifindex);
  }
  return ReportSocket(std::move(fd), ifindex);
}

std::optional<ReportSocket::Received> ReportSocket::Receive() {
  while (true) {
    sockaddr_ll from{};
    socklen_t length = sizeof(from);
    const ssize_t size =
        recvfrom(fd_.get(), buffer_.data(), buffer_.size(), 0, reinterpret_cast<sockaddr*>(&from), &length);
    // That the device is down is told once, and is not the end.
    if (size < 0 && (errno == EINTR || errno == ENETDOWN)) continue;
    if (size < 0) return std::nullopt;
    if (from.sll_pkttype == PACKET_OTHERHOST || from.sll_pkttype == PACKET_OUTGOING) continue;
    Received received{absl::MakeConstSpan(buffer_).first(static_cast<size_t>(size))};
    std::copy_n(from.sll_addr, received.from.size(), received.from.begin());
    return received;
  }
}

absl::Status ReportSocket::Send(const ListenerQuery& query, const IpAddress& source) {
  const std::vector<uint8_t> packet = BuildQuery(query, source);
  const IpAddress group = QueryDestination(query, source.family);
  sockaddr_ll to = AddressOf(ifindex_, source.family == Family::kIpv4 ? ETH_P_IP : ETH_P_IPV6);
  const MacAddress mac = GroupMac(group);
  to.sll_halen = static_cast<unsigned char>(mac.size());
  std::copy(mac.begin(), mac.end(), to.sll_addr);
  if (sendto(fd_.get(), packet.data(), packet.size(), 0, reinterpret_cast<const sockaddr*>(&to), sizeof(to)) < 0) {
    return ErrnoStatus("ask who listens to ", ToString(group), " on ifindex ", ifindex_);
  }
  return absl::OkStatus();
}

std::map<uint32_t, IpAddress> LinkLocalAddresses() {
  std::map<uint32_t, IpAddress> addresses;
  ifaddrs* list = nullptr;
  if (getifaddrs(&list) != 0) return addresses;
  const std::unique_ptr<ifaddrs, void (*)(ifaddrs*)> owner(list, freeifaddrs);
  for (const ifaddrs* one = list; one != nullptr; one = one->ifa_next) {
    if (one->ifa_addr == nullptr || one->ifa_addr->sa_family != AF_INET6) continue;
    const auto& address = *reinterpret_cast<const sockaddr_in6*>(one->ifa_addr);
    // The scope is the device.
    if (!IN6_IS_ADDR_LINKLOCAL(&address.sin6_addr)) continue;
    addresses.try_emplace(address.sin6_scope_id, wire::ReadAddress(address.sin6_addr.s6_addr, Family::kIpv6));
  }
  return addresses;
}

}  // namespace headgate
