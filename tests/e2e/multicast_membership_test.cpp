// SPDX-License-Identifier: Apache-2.0
//
// The gateway's host is a member of the groups that its routes take in: what switches and routers upstream go by.
#include <absl/strings/match.h>
#include <absl/strings/str_split.h>
#include <absl/strings/strip.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <map>
#include <mutex>
#include <thread>

#include "tests/e2e/multicast_fixture.h"

namespace headgate::testing {
namespace {

class MulticastMembership : public MulticastTest {
 protected:
  MulticastMembership() : MulticastTest("mcastmember", 1, true) {}

  void SetUp() override {
    MulticastTest::SetUp();
    if (!IsSkipped()) lab().In("gw", "sysctl -qw net.ipv6.conf.g0.disable_ipv6=0");
  }
  bool IsMember(const std::string& group) {
    return absl::StrContains(lab().Ip("gw", "maddr show dev g0"), group + "\n") ||
           absl::StrContains(lab().Ip("gw", "maddr show dev g0"), group + " ");
  }
  // Reports of membership (RFC 3376, section 4.2) on the wire that the senders are on name all of these: groups,
  // and senders. /proc/net/mcfilter lists those of a device's newest group alone.
  bool Reports(std::vector<Bytes> addresses) {
    client().Receive([&addresses](const Bytes& frame) {
      if (!IsIp(frame, IPPROTO_IGMP) || frame.size() <= 38 || frame[38] != 0x22) return false;
      std::erase_if(addresses, [&frame](const Bytes& address) {
        return std::search(frame.begin() + 38, frame.end(), address.begin(), address.end()) != frame.end();
      });
      return addresses.empty();
    });
    return addresses.empty();
  }
  // Whether a report says on the wire that the host leaves a group (RFC 3376, section 4.2.12).
  bool LeavesWithin(std::chrono::milliseconds time) {
    constexpr uint8_t kToInclude = 3, kBlock = 6;
    const auto leaves = [](const Bytes& frame) {
      return IsIp(frame, IPPROTO_IGMP) && frame.size() >= 54 && frame[38] == 0x22 &&
             (frame[46] == kToInclude || frame[46] == kBlock);
    };
    return client().Receive(leaves, time).has_value();
  }
};

TEST_F(MulticastMembership, IsAskedForAndGivenUp) {
  Apply(R"(
  - {name: feed, input: {interfaces: [in], group: 239.1.1.1}, legs: [{interface: out1}]}
  - {name: six, input: {interfaces: [in], group: "ff3e::1234"}, legs: [{interface: out1}]}
  - name: source
    input: {interfaces: [in], group: 232.1.1.1, sources: {include: [172.16.9.9, 172.16.9.10]}}
    legs: [{interface: out1}]
  - {name: many, input: {interfaces: [in], group: 239.5.0.0/16}, legs: [{interface: out1}]}
)");
  NowAndAfterRestart([&] {
    // Of the senders named, where there are any.
    EXPECT_TRUE(Reports({{239, 1, 1, 1}, {232, 1, 1, 1}, {172, 16, 9, 9}, {172, 16, 9, 10}}));
    EXPECT_TRUE(WaitFor([&] { return IsMember("239.1.1.1") && IsMember("232.1.1.1") && IsMember("ff3e::1234"); }));
    EXPECT_FALSE(IsMember("239.5.0.0"));
  });
  // The kernel says it again when the link comes back; the device is made anew, and so is the membership.
  lab().Ip("gw", "link set g0 down");
  lab().Ip("gw", "link set g0 up");
  EXPECT_TRUE(Reports({{239, 1, 1, 1}}));
  api().PatchYaml("delete_multicast_routes: [feed, source]");
  EXPECT_TRUE(WaitFor([&] { return !IsMember("239.1.1.1") && !IsMember("232.1.1.1"); }));
  EXPECT_TRUE(IsMember("ff3e::1234"));
}

TEST_F(MulticastMembership, FollowsTheDevice) {
  Apply("  - {name: feed, input: {interfaces: [in], group: 239.1.1.1}, legs: [{interface: out1}]}\n");
  ASSERT_TRUE(WaitFor([&] { return IsMember("239.1.1.1"); }));
  lab().Ip("gw", "link del g0");
  lab().Link("client", "c0", "gw", "g0");
  EXPECT_TRUE(WaitFor([&] { return IsMember("239.1.1.1"); }));
}

// More than one socket may hold (net.ipv4.igmp_max_memberships, igmp_max_msf).
TEST_F(MulticastMembership, HasNoLimitOfItsOwn) {
  std::string routes;
  for (int i = 1; i <= 100; ++i) {
    absl::StrAppend(&routes, "  - {name: feed", i, ", input: {interfaces: [in], group: 239.1.1.", i,
                    "}, legs: [{interface: out1}]}\n");
  }
  absl::StrAppend(&routes, "  - {name: sources, input: {interfaces: [in], group: 232.1.1.1, sources: {include: [");
  for (int i = 1; i <= 60; ++i) absl::StrAppend(&routes, "172.16.9.", i, ", ");
  Apply(routes + "]}}, legs: [{interface: out1}]}\n");
  EXPECT_TRUE(WaitFor([&] {
    for (int i = 1; i <= 100; ++i) {
      if (!IsMember(absl::StrCat("239.1.1.", i))) return false;
    }
    return IsMember("232.1.1.1");
  }));
  EXPECT_TRUE(Reports({{172, 16, 9, 1}, {172, 16, 9, 60}}));
  EXPECT_FALSE(api().Warns("may not come"));
}

constexpr int kFirstFd = 3;  // SD_LISTEN_FDS_START

// Keeps what services store (sd_notify(3), FDSTORE), and gives it to the next one as systemd does.
class ServiceManager {
 public:
  explicit ServiceManager(const std::string& directory)
      : path_(directory + "/notify"),
        script_(directory + "/start"),
        socket_(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
    path_.copy(address.sun_path, sizeof(address.sun_path) - 1);
    if (bind(socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
      throw std::runtime_error("bind " + path_);
    }
    thread_ = std::jthread([this](const std::stop_token& stop) {
      while (!stop.stop_requested()) Receive();
    });
  }
  // A command by which the service is started with all that is stored.
  std::string Prefix() {
    const std::lock_guard lock(mutex_);
    std::ofstream script(script_);
    script << "#!/usr/bin/env python3\nimport fcntl, os, sys\n";
    std::string names;
    int number = kFirstFd;
    // First out of the way of the numbers that they are to have, under which alone the service is to have them.
    script << "stored = [";
    for (const auto& [name, fds] : stored_) {
      for (const Fd& fd : fds) {
        fcntl(fd.get(), F_SETFD, 0);
        script << fd.get() << ", ";
        absl::StrAppend(&names, names.empty() ? "" : ":", name);
        ++number;
      }
    }
    script << "]\nfds = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 100) for fd in stored]\n"
           << "for fd in stored: os.set_inheritable(fd, False)\n"
           << "for to, fd in enumerate(fds, " << kFirstFd << "): os.dup2(fd, to)\n"
           << "os.environ.update(NOTIFY_SOCKET='" << path_ << "', LISTEN_PID=str(os.getpid()), LISTEN_FDS='"
           << number - kFirstFd << "', LISTEN_FDNAMES='" << names << "')\n"
           << "os.execvp(sys.argv[1], sys.argv[1:])\n";
    script.close();
    std::filesystem::permissions(script_, std::filesystem::perms::owner_all);
    return script_;
  }
  std::vector<std::string> names() {
    const std::lock_guard lock(mutex_);
    std::vector<std::string> names;
    for (const auto& [name, fds] : stored_) names.push_back(name);
    return names;
  }

 private:
  void Receive() {
    pollfd ready{.fd = socket_.get(), .events = POLLIN, .revents = 0};
    if (poll(&ready, 1, 100) <= 0) return;
    char text[4096];
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
    iovec data{text, sizeof(text)};
    msghdr message{};
    message.msg_iov = &data;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    const ssize_t length = recvmsg(socket_.get(), &message, MSG_CMSG_CLOEXEC);
    if (length < 0) return;
    std::string name, verb;
    for (absl::string_view line : absl::StrSplit(absl::string_view(text, static_cast<size_t>(length)), '\n')) {
      if (absl::ConsumePrefix(&line, "FDNAME=")) name = std::string(line);
      if (absl::StartsWith(line, "FDSTORE")) verb = std::string(line);
    }
    const cmsghdr* header = CMSG_FIRSTHDR(&message);
    const std::lock_guard lock(mutex_);
    if (verb == "FDSTORE=1" && header != nullptr && header->cmsg_type == SCM_RIGHTS) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(header), sizeof(fd));
      stored_[name].emplace_back(fd);
    } else if (verb == "FDSTOREREMOVE=1") {
      stored_.erase(name);
    }
  }

