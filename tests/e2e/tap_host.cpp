// SPDX-License-Identifier: Apache-2.0
#include "tests/e2e/tap_host.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <sys/socket.h>

#include <cstring>
#include <random>
#include <stdexcept>
#include <thread>

#include "agent/base/fd.h"
#include "tests/harness/packet.h"

namespace headgate::testing {
namespace {

constexpr uint16_t kPort = 9000;
constexpr timeval kTimeout{.tv_sec = 10, .tv_usec = 0};

sockaddr_in Address(const std::string& address, uint16_t port) {
  sockaddr_in result{};
  result.sin_family = AF_INET;
  result.sin_port = htons(port);
  inet_pton(AF_INET, address.c_str(), &result.sin_addr);
  return result;
}
const sockaddr* Generic(const sockaddr_in& address) { return reinterpret_cast<const sockaddr*>(&address); }

Fd Open(const std::string& ns, int type, int protocol = 0) {
  const InNetns in(ns);
  Fd fd(socket(AF_INET, type | SOCK_CLOEXEC, protocol));
  if (!fd) throw std::runtime_error("socket");
  for (const int option : {SO_RCVTIMEO, SO_SNDTIMEO}) {
    setsockopt(fd.get(), SOL_SOCKET, option, &kTimeout, sizeof(kTimeout));
  }
  const int on = 1;
  setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  return fd;
}

Fd Serve(const Conversation& hosts, int type) {
  Fd fd = Open(hosts.server, type);
  const sockaddr_in address = Address(hosts.address, kPort);
  if (bind(fd.get(), Generic(address), sizeof(address)) != 0) throw std::runtime_error("bind " + hosts.address);
  return fd;
}

Bytes Random(size_t bytes) {
  std::mt19937 random(static_cast<unsigned>(bytes));
  Bytes data(bytes);
  for (uint8_t& byte : data) byte = static_cast<uint8_t>(random());
  return data;
}

bool SendAll(int fd, const Bytes& data) {
  for (size_t sent = 0; sent < data.size();) {
    const ssize_t more = send(fd, &data[sent], data.size() - sent, MSG_NOSIGNAL);
    if (more <= 0) return false;
    sent += static_cast<size_t>(more);
  }
  return shutdown(fd, SHUT_WR) == 0;
}

Bytes ReceiveAll(int fd) {
  Bytes data, part(1 << 16);
  for (ssize_t size; (size = recv(fd, part.data(), part.size(), 0)) > 0;) {
    data.insert(data.end(), part.begin(), part.begin() + size);
  }
  return data;
}

}  // namespace

void SendDatagram(const Conversation& hosts) {
  const Fd fd = Open(hosts.client, SOCK_DGRAM);
  const sockaddr_in address = Address(hosts.address, 9);  // discard
  const Bytes data(100, 0x33);
  if (sendto(fd.get(), data.data(), data.size(), 0, Generic(address), sizeof(address)) < 0) {
    throw std::runtime_error("send to " + hosts.address);
  }
}

bool Ping(const Conversation& hosts) {
  const Fd fd = Open(hosts.client, SOCK_RAW, IPPROTO_ICMP);
  const sockaddr_in address = Address(hosts.address, 0);
  if (connect(fd.get(), Generic(address), sizeof(address)) != 0) return false;
  icmphdr header{};
  header.type = ICMP_ECHO;
  header.un.echo.id = htons(0x4847);
  Bytes request = Random(sizeof(header) + 56);
  std::memcpy(request.data(), &header, sizeof(header));
  header.checksum = htons(InternetChecksum(request.data(), request.size()));
  std::memcpy(request.data(), &header, sizeof(header));
  if (send(fd.get(), request.data(), request.size(), 0) < 0) return false;
  Bytes answer(2048);
  for (ssize_t size; (size = recv(fd.get(), answer.data(), answer.size(), 0)) > 0;) {
    const size_t skip = size_t{answer[0] & 0xfU} * 4;
    if (answer[skip] != ICMP_ECHOREPLY) continue;
    return Bytes(answer.begin() + static_cast<ptrdiff_t>(skip + sizeof(header)), answer.begin() + size) ==
           Bytes(request.begin() + sizeof(header), request.end());
  }
  return false;
}

bool UdpEcho(const Conversation& hosts, size_t bytes, bool whole) {
  const Fd server = Serve(hosts, SOCK_DGRAM), client = Open(hosts.client, SOCK_DGRAM);
  const int discover = whole ? IP_PMTUDISC_DO : IP_PMTUDISC_DONT;
  for (const Fd* fd : {&server, &client}) {
    setsockopt(fd->get(), IPPROTO_IP, IP_MTU_DISCOVER, &discover, sizeof(discover));
  }
  const sockaddr_in address = Address(hosts.address, kPort);
  const Bytes request = Random(bytes);
  if (connect(client.get(), Generic(address), sizeof(address)) != 0) return false;
  if (send(client.get(), request.data(), request.size(), 0) < 0) return false;
  Bytes got(bytes + 1);
  sockaddr_in from{};
  socklen_t length = sizeof(from);
  ssize_t size = recvfrom(server.get(), got.data(), got.size(), 0, reinterpret_cast<sockaddr*>(&from), &length);
  if (size < 0 || Bytes(got.begin(), got.begin() + size) != request) return false;
  if (sendto(server.get(), request.data(), request.size(), 0, Generic(from), length) < 0) return false;
  size = recv(client.get(), got.data(), got.size(), 0);
  return size >= 0 && Bytes(got.begin(), got.begin() + size) == request;
}

bool TcpEcho(const Conversation& hosts, size_t bytes) {
  const Fd server = Serve(hosts, SOCK_STREAM), client = Open(hosts.client, SOCK_STREAM);
  if (listen(server.get(), 1) != 0) return false;
  std::thread serve([&server] {
    const Fd connection(accept(server.get(), nullptr, nullptr));
    if (connection) SendAll(connection.get(), ReceiveAll(connection.get()));
  });
  const sockaddr_in address = Address(hosts.address, kPort);
  const Bytes data = Random(bytes);
  const bool sent = connect(client.get(), Generic(address), sizeof(address)) == 0 && SendAll(client.get(), data);
  const Bytes back = sent ? ReceiveAll(client.get()) : Bytes();
  serve.join();
  return sent && back == data;
}

}  // namespace headgate::testing
