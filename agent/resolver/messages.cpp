// SPDX-License-Identifier: Apache-2.0
#include "agent/resolver/messages.h"

#include <arpa/inet.h>
#include <libmnl/libmnl.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <net/if_arp.h>

#include <algorithm>
#include <cstring>

namespace headgate {
namespace {

size_t AddressBytes(Family family) { return static_cast<size_t>(AddressBits(family)) / 8; }

std::optional<Family> FamilyOf(int address_family) {
  if (address_family == AF_INET) return Family::kIpv4;
  if (address_family == AF_INET6) return Family::kIpv6;
  return std::nullopt;
}

std::optional<IpAddress> AddressOf(std::optional<Family> family, const void* bytes, size_t size) {
  if (!family || size != AddressBytes(*family)) return std::nullopt;
  uint32_t words[4] = {};
  std::memcpy(words, bytes, size);
  IpAddress address{.family = *family};
  std::transform(words, words + size / sizeof(uint32_t), address.words.begin(), ntohl);
  return address;
}

std::optional<IpAddress> ReadAddress(Family family, const nlattr* attribute) {
  return AddressOf(family, mnl_attr_get_payload(attribute), mnl_attr_get_payload_len(attribute));
}

// A next hop of a family of its own.
std::optional<IpAddress> ReadVia(const nlattr* attribute) {
  const size_t size = mnl_attr_get_payload_len(attribute);
  if (size < sizeof(rtvia)) return std::nullopt;
  const auto* via = static_cast<const rtvia*>(mnl_attr_get_payload(attribute));
  return AddressOf(FamilyOf(via->rtvia_family), via->rtvia_addr, size - sizeof(rtvia));
}

int ReadNeighbourAttribute(const nlattr* attribute, void* data) {
  auto& found = *static_cast<NeighbourMessage*>(data);
  switch (mnl_attr_get_type(attribute)) {
    case NDA_DST:
      if (const auto address = ReadAddress(found.neighbour.address.family, attribute)) {
        found.neighbour.address = *address;
      }
      break;
    case NDA_LLADDR:
      if (mnl_attr_get_payload_len(attribute) == sizeof(MacAddress)) {
        found.mac.emplace();
        std::memcpy(found.mac->data(), mnl_attr_get_payload(attribute), sizeof(MacAddress));
      }
      break;
    case NDA_FLAGS_EXT:
      if ((mnl_attr_get_u32(attribute) & NTF_EXT_MANAGED) != 0) found.others = true;
      break;
    default:
      break;
  }
  return MNL_CB_OK;
}

int ReadRouteAttribute(const nlattr* attribute, void* data) {
  auto& found = *static_cast<RouteMessage*>(data);
  const Family family = found.destination.address.family;
  switch (mnl_attr_get_type(attribute)) {
    case RTA_DST:
      if (const auto address = ReadAddress(family, attribute)) found.destination.address = *address;
      break;
    case RTA_OIF:
      found.ifindex = mnl_attr_get_u32(attribute);
      break;
    case RTA_GATEWAY:
      found.gateway = ReadAddress(family, attribute);
      break;
    case RTA_VIA:
      found.gateway = ReadVia(attribute);
      break;
    case RTA_ENCAP_TYPE:
      found.encapsulates = mnl_attr_get_u16(attribute) != 0;
      break;
    default:
      break;
  }
  return MNL_CB_OK;
}

int ReadLinkAttribute(const nlattr* attribute, void* data) {
  if (mnl_attr_get_type(attribute) == IFLA_IFNAME) {
    static_cast<LinkMessage*>(data)->name = mnl_attr_get_str(attribute);
  }
  return MNL_CB_OK;
}

}  // namespace

std::optional<NeighbourMessage> ReadNeighbour(const nlmsghdr* message) {
  const auto* info = static_cast<const ndmsg*>(mnl_nlmsg_get_payload(message));
  const std::optional<Family> family = FamilyOf(info->ndm_family);
  if (!family) return std::nullopt;
  NeighbourMessage found;
  found.neighbour = {.ifindex = static_cast<uint32_t>(info->ndm_ifindex), .address = {.family = *family}};
  found.state = info->ndm_state;
  found.others = (info->ndm_flags & NTF_EXT_LEARNED) != 0;
  mnl_attr_parse(message, sizeof(*info), ReadNeighbourAttribute, &found);
  return found;
}

std::optional<RouteMessage> ReadRoute(const nlmsghdr* message) {
  const auto* info = static_cast<const rtmsg*>(mnl_nlmsg_get_payload(message));
  const std::optional<Family> family = FamilyOf(info->rtm_family);
  if (!family) return std::nullopt;
  RouteMessage found{.type = info->rtm_type};
  found.destination = {IpAddress{.family = *family}, info->rtm_dst_len};
  mnl_attr_parse(message, sizeof(*info), ReadRouteAttribute, &found);
  return found;
}

LinkMessage ReadLink(const nlmsghdr* message) {
  const auto* info = static_cast<const ifinfomsg*>(mnl_nlmsg_get_payload(message));
  LinkMessage found;
  found.ethernet = info->ifi_type == ARPHRD_ETHER;
  found.resolves = (info->ifi_flags & (IFF_NOARP | IFF_POINTOPOINT)) == 0;
  found.up = (info->ifi_flags & IFF_UP) != 0 && (info->ifi_flags & IFF_RUNNING) != 0;
  mnl_attr_parse(message, sizeof(*info), ReadLinkAttribute, &found);
  return found;
}

uint8_t AddressFamily(Family family) { return family == Family::kIpv4 ? AF_INET : AF_INET6; }

void PutAddress(nlmsghdr* message, uint16_t attribute, const IpAddress& address) {
  uint32_t words[4];
  std::transform(address.words.begin(), address.words.end(), words, htonl);
  mnl_attr_put(message, attribute, AddressBytes(address.family), words);
}

}  // namespace headgate
