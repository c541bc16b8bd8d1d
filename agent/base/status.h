// SPDX-License-Identifier: Apache-2.0
//
// Errors inside the agent are absl::Status: what was tried, on what, and what to do about it. Negative errno
// from C is converted here and nowhere else.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/strings/str_cat.h>

#include <cerrno>

#define HG_STATUS_CONCAT_(a, b) a##b
#define HG_STATUS_CONCAT(a, b) HG_STATUS_CONCAT_(a, b)

#define HG_RETURN_IF_ERROR(expression)                                               \
  do {                                                                               \
    if (absl::Status hg_status_ = (expression); !hg_status_.ok()) return hg_status_; \
  } while (false)

#define HG_ASSIGN_OR_RETURN(declaration, expression)                                                \
  auto HG_STATUS_CONCAT(hg_or_, __LINE__) = (expression);                                           \
  if (!HG_STATUS_CONCAT(hg_or_, __LINE__).ok()) return HG_STATUS_CONCAT(hg_or_, __LINE__).status(); \
  declaration = *std::move(HG_STATUS_CONCAT(hg_or_, __LINE__))

namespace headgate {

// EINVAL and its like are no fault of whoever asked the agent for something: INVALID_ARGUMENT means the request
// alone.
template <typename... Parts>
absl::Status StatusOfErrno(int error, const Parts&... tried) {
  absl::Status status = absl::ErrnoToStatus(error, absl::StrCat(tried...));
  return absl::IsInvalidArgument(status) ? absl::InternalError(status.message()) : status;
}

// The errno of a failed call that returns -1, as a status that begins with what was tried.
template <typename... Parts>
absl::Status ErrnoStatus(const Parts&... tried) {
  const int error = errno;
  return StatusOfErrno(error, tried...);
}

// The same for calls that return negative errno.
template <typename... Parts>
absl::Status ErrnoStatusOf(int negative_errno, const Parts&... tried) {
  return StatusOfErrno(-negative_errno, tried...);
}

// The status with what the caller was about put before its message.
template <typename... Parts>
absl::Status Annotate(const absl::Status& status, const Parts&... context) {
  if (status.ok()) return status;
  return absl::Status(status.code(), absl::StrCat(context..., ": ", status.message()));
}

}  // namespace headgate
