// SPDX-License-Identifier: Apache-2.0
#include "agent/slowpath/veth_pair.h"

#include <libmnl/libmnl.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <array>
#include <memory>

#include "agent/base/fd.h"
#include "agent/base/status.h"

namespace headgate {
namespace {

// One request to the kernel and its answer.
class Request {
 public:
  Request(uint16_t type, uint16_t flags, uint32_t ifindex = 0) {
    header_ = mnl_nlmsg_put_header(buffer_.data());
    header_->nlmsg_type = type;
    header_->nlmsg_flags = static_cast<uint16_t>(NLM_F_REQUEST | NLM_F_ACK | flags);
    info_ = static_cast<ifinfomsg*>(mnl_nlmsg_put_extra_header(header_, sizeof(ifinfomsg)));
    info_->ifi_index = static_cast<int>(ifindex);
  }
  nlmsghdr* header() { return header_; }
  ifinfomsg& info() { return *info_; }
  // 0, or an errno.
  int Send() {
    const std::unique_ptr<mnl_socket, decltype(&mnl_socket_close)> socket(
        mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC), mnl_socket_close);
    if (!socket || mnl_socket_bind(socket.get(), 0, MNL_SOCKET_AUTOPID) < 0) return errno;
    if (mnl_socket_sendto(socket.get(), header_, header_->nlmsg_len) < 0) return errno;
    const ssize_t length = mnl_socket_recvfrom(socket.get(), buffer_.data(), buffer_.size());
    if (length < 0) return errno;
    return mnl_cb_run(buffer_.data(), static_cast<size_t>(length), 0, 0, nullptr, nullptr) < 0 ? errno : 0;
  }

 private:
  static constexpr size_t kSize = 8192;
  alignas(nlmsghdr) std::array<char, kSize> buffer_{};
  nlmsghdr* header_ = nullptr;
  ifinfomsg* info_ = nullptr;
};

void Describe(nlmsghdr* message, const std::string& name, uint32_t queues, uint32_t mtu) {
  mnl_attr_put_strz(message, IFLA_IFNAME, name.c_str());
  mnl_attr_put_u32(message, IFLA_MTU, mtu);
  mnl_attr_put_u32(message, IFLA_NUM_TX_QUEUES, queues);
  mnl_attr_put_u32(message, IFLA_NUM_RX_QUEUES, queues);
}

int RemoveDevice(uint32_t ifindex) { return Request(RTM_DELLINK, 0, ifindex).Send(); }

int CreatePair(const std::pair<std::string, std::string>& names, uint32_t queues, uint32_t mtu) {
  Request request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL);
  nlmsghdr* message = request.header();
  Describe(message, names.first, queues, mtu);
  nlattr* link = mnl_attr_nest_start(message, IFLA_LINKINFO);
  mnl_attr_put_strz(message, IFLA_INFO_KIND, "veth");
  nlattr* data = mnl_attr_nest_start(message, IFLA_INFO_DATA);
  nlattr* peer = mnl_attr_nest_start(message, VETH_INFO_PEER);
  mnl_nlmsg_put_extra_header(message, sizeof(ifinfomsg));
  Describe(message, names.second, queues, mtu);
  mnl_attr_nest_end(message, peer);
  mnl_attr_nest_end(message, data);
  mnl_attr_nest_end(message, link);
  return request.Send();
}

// Up, without IPv6's link-local address and without ARP. Where there is no IPv6 there are no addresses of it.
int BringUp(uint32_t ifindex) {
  Request without(RTM_SETLINK, 0, ifindex);
  nlattr* families = mnl_attr_nest_start(without.header(), IFLA_AF_SPEC);
  nlattr* ipv6 = mnl_attr_nest_start(without.header(), AF_INET6);
  mnl_attr_put_u8(without.header(), IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE);
  mnl_attr_nest_end(without.header(), ipv6);
  mnl_attr_nest_end(without.header(), families);
  if (const int error = without.Send(); error != 0 && error != EAFNOSUPPORT && error != EOPNOTSUPP) return error;
  Request up(RTM_SETLINK, 0, ifindex);
  up.info().ifi_flags = up.info().ifi_change = IFF_UP | IFF_NOARP;
  return up.Send();
}

}  // namespace

absl::StatusOr<VethPair> VethPair::Create(const std::pair<std::string, std::string>& names, uint32_t queues,
                                          uint32_t mtu) {
  Remove(names);
  if (const int error = CreatePair(names, queues, mtu); error != 0) {
    return StatusOfErrno(error, "create the veth devices ", names.first, " and ", names.second,
                         error == EPERM ? " (needs CAP_NET_ADMIN)" : "");
  }
  VethPair pair({if_nametoindex(names.first.c_str()), if_nametoindex(names.second.c_str())}, mtu);
  for (const uint32_t ifindex : {pair.first(), pair.second()}) {
    if (const int error = BringUp(ifindex); error != 0) {
      return StatusOfErrno(error, "bring up ", names.first, " and ", names.second);
    }
  }
  return pair;
}

// With one goes the other.
VethPair::~VethPair() {
  if (ifindexes_.first != 0) RemoveDevice(ifindexes_.first);
}

void VethPair::Remove(const std::pair<std::string, std::string>& names) {
  for (const std::string& name : {names.first, names.second}) {
    if (const uint32_t ifindex = if_nametoindex(name.c_str()); ifindex != 0) RemoveDevice(ifindex);
  }
}

bool VethPair::IsUp() const {
  const Fd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  for (const uint32_t ifindex : {first(), second()}) {
    ifreq flags{}, mtu{};
    if (if_indextoname(ifindex, flags.ifr_name) == nullptr || if_indextoname(ifindex, mtu.ifr_name) == nullptr ||
        ioctl(socket.get(), SIOCGIFFLAGS, &flags) != 0 || ioctl(socket.get(), SIOCGIFMTU, &mtu) != 0) {
      return false;
    }
    if ((flags.ifr_flags & IFF_UP) == 0 || static_cast<uint32_t>(mtu.ifr_mtu) != mtu_) return false;
  }
  return true;
}

}  // namespace headgate
