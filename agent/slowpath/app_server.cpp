// SPDX-License-Identifier: Apache-2.0
#include "agent/slowpath/app_server.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>

#include "agent/base/log.h"
#include "agent/base/status.h"

namespace headgate {
namespace {

// How often it is looked whether processes come round; and while one is about to be present.
constexpr int kLookMs = 100, kSoonMs = 5;
// Of all, and of those of one user that have not asked yet.
constexpr size_t kMostConnections = 1024;
constexpr int kMostAsking = 16;
constexpr std::chrono::seconds kGreetingTime{1};
// Refused processes try again and again.
constexpr std::chrono::seconds kLogRefusals{10};

absl::StatusOr<sockaddr_un> AddressOf(const std::string& path) {
  sockaddr_un address{.sun_family = AF_UNIX};
  if (path.size() >= sizeof(address.sun_path)) {
    return absl::InvalidArgumentError(absl::StrCat("the path of a unix socket is too long: ", path));
  }
  path.copy(address.sun_path, path.size());
  return address;
}

absl::StatusOr<Fd> NewSocket() {
  Fd made(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!made) return ErrnoStatus("make a socket for applications");
  return made;
}

// An agent that was killed left its socket behind; another that is alive is not to lose it.
absl::Status RemoveStale(const std::string& path, const sockaddr_un& address) {
  HG_ASSIGN_OR_RETURN(const Fd probe, NewSocket());
  if (connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0 || errno == EAGAIN) {
    return absl::FailedPreconditionError(absl::StrCat("another agent listens on ", path));
  }
  struct stat is {};
  if (errno == ECONNREFUSED && stat(path.c_str(), &is) == 0 && S_ISSOCK(is.st_mode)) unlink(path.c_str());
  return absl::OkStatus();
}

int ErrnoOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kPermissionDenied:
      return EACCES;
    case absl::StatusCode::kNotFound:
      return ESRCH;
    case absl::StatusCode::kAlreadyExists:
      return EBUSY;
    case absl::StatusCode::kInvalidArgument:
      return EPROTO;
    default:
      return ENOMEM;
  }
}

// False: the process is gone, or does not read.
bool SendWelcome(int socket, const hga_welcome& welcome, const std::vector<int>& files) {
  iovec bytes{const_cast<hga_welcome*>(&welcome), sizeof(welcome)};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * (HGA_MAX_CHANNELS + 1))] = {};
  msghdr message{.msg_iov = &bytes, .msg_iovlen = 1};
  if (!files.empty()) {
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(sizeof(int) * files.size());
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int) * files.size());
    std::memcpy(CMSG_DATA(header), files.data(), sizeof(int) * files.size());
  }
  return sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL) == static_cast<ssize_t>(sizeof(welcome));
}

hga_welcome Refusal(const absl::Status& status) {
  hga_welcome welcome{.magic = HGA_MAGIC, .version = HGA_VERSION, .error = ErrnoOf(status)};
  status.message().copy(welcome.message, sizeof(welcome.message) - 1);
  return welcome;
}

}  // namespace

AppServer::AppServer(std::string path, Show show)
    : path_(std::move(path)),
      show_(std::move(show)),
      wake_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)),
      thread_([this](const std::stop_token& stop) { Run(stop); }) {}

AppServer::~AppServer() {
  thread_.request_stop();
  Wake();
  thread_.join();
  for (Connection& connection : connections_) End(connection, "headgated ends");
  if (listener_) unlink(path_.c_str());
}

void AppServer::Wake() const {
  const uint64_t one = 1;
  // Cannot fail: the counter is far from full.
  static_cast<void>(write(wake_.get(), &one, sizeof(one)) == sizeof(one));
}

absl::Status AppServer::Listen() {
  HG_ASSIGN_OR_RETURN(const sockaddr_un address, AddressOf(path_));
  std::error_code ignored;
  std::filesystem::create_directories(std::filesystem::path(path_).parent_path(), ignored);
  HG_RETURN_IF_ERROR(RemoveStale(path_, address));
  HG_ASSIGN_OR_RETURN(Fd listener, NewSocket());
  if (bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    return ErrnoStatus("bind ", path_);
  }
  // Targets are different groups': anybody may connect, who may have what is decided by who asks.
  if (chmod(path_.c_str(), 0666) != 0) return ErrnoStatus("let applications use ", path_);
  if (listen(listener.get(), 64) != 0) return ErrnoStatus("listen on ", path_);
  listener_ = std::move(listener);
  Log(spdlog::level::info, "applications may ask for targets", {{"socket", path_}});
  return absl::OkStatus();
}

