// SPDX-License-Identifier: Apache-2.0
#include "agent/slowpath/app_handler.h"

#include <sys/epoll.h>

#include "agent/base/status.h"

namespace headgate {
namespace {

constexpr size_t kBatch = 64;

bool Watch(int epoll, int fd) {
  epoll_event event{.events = EPOLLIN, .data = {}};
  return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Handler>> AppHandler::Make(std::shared_ptr<AppMailbox> mailbox) {
  Fd watched(epoll_create1(EPOLL_CLOEXEC));
  if (!watched || !Watch(watched.get(), mailbox->fd())) return ErrnoStatus("make an epoll for an application");
  return std::unique_ptr<Handler>(new AppHandler(std::move(mailbox), std::move(watched)));
}

// A handful of times in a process's life: system calls and a lock are fine.
void AppHandler::Change() {
  if (channel_ != nullptr) epoll_ctl(watched_.get(), EPOLL_CTL_DEL, channel_->bell(), nullptr);
  channel_ = mailbox_->Take(version_);
  // Without it, the worker looks every now and then all the same.
  if (channel_ != nullptr) Watch(watched_.get(), channel_->bell());
}

bool AppHandler::HasChannel() {
  if (mailbox_->IsNew(version_)) Change();
  return channel_ != nullptr;
}

void AppHandler::Handle(absl::Span<Packet> packets, Output&) {
  if (!HasChannel()) {
    for (Packet& packet : packets) packet.disposition = Disposition::kDropped;
    return;
  }
  for (Packet& packet : packets) {
    packet.disposition = channel_->Put(packet) ? Disposition::kConsumed : Disposition::kDropped;
  }
  channel_->Publish();
}

size_t AppHandler::Originate(Output& output) { return HasChannel() ? channel_->Send(output, kBatch) : 0; }

}  // namespace headgate
