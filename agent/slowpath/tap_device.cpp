// SPDX-License-Identifier: Apache-2.0
#include "agent/slowpath/tap_device.h"

#include <absl/strings/str_cat.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "agent/base/status.h"

namespace headgate {
namespace {

ifreq RequestFor(const std::string& name) {
  ifreq request{};
  // Names are at most 15 bytes.
  name.copy(request.ifr_name, IFNAMSIZ - 1);
  return request;
}

absl::Status Attach(int fd, const std::string& name, bool tun) {
  ifreq request = RequestFor(name);
  // No virtio header: the kernel then completes checksums and cuts packets to size before we read them.
  const auto flags = static_cast<short>((tun ? IFF_TUN : IFF_TAP) | IFF_NO_PI);
  request.ifr_flags = flags;
  int result = ioctl(fd, TUNSETIFF, &request);
  if (result != 0 && errno == EINVAL) {
    // One that was made with several queues has to be asked for as such.
    request.ifr_flags = static_cast<short>(flags | IFF_MULTI_QUEUE);
    result = ioctl(fd, TUNSETIFF, &request);
  }
  const char* kind = tun ? "TUN" : "TAP";
  if (result != 0 && errno == EINVAL) {
    return absl::FailedPreconditionError(absl::StrCat("device ", name, " exists and is no ", kind, " device"));
  }
  if (result != 0) return ErrnoStatus("make or attach ", kind, " device ", name);
  if (name != request.ifr_name) return absl::FailedPreconditionError(absl::StrCat(name, " is no device's name"));
  // A program that had the device before may have left them on.
  if (ioctl(fd, TUNSETOFFLOAD, 0) != 0) return ErrnoStatus("switch offloads of device ", name, " off");
  return absl::OkStatus();
}

absl::Status BringUp(const std::string& name) {
  const Fd control(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!control) return ErrnoStatus("open a socket");
  ifreq request = RequestFor(name);
  if (ioctl(control.get(), SIOCGIFFLAGS, &request) != 0) return ErrnoStatus("ask for the state of device ", name);
  request.ifr_flags = static_cast<short>(request.ifr_flags | IFF_UP);
  if (ioctl(control.get(), SIOCSIFFLAGS, &request) != 0) return ErrnoStatus("bring device ", name, " up");
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<TapDevice> TapDevice::Open(const std::string& name, bool tun) {
  Fd fd(open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC));
  if (!fd) return ErrnoStatus("open /dev/net/tun");
  HG_RETURN_IF_ERROR(Attach(fd.get(), name, tun));
  HG_RETURN_IF_ERROR(BringUp(name));
  return TapDevice(std::move(fd));
}

bool TapDevice::Write(absl::Span<const iovec> packet) {
  if (writev(fd_.get(), packet.data(), static_cast<int>(packet.size())) >= 0) return true;
  if (errno == EBADFD) gone_ = true;
  return false;
}

size_t TapDevice::Read(absl::Span<uint8_t> buffer) {
  const ssize_t length = read(fd_.get(), buffer.data(), buffer.size());
  if (length < 0 && errno == EBADFD) gone_ = true;
  return length < 0 ? 0 : static_cast<size_t>(length);
}

}  // namespace headgate
