// SPDX-License-Identifier: Apache-2.0
#include "tests/harness/live_gateway.h"

#include <absl/strings/str_cat.h>
#include <sys/mount.h>

#include <filesystem>
#include <stdexcept>
#include <vector>

#include "agent/api/text.h"

namespace headgate::testing {
namespace {

uint64_t Total(const std::map<std::string, uint64_t>& reasons) {
  uint64_t sum = 0;
  for (const auto& [reason, packets] : reasons) sum += packets;
  return sum;
}

}  // namespace

template <typename Message>
Message FromYaml(const std::string& yaml) {
  Message message;
  if (const absl::Status status = ParseYaml(yaml, "test", message); !status.ok()) {
    throw std::runtime_error(std::string(status.message()));
  }
  return message;
}
template pb::GatewayConfig FromYaml(const std::string& yaml);
template pb::Patch FromYaml(const std::string& yaml);

pb::ApplyRequest ConfigRequest(const std::string& yaml) {
  pb::ApplyRequest request;
  *request.mutable_config() = FromYaml<pb::GatewayConfig>(yaml);
  request.set_wait_applied(true);
  return request;
}

pb::ApplyRequest PatchRequest(const std::string& yaml) {
  pb::ApplyRequest request;
  *request.mutable_patch() = FromYaml<pb::Patch>(yaml);
  request.set_wait_applied(true);
  return request;
}

const char LiveGatewayTest::kDocument[] = R"(
interfaces: [{name: in, device: g0}, {name: out, device: g1}]
prefix_sets: [{name: bogons, prefixes: [198.51.100.0/24, "2001:db8:bad::/48"]}]
next_hops: [{name: hop, interface: out, mac: "02:00:00:00:0c:01"}]
rules:
  - {name: drop-9, priority: 40, match: {protocol: udp, destination_ports: ["9"]}, action: {drop: {}}}
  - {name: evil, priority: 30, match: {source_set: bogons}, action: {drop: {}, count: {counter: evil}}}
  - {name: hop, priority: 20, match: {protocol: udp, destination_ports: ["7000-7009"]}, action: {next_hop: {name: hop}}}
  - {name: wire, priority: 10, match: {interface: in}, action: {redirect: {interface: out}}}
)";

std::unique_ptr<Lab> LiveGatewayTest::lab_;
std::unique_ptr<Wire> LiveGatewayTest::client_, LiveGatewayTest::server_;

LiveGatewayTest::LiveGatewayTest(std::string name, std::map<std::string, std::string> arguments)
    : name_(std::move(name)), arguments_(std::move(arguments)) {}

AgentOptions LiveGatewayTest::Options(const std::map<std::string, std::string>& arguments) const {
  std::map<std::string, std::string> all = arguments;
  all.insert(arguments_.begin(), arguments_.end());
  // Small tables are made quickly.
  all.insert({{"--max-rules", "1024"}, {"--max-prefixes", "65536"}, {"--max-sources", "1024"}});
  AgentOptions options;
  for (const auto& [flag, value] : all) {
    options.arguments.push_back(flag);
    if (!value.empty()) options.arguments.push_back(value);
  }
  return options;
}

void LiveGatewayTest::RestartWith(const std::map<std::string, std::string>& arguments) {
  agent_->Kill();
  agent_->Start(Options(arguments));
}

CommandResult LiveGatewayTest::RunAgent(const std::map<std::string, std::string>& arguments) {
  std::map<std::string, std::string> all = arguments;
  const std::string& directory = agent_->directory();
  all.insert({{"--state", directory + "/state.db"},
              {"--socket", directory + "/headgated.sock"},
              {"--bpffs", directory + "/bpf"},
              {"--http", "127.0.0.1:9780"}});
  std::vector<std::string> command = {HG_AGENT};
  const AgentOptions options = Options(all);
  command.insert(command.end(), options.arguments.begin(), options.arguments.end());
  return RunCommand(command, {.netns = lab_->Name("gw")});
}

