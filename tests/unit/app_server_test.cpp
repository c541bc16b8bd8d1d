// SPDX-License-Identifier: Apache-2.0
//
// How processes get targets, and lose them: the library against the server, and greetings that nobody should send.
#include <absl/strings/match.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <thread>

#include "agent/slowpath/app_handler.h"
#include "agent/slowpath/app_server.h"
#include "app/headgate_app.hpp"
#include "tests/harness/memory_output.h"
#include "tests/harness/random.h"
#include "tests/harness/scratch.h"

namespace headgate {
namespace {

using Frame = std::vector<uint8_t>;

// A worker: its handler, and where what it sends goes.
class FakeWorker : private testing::SimpleOutput {
 public:
  explicit FakeWorker(std::shared_ptr<AppMailbox> mailbox) : handler_(*AppHandler::Make(std::move(mailbox))) {}
  Disposition Handle(Frame frame) {
    Segment segment{0, frame.data(), static_cast<uint32_t>(frame.size())};
    Packet packet{.meta = {.port = 3}, .segments = {&segment, 1}, .length = segment.length};
    handler_->Handle({&packet, 1}, *this);
    return packet.disposition;
  }
  // What it has sent by the time that something has come, or none has for a while.
  std::vector<Frame> Sent(int timeout_ms = 3000) {
    sent_.clear();
    pollfd polled{handler_->fd(), POLLIN, 0};
    while (handler_->Originate(*this) == 0 && poll(&polled, 1, timeout_ms) > 0) {
    }
    return sent_;
  }
  void ComeRound() { handler_->Originate(*this); }