absl::Status AppServer::SetTargets(const std::vector<Target>& targets) {
  const std::lock_guard lock(mutex_);
  std::map<uint32_t, Target> wanted;
  for (const Target& target : targets) wanted[target.id] = target;
  connections_.remove_if([&](Connection& connection) {
    if (connection.session == nullptr) return false;
    const auto found = wanted.find(connection.target);
    if (found != wanted.end() && found->second == targets_[connection.target]) return false;
    End(connection, "its target is not the same any more");
    return true;
  });
  targets_ = std::move(wanted);
  std::erase_if(mailboxes_, [this](const auto& mailbox) { return !targets_.contains(mailbox.first.first); });
  Wake();
  if (targets_.empty() && listener_) {
    unlink(path_.c_str());
    listener_ = Fd();
  }
  return listener_ || targets_.empty() ? absl::OkStatus() : Listen();
}

std::shared_ptr<AppMailbox> AppServer::Mailbox(uint32_t target, uint32_t worker) {
  const std::lock_guard lock(mutex_);
  std::shared_ptr<AppMailbox>& mailbox = mailboxes_[{target, worker}];
  if (mailbox == nullptr) mailbox = std::make_shared<AppMailbox>();
  return mailbox;
}

int AppServer::TimeoutMs(Time now) const {
  if (connections_.empty()) return -1;
  const bool soon = std::any_of(connections_.begin(), connections_.end(), [now](const Connection& connection) {
    return !connection.present && now - connection.since < kGreetingTime;
  });
  return soon ? kSoonMs : kLookMs;
}

void AppServer::Run(const std::stop_token& stop) {
  std::vector<pollfd> polled;
  std::unique_lock lock(mutex_);
  while (!stop.stop_requested()) {
    polled = {{wake_.get(), POLLIN, 0}, {listener_.get(), POLLIN, 0}};
    for (const Connection& connection : connections_) polled.push_back({connection.socket.get(), POLLIN, 0});
    const int timeout = TimeoutMs(std::chrono::steady_clock::now());
    lock.unlock();
    poll(polled.data(), polled.size(), timeout);
    uint64_t count = 0;
    static_cast<void>(read(wake_.get(), &count, sizeof(count)) == sizeof(count));
    lock.lock();
    const Time now = std::chrono::steady_clock::now();
    // By what is there now, whatever was polled: reads do not wait.
    for (auto connection = connections_.begin(); connection != connections_.end();) {
      const bool stays = Read(*connection) && Watch(*connection, now);
      connection = stays ? std::next(connection) : connections_.erase(connection);
    }
    if (listener_) Accept();
  }
}

bool AppServer::HasRoomFor(const Peer& peer) const {
  const auto asking = std::count_if(connections_.begin(), connections_.end(), [&](const Connection& connection) {
    return connection.session == nullptr && connection.peer.uid == peer.uid;
  });
  return asking < kMostAsking && connections_.size() < kMostConnections;
}

void AppServer::Accept() {
  while (true) {
    Fd accepted(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!accepted) return;
    absl::StatusOr<Peer> peer = PeerOf(accepted.get());
    if (!peer.ok() || !HasRoomFor(*peer)) continue;
    connections_.push_back(
        {.socket = std::move(accepted), .peer = *std::move(peer), .since = std::chrono::steady_clock::now()});
  }
}

bool AppServer::Read(Connection& connection) {
  hga_hello hello{};
  const ssize_t length = recv(connection.socket.get(), &hello, sizeof(hello), MSG_DONTWAIT | MSG_TRUNC);
  if (length < 0 && (errno == EAGAIN || errno == EINTR)) return true;
  if (connection.session != nullptr) {
    End(connection, length <= 0 ? "the process is gone" : "it says what nobody asked");
    return false;
  }
  return length == static_cast<ssize_t>(sizeof(hello)) && Greet(connection, hello);
}

