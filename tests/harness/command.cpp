// SPDX-License-Identifier: Apache-2.0
#include "tests/harness/command.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <pty.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <optional>
#include <stdexcept>

#include "tests/harness/lab.h"

namespace headgate::testing {
namespace {

// Files without a name: nothing blocks, however much is printed, and it can be read at any time.
Fd MemoryFile(const std::string& content = "") {
  Fd file(memfd_create("command", MFD_CLOEXEC));
  if (!file || pwrite(file.get(), content.data(), content.size(), 0) != static_cast<ssize_t>(content.size())) {
    throw std::runtime_error("memfd_create failed");
  }
  return file;
}

std::string Content(const Fd& file) {
  std::string text;
  std::array<char, 65536> buffer;
  while (true) {
    const ssize_t size = pread(file.get(), buffer.data(), buffer.size(), static_cast<off_t>(text.size()));
    if (size <= 0) return text;
    text.append(buffer.data(), static_cast<size_t>(size));
  }
}

}  // namespace

Command::Command(const std::vector<std::string>& argv, const CommandOptions& options)
    : out_(MemoryFile()), err_(MemoryFile()) {
  const Fd in = MemoryFile(options.input);
  std::vector<char*> words(argv.size() + 1, nullptr);
  for (size_t i = 0; i < argv.size(); ++i) words[i] = const_cast<char*>(argv[i].c_str());

  winsize size{.ws_row = 24, .ws_col = 80};
  int master = -1;
  pid_ = options.terminal ? forkpty(&master, nullptr, nullptr, &size) : fork();
  if (pid_ < 0) throw std::runtime_error("fork failed");
  if (pid_ == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (!options.terminal) {
      dup2(in.get(), STDIN_FILENO);
      dup2(out_.get(), STDOUT_FILENO);
      dup2(err_.get(), STDERR_FILENO);
    }
    for (const std::string& variable : options.environment) putenv(const_cast<char*>(variable.c_str()));
    std::optional<InNetns> inside;
    if (!options.netns.empty()) inside.emplace(options.netns);
    execvp(words[0], words.data());
    _exit(127);
  }
  terminal_ = Fd(master);
  if (terminal_) fcntl(terminal_.get(), F_SETFL, O_NONBLOCK);
}

Command::~Command() {
  if (!Running()) return;
  Signal(SIGKILL);
  waitpid(pid_, nullptr, 0);
}

std::string Command::Out() {
  if (!terminal_) return Content(out_);
  std::array<char, 4096> buffer;
  ssize_t size = 0;
  while ((size = read(terminal_.get(), buffer.data(), buffer.size())) > 0) {
    screen_.append(buffer.data(), static_cast<size_t>(size));
  }
  return screen_;
}

bool Command::Running() {
  if (pid_ > 0 && waitpid(pid_, &status_, WNOHANG) == pid_) pid_ = -1;
  return pid_ > 0;
}

void Command::Signal(int number) const {
  if (pid_ > 0) kill(pid_, number);
}

void Command::Type(const std::string& keys) const {
  EXPECT_EQ(write(terminal_.get(), keys.data(), keys.size()), static_cast<ssize_t>(keys.size()));
}

CommandResult Command::Wait(std::chrono::milliseconds timeout) {
  // Out(): a terminal that nobody reads blocks who writes to it.
  const auto ended = [this] {
    Out();
    return !Running();
  };
  if (!WaitFor(ended, timeout)) {
    ADD_FAILURE() << "does not end; so far it printed:\n" << Out() << Content(err_);
    Signal(SIGKILL);
    WaitFor(ended);
  }
  return {.code = WIFEXITED(status_) ? WEXITSTATUS(status_) : 128 + WTERMSIG(status_),
          .out = Out(),
          .err = Content(err_)};
}

CommandResult RunCommand(const std::vector<std::string>& argv, const CommandOptions& options) {
  return Command(argv, options).Wait();
}

}  // namespace headgate::testing
