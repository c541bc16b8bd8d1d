// SPDX-License-Identifier: Apache-2.0
#include "bench/peer_process.h"

#include <absl/strings/str_cat.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/base/fd.h"
#include "agent/base/status.h"
#include "bench/process.h"

namespace headgate::bench {
namespace {

constexpr int kExecFailed = 127;

}  // namespace

absl::StatusOr<std::unique_ptr<PeerProcess>> PeerProcess::Start(const PeerSetup& setup) {
  std::unique_ptr<PeerProcess> process(new PeerProcess(setup));
  HG_RETURN_IF_ERROR(process->Spawn());
  return process;
}

absl::Status PeerProcess::Spawn() {
  std::vector<char*> argv;
  for (std::string& word : setup_.words) argv.push_back(word.data());
  argv.push_back(nullptr);
  const Fd netns(open(absl::StrCat("/run/netns/", setup_.netns).c_str(), O_RDONLY | O_CLOEXEC));
  const Fd null(open("/dev/null", O_RDONLY | O_CLOEXEC));
  const Fd log(open(setup_.log.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!netns || !null || !log) return ErrnoStatus("prepare ", argv[0]);
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  CPU_SET(static_cast<size_t>(setup_.cpu), &cpus);
  pid_ = fork();
  if (pid_ < 0) return ErrnoStatus("start ", argv[0]);
  if (pid_ > 0) return absl::OkStatus();
  // Nothing but system calls: other threads' locks were copied as they were.
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  setpgid(0, 0);
  dup2(null.get(), STDIN_FILENO);
  for (const int fd : {STDOUT_FILENO, STDERR_FILENO}) dup2(log.get(), fd);
  if (sched_setaffinity(0, sizeof(cpus), &cpus) == 0 && setns(netns.get(), CLONE_NEWNET) == 0) {
    execvp(argv[0], argv.data());
  }
  _exit(kExecFailed);
}

PeerProcess::~PeerProcess() {
  if (pid_ <= 0) return;
  kill(-pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
}

absl::Status PeerProcess::CheckRunning() {
  int status = 0;
  if (pid_ > 0 && waitpid(pid_, &status, WNOHANG) == 0) return absl::OkStatus();
  pid_ = -1;
  if (WIFEXITED(status) && WEXITSTATUS(status) == kExecFailed) {
    return absl::NotFoundError(absl::StrCat("no ", setup_.words[0]));
  }
  return absl::InternalError(absl::StrCat(setup_.words[0], " has ended"));
}

std::vector<pid_t> PeerProcess::Threads() const { return ThreadsOfGroup(pid_); }

}  // namespace headgate::bench
