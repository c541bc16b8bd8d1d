// SPDX-License-Identifier: Apache-2.0
//
// The peer that a gateway's redirect is compared with: the least program that does it.
#pragma once

#include <absl/status/statusor.h>

#include <memory>
#include <string>

#include "agent/base/fd.h"

struct bare_redirect_bpf;  // the skeleton

namespace headgate::bench {

// Sends every frame that comes in by one device out of another, unchanged, until destroyed.
class BareRedirect {
 public:
  static absl::StatusOr<std::unique_ptr<BareRedirect>> Open(const std::string& netns, const std::string& in,
                                                            const std::string& out);
  ~BareRedirect();
  BareRedirect(const BareRedirect&) = delete;
  BareRedirect& operator=(const BareRedirect&) = delete;

  // The program's.
  int program_fd() const;

 private:
  BareRedirect() = default;
  absl::Status Load(const std::string& in, const std::string& out);

  bare_redirect_bpf* skeleton_ = nullptr;
  Fd in_link_, out_link_;
};

}  // namespace headgate::bench
