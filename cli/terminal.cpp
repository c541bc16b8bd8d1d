// SPDX-License-Identifier: Apache-2.0
#include "cli/terminal.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_replace.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

#include "agent/base/status.h"

namespace headgate::cli {
namespace {

constexpr absl::string_view kEnter = "\x1b[?1049h\x1b[?25l";  // alternate screen, no cursor
constexpr absl::string_view kLeave = "\x1b[?25h\x1b[?1049l";
constexpr char kControlC = 3;

void Write(absl::string_view text) {
  while (!text.empty()) {
    const ssize_t written = write(STDOUT_FILENO, text.data(), text.size());
    if (written < 0 && errno != EINTR) return;  // the terminal went away: Next() says so
    if (written > 0) text.remove_prefix(static_cast<size_t>(written));
  }
}

}  // namespace

bool Terminal::IsPossible() { return isatty(STDIN_FILENO) != 0 && isatty(STDOUT_FILENO) != 0; }

absl::StatusOr<std::unique_ptr<Terminal>> Terminal::Open() {
  std::unique_ptr<Terminal> terminal(new Terminal());
  sigset_t mask;
  sigemptyset(&mask);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGWINCH}) sigaddset(&mask, signal);
  if (tcgetattr(STDIN_FILENO, &terminal->before_) != 0) return ErrnoStatus("reading the terminal's settings");
  sigprocmask(SIG_BLOCK, &mask, &terminal->mask_before_);
  terminal->signals_ = Fd(signalfd(-1, &mask, SFD_CLOEXEC));
  terminal->wake_ = Fd(eventfd(0, EFD_CLOEXEC));
  termios raw = terminal->before_;
  // Control-C comes as a key, so that the way out is one.
  raw.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO | ISIG);
  tcsetattr(STDIN_FILENO, TCSANOW, &raw);
  Write(kEnter);
  return terminal;
}

Terminal::~Terminal() {
  Write(kLeave);
  tcsetattr(STDIN_FILENO, TCSANOW, &before_);
  sigprocmask(SIG_SETMASK, &mask_before_, nullptr);
}

Terminal::Event Terminal::Next() {
  pollfd fds[] = {{STDIN_FILENO, POLLIN, 0}, {signals_.get(), POLLIN, 0}, {wake_.get(), POLLIN, 0}};
  while (poll(fds, std::size(fds), -1) < 0) {
    if (errno != EINTR) return Event::kQuit;
  }
  if (fds[1].revents != 0) {
    signalfd_siginfo signal{};
    if (read(signals_.get(), &signal, sizeof(signal)) != sizeof(signal)) return Event::kQuit;
    return signal.ssi_signo == SIGWINCH ? Event::kResize : Event::kQuit;
  }
  if (fds[0].revents != 0) {
    if (read(STDIN_FILENO, &key_, 1) != 1 || key_ == kControlC) return Event::kQuit;
    return Event::kKey;
  }
  uint64_t count = 0;
  return read(wake_.get(), &count, sizeof(count)) == sizeof(count) ? Event::kWake : Event::kQuit;
}

void Terminal::Wake() {
  const uint64_t one = 1;
  // Full at 2^64 - 1: then it is awake anyway.
  [[maybe_unused]] const ssize_t written = write(wake_.get(), &one, sizeof(one));
}

void Terminal::Draw(absl::string_view text) {
  // Each line to its end, then what is left below: no flicker from clearing first.
  Write(absl::StrCat("\x1b[H", absl::StrReplaceAll(text, {{"\n", "\x1b[K\n"}}), "\x1b[J"));
}

size_t Terminal::height() const {
  winsize size{};
  return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row != 0 ? size.ws_row : 24;
}

}  // namespace headgate::cli
