// SPDX-License-Identifier: Apache-2.0
//
// The agent as its systemd unit runs it: with exactly the capabilities the unit grants and none it could gain, and
// in the conversation that Type=notify and the watchdog ask for.
#include <absl/strings/ascii.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>
#include <absl/strings/str_split.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <sstream>

#include "agent/base/fd.h"
#include "tests/harness/agent.h"
#include "tests/harness/wire.h"

namespace headgate::testing {
namespace {

constexpr char kRules[] = R"(
interfaces: [{name: in, device: in0}, {name: out, device: out0}]
rules:
  - {name: forward, priority: 10, match: {protocol: udp, destination_ports: ["1000"]},
     action: {redirect: {interface: out}, sample: {one_in: 1}}}
)";

// The value of a directive of the unit, empty when it is not there.
std::string Directive(const std::string& name) {
  std::ifstream file(HG_UNIT);
  for (std::string line; std::getline(file, line);) {
    if (line.rfind(name + "=", 0) == 0) return line.substr(name.size() + 1);
  }
  return "";
}

// systemd's end of the notification socket.
class Supervisor {
 public:
  explicit Supervisor(std::string path)
      : path_(std::move(path)), socket_(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un address{.sun_family = AF_UNIX};
    path_.copy(address.sun_path, sizeof(address.sun_path) - 1);
    unlink(path_.c_str());
    if (bind(socket_.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) perror("bind");
  }
  // Whether a message with this line comes in time.
  bool Hears(const std::string& line) {
    return WaitFor([&] {
      pollfd readable{socket_.get(), POLLIN, 0};
      if (poll(&readable, 1, 100) <= 0) return false;
      char message[1024];
      const ssize_t length = recv(socket_.get(), message, sizeof(message), 0);
      const std::vector<std::string> lines =
          absl::StrSplit(std::string(message, static_cast<size_t>(std::max<ssize_t>(length, 0))), '\n');
      return std::find(lines.begin(), lines.end(), line) != lines.end();
    });
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  Fd socket_;
};

std::vector<std::string> UnitCapabilities() {
  return absl::StrSplit(absl::AsciiStrToLower(Directive("CapabilityBoundingSet")), ' ', absl::SkipEmpty());
}

// Runs a command as the unit would: bounding set and no_new_privs.
std::string AsUnit(const Supervisor& supervisor) {
  std::vector<std::string> set = {"-all"};
  for (const std::string& capability : UnitCapabilities()) set.push_back("+" + capability.substr(4));
  return absl::StrCat("env NOTIFY_SOCKET=", supervisor.path(), " WATCHDOG_USEC=3000000 setpriv --no-new-privs ",
                      "--bounding-set ", absl::StrJoin(set, ","), " --inh-caps -all");
}

std::string ProcessStatus(pid_t pid, const std::string& field) {
  std::ifstream file(absl::StrCat("/proc/", pid, "/status"));
  for (std::string line; std::getline(file, line);) {
    if (line.rfind(field + ":", 0) == 0)
      return std::string(absl::StripAsciiWhitespace(line.substr(field.size() + 1)));
  }
  return "";
}

class ServiceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    HG_REQUIRE_LAB();
    lab_ = std::make_unique<Lab>("service", std::vector<std::string>{"src", "gw", "dst"});
    lab_->Link("src", "src0", "gw", "in0");
    lab_->Link("gw", "out0", "dst", "dst0");
    // As systemd has done on every host; the agent may not.
    Shell(absl::StrCat("mkdir -p ", lab_->directory(), "/bpf && mount -t bpf bpf ", lab_->directory(), "/bpf"));
    supervisor_ = std::make_unique<Supervisor>(lab_->directory() + "/notify");
  }

