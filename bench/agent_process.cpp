// SPDX-License-Identifier: Apache-2.0
#include "bench/agent_process.h"

#include <absl/strings/match.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_split.h>
#include <absl/strings/strip.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>
#include <vector>

#include "agent/base/fd.h"
#include "agent/base/status.h"

namespace headgate::bench {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr milliseconds kPoll(20), kGrace(10'000);
constexpr size_t kLogBytes = 4096;
constexpr uint64_t kIdleTicks = 2;  // of 10 ms: a heartbeat now and then
constexpr int kExecFailed = 127;

std::string ReadFile(const std::string& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

}  // namespace

absl::StatusOr<std::unique_ptr<AgentProcess>> AgentProcess::Start(const AgentSetup& setup) {
  std::unique_ptr<AgentProcess> agent(new AgentProcess);
  std::string pattern = absl::StrCat(setup.directory, "/hgbench.XXXXXX");
  if (mkdtemp(pattern.data()) == nullptr) return ErrnoStatus("make a directory below ", setup.directory);
  agent->directory_ = pattern;
  HG_RETURN_IF_ERROR(agent->Spawn(setup));
  return agent;
}

absl::Status AgentProcess::Spawn(const AgentSetup& setup) {
  std::vector<std::string> words = {
      setup.binary,  "--state", absl::StrCat(directory_, "/state.db"),
      "--socket",    socket(),  "--bpffs",
      setup.bpffs,   "--http",  "",
      "--log-level", "info",    setup.flow_cache ? "--flow-cache" : "--no-flow-cache"};
  std::vector<char*> argv;
  argv.reserve(words.size() + 1);
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  const Fd log(open(absl::StrCat(directory_, "/log").c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  const Fd netns(open(absl::StrCat("/run/netns/", setup.netns).c_str(), O_RDONLY | O_CLOEXEC));
  if (!log || !netns) return ErrnoStatus("prepare ", setup.binary);
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  if (setup.cpu) CPU_SET(static_cast<size_t>(*setup.cpu), &cpus);
  pid_ = fork();
  if (pid_ < 0) return ErrnoStatus("start ", setup.binary);
  if (pid_ == 0) {
    // Nothing but system calls: other threads' locks were copied as they were.
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    setpgid(0, 0);  // Ctrl-C is for us to act upon
    dup2(log.get(), STDOUT_FILENO);
    dup2(log.get(), STDERR_FILENO);
    if (setup.cpu && sched_setaffinity(0, sizeof(cpus), &cpus) != 0) _exit(kExecFailed);
    if (setns(netns.get(), CLONE_NEWNET) == 0) execvp(argv[0], argv.data());
    _exit(kExecFailed);
  }
  return absl::OkStatus();
}

AgentProcess::~AgentProcess() {
  if (pid_ > 0) {
    kill(pid_, SIGTERM);
    const auto deadline = steady_clock::now() + kGrace;
    while (waitpid(pid_, nullptr, WNOHANG) == 0) {
      if (steady_clock::now() > deadline) kill(pid_, SIGKILL);
      std::this_thread::sleep_for(kPoll);
    }
  }
  std::error_code ignored;
  if (!directory_.empty()) std::filesystem::remove_all(directory_, ignored);
}

absl::Status AgentProcess::CheckRunning() {
  int status = 0;
  if (pid_ > 0 && waitpid(pid_, &status, WNOHANG) == 0) return absl::OkStatus();
  pid_ = -1;
  if (WIFEXITED(status) && WEXITSTATUS(status) == kExecFailed) {
    return absl::NotFoundError("cannot run the agent: --agent says where headgated is");
  }
  std::string log = ReadFile(absl::StrCat(directory_, "/log"));
  if (log.size() > kLogBytes) log = log.substr(log.size() - kLogBytes);
  return absl::InternalError(absl::StrCat("the agent has ended; the end of its log:\n", log));
}

bool AgentProcess::Listens() const {
  sockaddr_un address{.sun_family = AF_UNIX};
  const std::string path = socket();
  if (path.size() >= sizeof(address.sun_path)) return false;
  std::copy(path.begin(), path.end(), address.sun_path);
  const Fd connection(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  return connect(connection.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
}

absl::StatusOr<AgentProcess::Memory> AgentProcess::ReadMemory() const {
  Memory memory;
  for (const absl::string_view line : absl::StrSplit(ReadFile(absl::StrCat("/proc/", pid_, "/status")), '\n')) {
    for (const auto& [label, field] : {std::pair("VmRSS:", &memory.resident), std::pair("VmHWM:", &memory.peak)}) {
      absl::string_view rest = line;
      if (!absl::ConsumePrefix(&rest, label)) continue;
      absl::ConsumeSuffix(&rest, "kB");
      if (uint64_t kib = 0; absl::SimpleAtoi(rest, &kib)) *field = kib * 1024;
    }
  }
  if (memory.resident == 0) return absl::InternalError("cannot read the agent's memory");
  return memory;
}

absl::Status AgentProcess::ResetPeak() {
  // proc(5), clear_refs: 5 sets VmHWM to what is resident now.
  const Fd file(open(absl::StrCat("/proc/", pid_, "/clear_refs").c_str(), O_WRONLY | O_CLOEXEC));
  if (!file || write(file.get(), "5", 1) != 1) return ErrnoStatus("forget the agent's peak memory");
  return absl::OkStatus();
}

absl::StatusOr<uint64_t> AgentProcess::ReadTicks() const {
  // proc(5): after the name in parentheses, state is field 3, utime 14 and stime 15.
  const std::string stat = ReadFile(absl::StrCat("/proc/", pid_, "/stat"));
  const size_t name_end = stat.rfind(')');
  if (name_end == std::string::npos) return absl::InternalError("cannot read the agent's processor time");
  const std::vector<absl::string_view> fields = absl::StrSplit(absl::string_view(stat).substr(name_end + 2), ' ');
  uint64_t user = 0, system = 0;
  if (fields.size() < 13 || !absl::SimpleAtoi(fields[11], &user) || !absl::SimpleAtoi(fields[12], &system)) {
    return absl::InternalError("cannot read the agent's processor time");
  }
  return user + system;
}

absl::StatusOr<double> AgentProcess::ReadCpuSeconds() const {
  HG_ASSIGN_OR_RETURN(const uint64_t ticks, ReadTicks());
  return static_cast<double>(ticks) / static_cast<double>(sysconf(_SC_CLK_TCK));
}

absl::Status AgentProcess::AwaitIdle(milliseconds quiet, milliseconds timeout) {
  const auto deadline = steady_clock::now() + timeout;
  HG_ASSIGN_OR_RETURN(uint64_t ticks, ReadTicks());
  auto since = steady_clock::now();
  while (steady_clock::now() - since < quiet) {
    if (steady_clock::now() > deadline) return absl::DeadlineExceededError("the agent does not come to rest");
    std::this_thread::sleep_for(kPoll);
    HG_ASSIGN_OR_RETURN(const uint64_t now, ReadTicks());
    if (now - ticks <= kIdleTicks) continue;
    ticks = now;
    since = steady_clock::now();
  }
  return absl::OkStatus();
}

}  // namespace headgate::bench