absl::StatusOr<const AppServer::Target*> AppServer::Find(const Connection& connection,
                                                         const hga_hello& hello) const {
  if (hello.magic != HGA_MAGIC || hello.version != HGA_VERSION) {
    return absl::InvalidArgumentError(
        absl::StrCat("the agent speaks version ", HGA_VERSION, " of the protocol, the process another"));
  }
  const std::string name(hello.target, strnlen(hello.target, sizeof(hello.target)));
  const auto found = std::find_if(targets_.begin(), targets_.end(),
                                  [&](const auto& target) { return target.second.name == name; });
  if (found == targets_.end()) return absl::NotFoundError("no target of that name has an app handler");
  HG_RETURN_IF_ERROR(CheckAccess(connection.peer, found->second.group));
  for (const Connection& other : connections_) {
    if (other.session == nullptr || other.target != found->first) continue;
    return absl::AlreadyExistsError(absl::StrCat("the target is taken by process ", other.peer.pid));
  }
  return &found->second;
}

bool AppServer::Greet(Connection& connection, const hga_hello& hello) {
  absl::StatusOr<const Target*> target = Find(connection, hello);
  absl::StatusOr<std::unique_ptr<AppSession>> session;
  if (target.ok()) session = AppSession::Create((*target)->channels);
  if (const absl::Status status = target.ok() ? session.status() : target.status(); !status.ok()) {
    const auto now = std::chrono::steady_clock::now();
    if (now - refusal_logged_ >= kLogRefusals) {
      refusal_logged_ = now;
      Log(spdlog::level::warn, "an application is refused",
          {{"pid", connection.peer.pid}, {"uid", connection.peer.uid}, {"reason", status}});
    }
    SendWelcome(connection.socket.get(), Refusal(status), {});
    return false;
  }
  const hga_welcome welcome{.magic = HGA_MAGIC,
                            .version = HGA_VERSION,
                            .channels = (*target)->channels,
                            .ring_bytes = (*session)->ring_bytes(),
                            .memory_bytes = (*session)->memory_bytes()};
  if (!SendWelcome(connection.socket.get(), welcome, (*session)->ForProcess())) return false;
  (*session)->HandedOver();
  connection.target = (*target)->id;
  connection.session = *std::move(session);
  Attach(connection);
  Log(spdlog::level::info, "an application has a target",
      {{"target", (*target)->name}, {"pid", connection.peer.pid}, {"uid", connection.peer.uid}});
  return true;
}

void AppServer::Attach(Connection& connection) {
  for (uint32_t worker = 0; worker < connection.session->channels().size(); ++worker) {
    std::shared_ptr<AppMailbox>& mailbox = mailboxes_[{connection.target, worker}];
    if (mailbox == nullptr) mailbox = std::make_shared<AppMailbox>();
    mailbox->Put(connection.session->channels()[worker]);
  }
}

bool AppServer::TakenByWorkers(const Connection& connection) {
  for (uint32_t worker = 0; worker < connection.session->channels().size(); ++worker) {
    if (!mailboxes_[{connection.target, worker}]->Taken()) return false;
  }
  return true;
}

bool AppServer::Watch(Connection& connection, Time now) {
  if (connection.session == nullptr) return now - connection.since < kGreetingTime;
  if (const char* why = connection.session->broken(); why != nullptr) {
    End(connection, why);
    return false;
  }
  connection.session->Look(now);
  const bool beats = connection.session->Beats(now);
  SetPresent(connection, beats && TakenByWorkers(connection), beats ? "it is there" : "it hangs");
  return true;
}

void AppServer::SetPresent(Connection& connection, bool present, const char* why) {
  if (present == connection.present) return;
  connection.present = present;
  show_(connection.target, present);
  Log(present ? spdlog::level::info : spdlog::level::warn,
      present ? "an application takes packets" : "an application takes no packets, they take the fallback",
      {{"target", targets_[connection.target].name}, {"pid", connection.peer.pid}, {"reason", why}});
}

void AppServer::End(Connection& connection, const char* why) {
  if (connection.session == nullptr) return;
  SetPresent(connection, false, why);
  uint64_t delivered = 0, unread = 0, sent = 0;
  for (uint32_t worker = 0; worker < connection.session->channels().size(); ++worker) {
    mailboxes_[{connection.target, worker}]->Put(nullptr);
    const AppChannel& channel = *connection.session->channels()[worker];
    delivered += channel.delivered();
    unread += channel.unread();
    sent += channel.sent();
  }
  Log(spdlog::level::info, "an application has its target no more",
      {{"target", targets_[connection.target].name},
       {"pid", connection.peer.pid},
       {"reason", why},
       {"delivered", delivered},
       {"unread", unread},
       {"sent", sent}});
}

}  // namespace headgate