  // Everything that takes a capability: attach, maps, forwarding, samples, egress counters, traces.
  void ExpectWorks(Agent& agent) {
    EXPECT_EQ(agent.client().GetObject(pb::KIND_INTERFACE, "in").interface_state().mode(), pb::ATTACH_MODE_NATIVE);
    const uint64_t before = agent.client().Interface("out").transmitted_packets();
    const auto watcher = agent.client().Watch({pb::EVENT_TYPE_SAMPLE});
    Wire source(lab_->Name("src"), "src0"), sink(lab_->Name("dst"), "dst0");
    const Bytes payload(30, static_cast<uint8_t>(before + 7));
    source.Send((Ethernet{} / Ipv4{} / Udp{.destination_port = 1000} / Payload(payload)).Build());
    EXPECT_TRUE(sink.Receive(CarriesPayload(payload)).has_value());
    EXPECT_TRUE(
        watcher->Next([](const pb::Event& event) { return event.sample().rule() == "forward"; }).has_value());
    EXPECT_TRUE(WaitFor([&] { return agent.client().Interface("out").transmitted_packets() == before + 1; }));
    EXPECT_EQ(agent.client().Trace("udp 192.0.2.1:1 > 192.0.2.2:1000 in in").rule(), "forward");
  }

  std::unique_ptr<Lab> lab_;
  std::unique_ptr<Supervisor> supervisor_;
};

TEST_F(ServiceTest, WorksWithTheCapabilitiesOfTheUnitAndNoOthers) {
  ASSERT_FALSE(UnitCapabilities().empty());
  Agent agent(*lab_, "gw", {.prefix = AsUnit(*supervisor_)});
  agent.client().ApplyYaml(kRules);
  ExpectWorks(agent);
  // What the process can ever have is what the unit grants; and it uses all of that.
  EXPECT_EQ(ProcessStatus(agent.pid(), "CapEff"), ProcessStatus(agent.pid(), "CapBnd"));
  EXPECT_EQ(__builtin_popcountll(std::stoull(ProcessStatus(agent.pid(), "CapBnd"), nullptr, 16)),
            static_cast<int>(UnitCapabilities().size()));
  EXPECT_EQ(ProcessStatus(agent.pid(), "NoNewPrivs"), "1");
  agent.Restart();
  ExpectWorks(agent);
}

TEST_F(ServiceTest, DoesNotWorkWithout) {
  // Otherwise the test above would show nothing. CAP_SYS_ADMIN stands in for the others.
  for (const char* missing : {"-bpf", "-net_admin", "-perfmon"}) {
    const std::string prefix = absl::StrCat("setpriv --bounding-set ", missing, ",-sys_admin --inh-caps -all");
    EXPECT_THROW(Agent(*lab_, "gw", {.prefix = prefix}), std::runtime_error) << missing;
  }
}

TEST_F(ServiceTest, TellsSystemd) {
  Agent agent(*lab_, "gw", {.prefix = AsUnit(*supervisor_)});
  EXPECT_TRUE(supervisor_->Hears("READY=1"));
  EXPECT_TRUE(supervisor_->Hears("WATCHDOG=1"));
  EXPECT_TRUE(supervisor_->Hears("STATUS=generation 0 in force"));
  agent.client().ApplyYaml(kRules);
  EXPECT_TRUE(supervisor_->Hears("STATUS=generation 1 in force"));
  agent.Signal(SIGHUP);
  EXPECT_TRUE(supervisor_->Hears("RELOADING=1"));
  EXPECT_TRUE(supervisor_->Hears("READY=1"));
  EXPECT_EQ(agent.Stop(), 0);
  EXPECT_TRUE(supervisor_->Hears("STOPPING=1"));
  agent.Start();
  EXPECT_TRUE(supervisor_->Hears("READY=1"));
  EXPECT_TRUE(supervisor_->Hears("STATUS=generation 1 in force"));
}

TEST(UnitFileTest, IsOneThatSystemdTakes) {
  if (TryShell("command -v systemd-analyze") != 0) GTEST_SKIP() << "no systemd-analyze";
  // The program is not installed here, nor are its pages.
  const std::string copy = ::testing::TempDir() + "headgated.service";
  Shell(absl::StrCat("sed -e 's#^ExecStart=.*#ExecStart=/bin/true#' -e '/^Documentation=/d' ", HG_UNIT, " > ",
                     copy));
  EXPECT_EQ(Shell(absl::StrCat("systemd-analyze verify --man=no ", copy, " 2>&1")), "");
}

}  // namespace
}  // namespace headgate::testing
