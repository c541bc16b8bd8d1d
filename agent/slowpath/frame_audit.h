// SPDX-License-Identifier: Apache-2.0
//
// Proof that no frame is lost: each is free, or held by sockets and others exactly as often as it is referenced.
// Debug builds check it at every batch.
#pragma once

#include <absl/status/status.h>
#include <absl/strings/str_cat.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "agent/slowpath/frame_pool.h"

namespace headgate {

// `queues`: all that have a socket over the pool, as `socket`. `elsewhere`: references that others have at the
// moment, as the worker itself to packets in its hands, or rings between workers.
template <typename Queues>
absl::Status CheckFrames(const FramePool& pool, const Queues& queues, uint64_t elsewhere = 0) {
  uint32_t free = 0;
  uint64_t unheld = 0;  // references that no socket has
  for (uint32_t frame = 0; frame < pool.total(); ++frame) {
    const uint32_t references = pool.references(frame);
    uint32_t held = 0;
    for (const auto& queue : queues) held += queue.socket->held(frame);
    if (held > references) {
      return absl::InternalError(
          absl::StrCat("frame ", frame, " has ", references, " references, and sockets hold ", held));
    }
    unheld += references - held;
    free += references == 0 ? 1 : 0;
  }
  if (free != pool.free()) {
    return absl::InternalError(absl::StrCat(free, " frames have no reference, and ", pool.free(), " are free"));
  }
  if (unheld != elsewhere) {
    return absl::InternalError(absl::StrCat(unheld, " references of ", elsewhere, " are not held by sockets"));
  }
  return absl::OkStatus();
}

// Ends the program when a frame is lost, in debug builds; nothing in others. Between batches, when the worker has
// no packet in its hands.
template <typename Queues>
void AuditFrames([[maybe_unused]] const FramePool& pool, [[maybe_unused]] const Queues& queues,
                 [[maybe_unused]] uint64_t elsewhere = 0) {
#ifndef NDEBUG
  if (const absl::Status status = CheckFrames(pool, queues, elsewhere); !status.ok()) {
    std::fprintf(stderr, "frames: %s\n", std::string(status.message()).c_str());
    std::abort();
  }
#endif
}

}  // namespace headgate
