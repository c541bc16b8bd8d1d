// SPDX-License-Identifier: Apache-2.0
#include "cli/file.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "agent/base/fd.h"
#include "agent/base/status.h"

namespace headgate::cli {

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  const Fd file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  std::string text;
  std::array<char, 65536> buffer;
  while (true) {
    // A directory opens, and fails here.
    const ssize_t size = file.get() < 0 ? -1 : read(file.get(), buffer.data(), buffer.size());
    if (size == 0) return text;
    if (size > 0) {
      text.append(buffer.data(), static_cast<size_t>(size));
    } else if (errno != EINTR) {
      return ErrnoStatus("reading ", path);
    }
  }
}

}  // namespace headgate::cli
