// SPDX-License-Identifier: Apache-2.0
//
// Hands a target's packets to a user's process, and sends what it answers: one worker's part of it. While no
// process is there packets are dropped; the data path does not steer any then, but for those under way.
#pragma once

#include <absl/status/statusor.h>

#include <memory>

#include "agent/slowpath/app_mailbox.h"
#include "agent/slowpath/handler.h"

namespace headgate {

class AppHandler : public Handler {
 public:
  static absl::StatusOr<std::unique_ptr<Handler>> Make(std::shared_ptr<AppMailbox> mailbox);

  void Handle(absl::Span<Packet> packets, Output&) override;
  int fd() const override { return watched_.get(); }
  size_t Originate(Output& output) override;

 private:
  AppHandler(std::shared_ptr<AppMailbox> mailbox, Fd watched)
      : mailbox_(std::move(mailbox)), watched_(std::move(watched)) {}
  bool HasChannel();
  void Change();

  const std::shared_ptr<AppMailbox> mailbox_;
  const Fd watched_;  // an epoll: readable when the mailbox or the channel's bell is
  uint32_t version_ = 0;
  std::shared_ptr<AppChannel> channel_;
};

}  // namespace headgate