  const std::string path_, script_;
  const Fd socket_;
  std::mutex mutex_;
  std::map<std::string, std::vector<Fd>> stored_;
  std::jthread thread_;
};

// A switch that forgot the group would stop the copies that the kernel goes on making.
TEST_F(MulticastMembership, OutlivesTheAgent) {
  ServiceManager manager(lab().directory());
  const AgentOptions options{
      .arguments = {"--max-rules", "1024", "--max-prefixes", "1024", "--max-sources", "64"}};
  const auto start = [&] {
    AgentOptions started = options;
    started.prefix = manager.Prefix();
    agent().Start(started);
  };
  agent().Stop();
  start();
  std::string routes;
  for (int i = 1; i <= 30; ++i) {
    absl::StrAppend(&routes, "  - {name: feed", i, ", input: {interfaces: [in], group: 239.1.1.", i,
                    "}, legs: [{interface: out1}]}\n");
  }
  Apply(routes + "  - {name: six, input: {interfaces: [in], group: \"ff3e::1234\"}, legs: [{interface: out1}]}\n");
  const auto joined = [&] { return IsMember("239.1.1.1") && IsMember("239.1.1.30") && IsMember("ff3e::1234"); };
  ASSERT_TRUE(WaitFor(joined));
  const std::vector<std::string> first = manager.names();
  ASSERT_EQ(first.size(), 1U);
  for (int round = 0; round < 2; ++round) {
    agent().Kill();
    EXPECT_TRUE(joined());
    EXPECT_FALSE(LeavesWithin(std::chrono::milliseconds(1500)));
    start();
    // Its own are stored; those of the former are let go of.
    ASSERT_TRUE(WaitFor([&] { return manager.names().size() == 1 && manager.names() != first; }));
    EXPECT_FALSE(LeavesWithin(std::chrono::milliseconds(500)));
    EXPECT_TRUE(joined());
  }
  api().PatchYaml("delete_multicast_routes: [feed1, six]");
  EXPECT_TRUE(WaitFor([&] { return !IsMember("239.1.1.1") && !IsMember("ff3e::1234"); }));
  EXPECT_TRUE(LeavesWithin(std::chrono::seconds(3))) << "or the test cannot tell";
}

// What cannot be joined is told, and joined when it can.
TEST_F(MulticastMembership, FailuresAreTold) {
  lab().In("gw", "sysctl -qw net.ipv4.igmp_max_memberships=0");
  Apply("  - {name: feed, input: {interfaces: [in], group: 239.1.1.1}, legs: [{interface: out1}]}\n");
  EXPECT_TRUE(WaitFor([&] { return api().Warns("join group 239.1.1.1"); }));
  lab().In("gw", "sysctl -qw net.ipv4.igmp_max_memberships=20");
  EXPECT_TRUE(WaitFor([&] { return IsMember("239.1.1.1") && !api().Warns("join group 239.1.1.1"); }));
}

}  // namespace
}  // namespace headgate::testing