 private:
  bool Take(Segment& segment) override {
    segment = {0, frame_, sizeof(frame_)};
    return true;
  }
  bool Transmit(uint32_t, absl::Span<const Segment> segments) override {
    sent_.emplace_back(segments[0].data, segments[0].data + segments[0].length);
    return true;
  }
  void Drop(absl::Span<const Segment>) override {}
  std::unique_ptr<Handler> handler_;
  uint8_t frame_[HGA_MAX_FRAME];
  std::vector<Frame> sent_;
};

class AppServerTest : public ::testing::Test {
 protected:
  AppServerTest() : scratch_("app"), path_(scratch_.path() + "/app.sock") { Start(); }
  void Start() {
    server_ = std::make_unique<AppServer>(path_, [this](uint32_t, bool present) { present_ = present; });
    ASSERT_TRUE(server_->SetTargets({Target()}).ok());
  }
  static AppServer::Target Target() { return {.id = 1, .name = "app", .group = "", .channels = 1}; }
  // The worker comes round, and the process with what is to be done; until it holds.
  template <typename Condition>
  bool Until(const Condition& condition, int seconds = 10) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
    while (!condition()) {
      if (std::chrono::steady_clock::now() > end) return false;
      if (worker_) worker_->ComeRound();
      poll(nullptr, 0, 1);
    }
    return true;
  }
  void Hire() { worker_ = std::make_unique<FakeWorker>(server_->Mailbox(1, 0)); }
  bool AwaitPresent(Application& app) {
    return Until([&] {
      app.Wait(0, std::chrono::milliseconds(0));
      return present_.load();
    });
  }
  Fd Connect() const {
    Fd made(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    sockaddr_un address{.sun_family = AF_UNIX};
    path_.copy(address.sun_path, sizeof(address.sun_path) - 1);
    EXPECT_EQ(connect(made.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    return made;
  }
  // The other end has closed it.
  static bool Closed(const Fd& connection, int timeout_ms) {
    pollfd polled{connection.get(), POLLIN, 0};
    char byte = 0;
    while (poll(&polled, 1, timeout_ms) > 0) {
      if (recv(connection.get(), &byte, 1, 0) <= 0) return true;
    }
    return false;
  }
  int OpenError(const char* target) const {
    hga* app = nullptr;
    const int error = hga_open(&app, path_.c_str(), target, 0);
    hga_close(app);
    return error;
  }

  const testing::Scratch scratch_;
  const std::string path_;
  std::atomic<bool> present_ = false;
  std::unique_ptr<AppServer> server_;
  std::unique_ptr<FakeWorker> worker_;
};

TEST_F(AppServerTest, PacketsGoToAProcessAndBack) {
  Hire();
  EXPECT_EQ(worker_->Handle(Frame(60)), Disposition::kDropped) << "nobody is there";
  Application app("app", path_);
  EXPECT_EQ(app.channels(), 1U);
  ASSERT_TRUE(AwaitPresent(app));
  for (const uint32_t channel : {0U, HGA_ANY}) {
    Frame frame(9000, static_cast<uint8_t>(channel + 1));
    EXPECT_EQ(worker_->Handle(frame), Disposition::kConsumed);
    ASSERT_TRUE(app.Wait(channel, std::chrono::seconds(3)));
    hga_packet packets[4];
    ASSERT_EQ(app.Receive(channel, packets, 4), 1U);
    EXPECT_EQ(Frame(packets[0].data, packets[0].data + packets[0].length), frame);
    EXPECT_EQ(packets[0].port, 3);
    EXPECT_FALSE(app.Wait(channel, std::chrono::milliseconds(0)));
    // The worker sleeps: it is woken.
    EXPECT_TRUE(worker_->Sent(0).empty());
    EXPECT_EQ(app.Send(0, 3, frame.data(), 1000), 0);
    std::thread sender([&] { app.Flush(0); });
    EXPECT_EQ(worker_->Sent(), std::vector<Frame>{Frame(1000, frame[0])});
    sender.join();
  }
  EXPECT_EQ(app.Send(0, 0, "", 60), -EINVAL);
  EXPECT_EQ(app.Send(0, 3, "", 13), -EMSGSIZE);
}

TEST_F(AppServerTest, AWaitingProcessIsWoken) {
  Hire();
  Application app("app", path_);
  ASSERT_TRUE(AwaitPresent(app));
  // By the bell alone: Wait looks every now and then.
  for (const uint32_t channel : {0U, HGA_ANY}) {
    for (int i = 0; i < 100; ++i) {
      hga_packet packet;
      app.Receive(channel, &packet, 1);
      EXPECT_FALSE(app.Wait(channel, std::chrono::milliseconds(0)));
      std::thread waiting([&] {
        pollfd polled{app.fd(channel), POLLIN, 0};
        EXPECT_EQ(poll(&polled, 1, 5000), 1);
      });
      EXPECT_EQ(worker_->Handle(Frame(60)), Disposition::kConsumed);
      waiting.join();
      ASSERT_EQ(app.Receive(channel, &packet, 1), 1U);
      ASSERT_FALSE(HasFailure());
    }
  }
}

TEST_F(AppServerTest, AFullChannelIsSaidAndLosesNothing) {
  Hire();
  Application app("app", path_);
  ASSERT_TRUE(AwaitPresent(app));
  uint8_t number = 0;
  for (int round = 0; round < 5; ++round) {
    std::vector<Frame> expected;
    int error = 0;
    while (error == 0 && expected.size() < 10'000) {
      const Frame frame(8000 + number, number);
      error = app.Send(0, 3, frame.data(), static_cast<uint32_t>(frame.size()));
      if (error == 0) expected.push_back(frame), ++number;
    }
    EXPECT_EQ(error, -ENOBUFS);
    EXPECT_GT(expected.size(), 200U);
    std::vector<Frame> sent;
    while (sent.size() < expected.size()) {
      const std::vector<Frame> some = worker_->Sent();
      ASSERT_FALSE(some.empty());
      sent.insert(sent.end(), some.begin(), some.end());
    }
    EXPECT_TRUE(sent == expected);
  }
}

TEST_F(AppServerTest, ATargetHasOneProcess) {
  EXPECT_EQ(OpenError("other"), -ESRCH);
  {
    const Application app("app", path_);
    EXPECT_EQ(OpenError("app"), -EBUSY);
  }
  EXPECT_TRUE(Until([&] { return OpenError("app") == 0; }));
}

TEST_F(AppServerTest, AProcessThatDoesNotComeRoundIsAbsent) {
  Hire();
  Application app("app", path_);
  EXPECT_FALSE(present_) << "before it has come round once";
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(AwaitPresent(app));
    EXPECT_TRUE(Until([&] { return !present_; }));
  }
  ASSERT_TRUE(AwaitPresent(app));
  // One that waits comes round.
  std::thread waiting([&] { app.Wait(0, std::chrono::milliseconds(2500)); });
  EXPECT_FALSE(Until([&] { return !present_; }, 2));
  waiting.join();
}

TEST_F(AppServerTest, IsPresentOnceWorkersKnow) {
  Application app("app", path_);
  const auto present = [&] {
    app.Wait(0, std::chrono::milliseconds(0));
    return present_.load();
  };
  EXPECT_FALSE(Until(present, 1)) << "no worker has looked";
  Hire();
  EXPECT_TRUE(Until(present));
}

TEST_F(AppServerTest, TheLibraryConnectsAgain) {
  Application app("app", path_, HGA_RETRY);
  for (int i = 0; i < 2; ++i) {
    Hire();
    ASSERT_TRUE(AwaitPresent(app));
    worker_.reset();
    server_.reset();
    EXPECT_FALSE(present_);
    app.Wait(0, std::chrono::milliseconds(300));
    EXPECT_EQ(app.channels(), 0U);
    EXPECT_NE(app.status().value(), 0);
    const Frame frame(60);
    EXPECT_EQ(app.Send(0, 3, frame.data(), 60), -ENOTCONN);
    Start();
  }
  EXPECT_TRUE(Until([&] {
    app.Wait(0, std::chrono::milliseconds(0));
    return app.channels() == 1;
  }));
  // With as many channels as there are workers by then.
  AppServer::Target more = Target();
  more.channels = 3;
  EXPECT_TRUE(server_->SetTargets({more}).ok());
  EXPECT_TRUE(Until([&] {
    app.Wait(HGA_ANY, std::chrono::milliseconds(0));
    return app.channels() == 3;
  }));
}

TEST_F(AppServerTest, WhatIsNoGreetingEndsTheConnection) {
  std::mt19937_64 random = testing::MakeRandom();
  for (int i = 0; i < 300; ++i) {
    const Fd connection = Connect();
    std::vector<char> noise(random() % 200);
    for (char& byte : noise) byte = static_cast<char>(random());
    if (i % 2 == 0 && noise.size() >= 8) std::memcpy(noise.data(), "hga1\1\0\0\0", 8);
    static_cast<void>(send(connection.get(), noise.data(), noise.size(), MSG_NOSIGNAL));
    EXPECT_TRUE(Closed(connection, 3000));
  }
  hga_hello hello{.magic = HGA_MAGIC, .version = HGA_VERSION + 1, .target = "app"};
  const Fd newer = Connect();
  ASSERT_EQ(send(newer.get(), &hello, sizeof(hello), 0), static_cast<ssize_t>(sizeof(hello)));
  hga_welcome welcome{};
  ASSERT_EQ(recv(newer.get(), &welcome, sizeof(welcome), 0), static_cast<ssize_t>(sizeof(welcome)));
  EXPECT_EQ(welcome.error, EPROTO);
  EXPECT_TRUE(absl::StrContains(welcome.message, "version")) << welcome.message;
  // Those that never ask do not keep others out.
  std::vector<Fd> silent;
  for (int i = 0; i < 40; ++i) silent.push_back(Connect());
  EXPECT_TRUE(Until([&] { return OpenError("app") == 0; }));
  for (const Fd& connection : silent) EXPECT_TRUE(Closed(connection, 3000));
}

// A process that greets and then does what it likes with what it got.
TEST_F(AppServerTest, AHostileProcessEndsItsOwnSessionOnly) {
  Hire();
  const Fd connection = Connect();
  const hga_hello hello{.magic = HGA_MAGIC, .version = HGA_VERSION, .target = "app"};
  ASSERT_EQ(send(connection.get(), &hello, sizeof(hello), 0), static_cast<ssize_t>(sizeof(hello)));
  hga_welcome welcome{};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * 2)];
  iovec bytes{&welcome, sizeof(welcome)};
  msghdr message{.msg_iov = &bytes, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
  ASSERT_EQ(recvmsg(connection.get(), &message, MSG_CMSG_CLOEXEC), static_cast<ssize_t>(sizeof(welcome)));
  int files[2];
  std::memcpy(files, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(files));
  const Fd memory(files[0]), bell(files[1]);
  EXPECT_NE(ftruncate(memory.get(), 0), 0) << "the worker would die of SIGBUS";
  EXPECT_NE(fcntl(memory.get(), F_ADD_SEALS, F_SEAL_FUTURE_WRITE), 0);
  void* mapped = mmap(nullptr, welcome.memory_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, memory.get(), 0);
  ASSERT_NE(mapped, MAP_FAILED);
  auto* shared = reinterpret_cast<hga_channel_memory*>(static_cast<char*>(mapped) + HGA_PAGE);
  ASSERT_TRUE(Until([&] {
    ++shared->beat;
    return present_.load();
  }));
  // Bells that are rung for nothing, or full, or blocking, stop nobody.
  fcntl(bell.get(), F_SETFL, 0);
  const char byte = 0;
  while (send(bell.get(), &byte, 1, MSG_DONTWAIT) == 1) {
  }
  for (int i = 0; i < 100; ++i) {
    std::atomic_ref(shared->in.sleeping).store(1);
    EXPECT_EQ(worker_->Handle(Frame(60)), Disposition::kConsumed);
  }
  EXPECT_TRUE(worker_->Sent(0).empty());
  std::atomic_ref(shared->out.head).store(0xdeadbeefU);
  EXPECT_TRUE(Until([&] { return !present_; }));
  EXPECT_TRUE(Closed(connection, 3000));
  munmap(mapped, welcome.memory_bytes);

  Application app("app", path_);
  EXPECT_TRUE(AwaitPresent(app));
}

TEST_F(AppServerTest, ALivingServersSocketIsNotTaken) {
  AppServer second(path_, [](uint32_t, bool) {});
  EXPECT_EQ(second.SetTargets({Target()}).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(OpenError("app"), 0);
  // Nor is what is no socket.
  const std::string file = scratch_.path() + "/file";
  std::ofstream(file) << "precious";
  AppServer third(file, [](uint32_t, bool) {});
  EXPECT_FALSE(third.SetTargets({Target()}).ok());
  EXPECT_TRUE(std::ifstream(file).good());
}

TEST(AppAccessTest, RootAndTheGroupMay) {
  const Peer root{.uid = 0}, user{.uid = 1000, .groups = {5000, 4321}};
  EXPECT_TRUE(CheckAccess(root, "").ok());
  EXPECT_TRUE(CheckAccess(root, "4322").ok());
  EXPECT_TRUE(CheckAccess(user, "4321").ok());
  for (const char* group : {"", "4322", "no-such-group", "-1", "99999999999"}) {
    EXPECT_EQ(CheckAccess(user, group).code(), absl::StatusCode::kPermissionDenied) << group;
  }
}

}  // namespace
}  // namespace headgate