void LiveGatewayTest::SetUp() {
  static const std::string why_not = WhyNoLab();
  if (!why_not.empty()) GTEST_SKIP() << "no lab: " << why_not;
  if (!lab_) {
    lab_ = std::make_unique<Lab>(name_, std::vector<std::string>{"client", "gw", "server"});
    lab_->Link("client", "c0", "gw", "g0");
    lab_->Link("gw", "g1", "server", "s0");
    client_ = std::make_unique<Wire>(lab_->Name("client"), "c0");
    server_ = std::make_unique<Wire>(lab_->Name("server"), "s0");
  }
  agent_ = std::make_unique<Agent>(*lab_, "gw", Options({}));
  api().ApplyYaml(kDocument);
}

void LiveGatewayTest::TearDown() {
  if (agent_ && agent_->pid() > 0) {
    EXPECT_EQ(agent_->Stop(), 0);
  }
  agent_.reset();
  if (!lab_) return;
  // The next agent is to find nothing. Without its pins the program is off the devices, too.
  umount2((lab_->directory() + "/bpf").c_str(), MNT_DETACH);
  for (const auto& entry : std::filesystem::directory_iterator(lab_->directory())) {
    std::filesystem::remove_all(entry.path());
  }
  EXPECT_TRUE(WaitFor([] { return lab_->Ip("gw", "link").find("xdp") == std::string::npos; }));
}

void LiveGatewayTest::TearDownTestSuite() {
  client_.reset();
  server_.reset();
  lab_.reset();
}

std::string LiveGatewayTest::Held(bool applied) {
  std::string text;
  pb::GetRequest request;
  request.set_applied(applied);
  do {
    pb::GetResponse page;
    const CallStatus status = api().Get(request, page);
    if (!status.ok()) throw std::runtime_error("Get: " + status.message);
    if (text.empty()) text = absl::StrCat("generation ", page.generation(), "\n");
    for (pb::Object& object : *page.mutable_objects()) {
      object.clear_status();
      object.clear_interface_state();
      absl::StrAppend(&text, object.ShortDebugString(), "\n");
    }
    request.set_page_token(page.next_page_token());
  } while (!request.page_token().empty());
  return text;
}

std::string LiveGatewayTest::Fate(const Bytes& frame) {
  const std::map<std::string, uint64_t> before = api().Reasons("in");
  client().Send(frame);
  std::map<std::string, uint64_t> after;
  WaitFor([&] {
    after = api().Reasons("in");
    return Total(after) > Total(before);
  });
  std::string fate;
  for (const auto& [reason, packets] : after) {
    const auto found = before.find(reason);
    const uint64_t more = packets - (found == before.end() ? 0 : found->second);
    if (more != 0)
      absl::StrAppend(&fate, fate.empty() ? "" : " ", reason, more == 1 ? "" : absl::StrCat("*", more));
  }
  return fate;
}

std::string LiveGatewayTest::FateOfPort(uint16_t port, const std::string& source) {
  return Fate(Ethernet{} / Ipv4{.source = source} / Udp{.destination_port = port} / Payload(40));
}

void LiveGatewayTest::ExpectDocumentInForce() {
  EXPECT_EQ(FateOfPort(9), "drop_rule");
  EXPECT_EQ(FateOfPort(53, "198.51.100.7"), "drop_rule");
  EXPECT_EQ(FateOfPort(7005), "forward_next_hop");
  EXPECT_EQ(FateOfPort(53), "forward_redirect");
}

CallStatus LiveGatewayTest::ExpectRefused(const pb::ApplyRequest& request, int code) {
  const std::string desired = Held(), applied = Held(true);
  CallStatus status = api().Apply(request);
  EXPECT_EQ(status.code, code) << status.message;
  // Too long to be printed, some of them.
  EXPECT_TRUE(Held() == desired) << Held().substr(0, 2000);
  EXPECT_TRUE(Held(true) == applied) << Held(true).substr(0, 2000);
  ExpectDocumentInForce();
  return status;
}

void LiveGatewayTest::NowAndAfterRestart(const std::function<void()>& check) {
  {
    SCOPED_TRACE("before the restart");
    check();
  }
  agent().Restart();
  SCOPED_TRACE("after the restart");
  check();
}

}  // namespace headgate::testing
