// SPDX-License-Identifier: Apache-2.0
//
// Where users' processes ask for the packets of targets: greets them on a unix socket, hands them shared memory,
// and watches whether they live and come round. A target has one process at a time.
//
// Threads: any; one of its own. Nothing here is called by workers, but for what mailboxes offer.
#pragma once

#include <absl/status/status.h>

#include <chrono>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "agent/base/fd.h"
#include "agent/slowpath/app_access.h"
#include "agent/slowpath/app_mailbox.h"
#include "agent/slowpath/app_session.h"

namespace headgate {

class AppServer {
 public:
  struct Target {
    uint32_t id = 0;
    std::string name;
    std::string group;      // whose processes may have it; empty: root's
    uint32_t channels = 1;  // its workers: the first ones
    friend bool operator==(const Target&, const Target&) = default;
  };
  // A target's process takes packets, or does no longer. Not to call back.
  using Show = std::function<void(uint32_t target, bool present)>;

  // `path`: of the socket; it is opened with the first target.
  AppServer(std::string path, Show show);
  // No process has a target any more.
  ~AppServer();

  // Processes whose targets are no longer the same lose them, and may ask again.
  absl::Status SetTargets(const std::vector<Target>& targets);
  // Where a worker's handler of a target finds its channel.
  std::shared_ptr<AppMailbox> Mailbox(uint32_t target, uint32_t worker);

 private:
  using Time = std::chrono::steady_clock::time_point;
  struct Connection {
    Fd socket;
    Peer peer;
    Time since;
    uint32_t target = 0;                  // with a session
    std::unique_ptr<AppSession> session;  // null: it has not asked yet
    bool present = false;
  };

  void Run(const std::stop_token& stop);
  int TimeoutMs(Time now) const;
  bool HasRoomFor(const Peer& peer) const;
  absl::Status Listen();
  void Accept();
  // False: it is to be closed.
  bool Read(Connection& connection);
  bool Greet(Connection& connection, const hga_hello& hello);
  absl::StatusOr<const Target*> Find(const Connection& connection, const hga_hello& hello) const;
  void Attach(Connection& connection);
  // Shows whether it is present. False: it is to be closed.
  bool Watch(Connection& connection, Time now);
  bool TakenByWorkers(const Connection& connection);
  void SetPresent(Connection& connection, bool present, const char* why);
  void End(Connection& connection, const char* why);
  void Wake() const;

  const std::string path_;
  const Show show_;
  const Fd wake_;     // an eventfd
  std::mutex mutex_;  // guards what follows
  Fd listener_;
  std::map<uint32_t, Target> targets_;                                              // by id
  std::map<std::pair<uint32_t, uint32_t>, std::shared_ptr<AppMailbox>> mailboxes_;  // by target and worker
  std::list<Connection> connections_;
  Time refusal_logged_;
  std::jthread thread_;
};

}  // namespace headgate
