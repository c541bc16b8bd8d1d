// SPDX-License-Identifier: Apache-2.0
#include "agent/slowpath/xdp_features.h"

#include <libmnl/libmnl.h>
#include <linux/genetlink.h>

#include <array>
#include <memory>
#include <optional>

namespace headgate {
namespace {

// Of linux/netdev.h, which Debian 12's headers are too old for.
constexpr char kFamily[] = "netdev";
constexpr uint8_t kDeviceGet = 1;     // NETDEV_CMD_DEV_GET
constexpr uint16_t kIfindex = 1;      // NETDEV_A_DEV_IFINDEX
constexpr uint16_t kXdpFeatures = 3;  // NETDEV_A_DEV_XDP_FEATURES
constexpr uint64_t kNdoXmit = 1 << 2, kXskZeroCopy = 1 << 3;

struct Wanted {
  uint16_t attribute;
  std::optional<uint64_t> value;  // of 2 or 8 bytes
};

int ReadAttribute(const nlattr* attribute, void* data) {
  auto* wanted = static_cast<Wanted*>(data);
  if (mnl_attr_get_type(attribute) != wanted->attribute) return MNL_CB_OK;
  wanted->value = mnl_attr_get_payload_len(attribute) == sizeof(uint16_t) ? mnl_attr_get_u16(attribute)
                                                                          : mnl_attr_get_u64(attribute);
  return MNL_CB_STOP;
}

int ReadAnswer(const nlmsghdr* message, void* data) {
  return mnl_attr_parse(message, sizeof(genlmsghdr), ReadAttribute, data);
}

class GenericNetlink {
 public:
  GenericNetlink() : socket_(mnl_socket_open2(NETLINK_GENERIC, SOCK_CLOEXEC), mnl_socket_close) {
    if (socket_ && mnl_socket_bind(socket_.get(), 0, MNL_SOCKET_AUTOPID) < 0) socket_.reset();
  }
  // `put`: adds the request's attributes. Nothing: the kernel knows no such thing.
  template <typename Put>
  std::optional<uint64_t> Ask(uint16_t family, uint8_t command, uint16_t attribute, Put&& put) {
    if (!socket_) return std::nullopt;
    nlmsghdr* message = mnl_nlmsg_put_header(buffer_.data());
    message->nlmsg_type = family;
    message->nlmsg_flags = NLM_F_REQUEST;
    auto* generic = static_cast<genlmsghdr*>(mnl_nlmsg_put_extra_header(message, sizeof(genlmsghdr)));
    generic->cmd = command;
    generic->version = 1;
    put(message);
    Wanted wanted{attribute, std::nullopt};
    if (mnl_socket_sendto(socket_.get(), message, message->nlmsg_len) < 0) return std::nullopt;
    const ssize_t length = mnl_socket_recvfrom(socket_.get(), buffer_.data(), buffer_.size());
    if (length < 0) return std::nullopt;
    mnl_cb_run(buffer_.data(), static_cast<size_t>(length), 0, 0, ReadAnswer, &wanted);
    return wanted.value;
  }

 private:
  static constexpr size_t kSize = 8192;
  std::unique_ptr<mnl_socket, decltype(&mnl_socket_close)> socket_;
  alignas(nlmsghdr) std::array<char, kSize> buffer_{};
};

}  // namespace

XdpFeatures ReadXdpFeatures(uint32_t ifindex) {
  GenericNetlink kernel;
  const std::optional<uint64_t> family =
      kernel.Ask(GENL_ID_CTRL, CTRL_CMD_GETFAMILY, CTRL_ATTR_FAMILY_ID,
                 [](nlmsghdr* message) { mnl_attr_put_strz(message, CTRL_ATTR_FAMILY_NAME, kFamily); });
  if (!family) return {};
  const std::optional<uint64_t> features =
      kernel.Ask(static_cast<uint16_t>(*family), kDeviceGet, kXdpFeatures,
                 [&](nlmsghdr* message) { mnl_attr_put_u32(message, kIfindex, ifindex); });
  if (!features) return {};
  return {.takes_redirects = (*features & kNdoXmit) != 0, .zero_copy = (*features & kXskZeroCopy) != 0};
}

}  // namespace headgate
