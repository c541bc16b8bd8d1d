// SPDX-License-Identifier: Apache-2.0
#include "tests/harness/agent.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_split.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>

namespace headgate::testing {

Agent::Agent(Lab& lab, const std::string& ns, AgentOptions options)
    : lab_(lab),
      ns_(ns),
      options_(std::move(options)),
      directory_(options_.name.empty() ? lab.directory() : absl::StrCat(lab.directory(), "/", options_.name)) {
  std::filesystem::create_directories(directory_);
  Start();
}

Agent::~Agent() {
  if (pid_ > 0) Stop();
  if (::testing::Test::HasFailure()) printf("---- agent's log ----\n%s---- end of log ----\n", Log().c_str());
}

void Agent::Start(AgentOptions options) {
  options_ = std::move(options);
  Start();
}

void Agent::Start() {
  std::vector<std::string> words;
  for (const auto& word : absl::StrSplit(options_.prefix, ' ', absl::SkipEmpty())) words.emplace_back(word);
  words.push_back(options_.binary.empty() ? HG_AGENT : options_.binary);
  for (const auto& [flag, value] :
       std::initializer_list<std::pair<const char*, std::string>>{{"--state", directory_ + "/state.db"},
                                                                  {"--socket", directory_ + "/headgated.sock"},
                                                                  {"--bpffs", directory_ + "/bpf"},
                                                                  {"--http", "127.0.0.1:9780"}}) {
    words.emplace_back(flag);
    words.push_back(value);
  }
  words.insert(words.end(), options_.arguments.begin(), options_.arguments.end());

  pid_ = fork();
  if (pid_ == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    const int log = open((directory_ + "/log").c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    dup2(log, STDOUT_FILENO);
    dup2(log, STDERR_FILENO);
    const InNetns inside(lab_.Name(ns_));
    std::vector<char*> argv;
    argv.reserve(words.size() + 1);
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    execvp(argv[0], argv.data());
    _exit(127);
  }
  client_ = std::make_unique<Client>(address());
  const bool up = WaitFor(
      [this] {
        int status = 0;
        if (waitpid(pid_, &status, WNOHANG) == pid_) pid_ = -1;
        return pid_ < 0 || client_->Healthy();
      },
      std::chrono::seconds(30));
  if (!up || pid_ < 0) throw std::runtime_error("headgated does not come up:\n" + Log());
}

void Agent::Kill() {
  if (pid_ <= 0) return;
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
  pid_ = -1;
}

int Agent::Stop() {
  if (pid_ <= 0) return -1;
  client_.reset();  // a server waits a while for those connected to leave
  kill(pid_, SIGTERM);
  int status = 0;
  const bool ended = WaitFor([&] { return waitpid(pid_, &status, WNOHANG) == pid_; }, std::chrono::seconds(10));
  if (!ended) {
    ADD_FAILURE() << "headgated does not end on SIGTERM";
    Kill();
    return -1;
  }
  pid_ = -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

void Agent::Signal(int number) const { kill(pid_, number); }

std::string Agent::Log() const {
  std::ifstream file(directory_ + "/log");
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

}  // namespace headgate::testing
