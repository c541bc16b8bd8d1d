// SPDX-License-Identifier: Apache-2.0
//
// The durable state when things go wrong around it: a second agent, a damaged, read-only or foreign database, a
// full disk, and kills in the midst of changes. Errors say what is the matter, and no rule is half applied.
#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <sqlite3.h>
#include <sys/mount.h>

#include <filesystem>
#include <fstream>
#include <random>
#include <thread>

#include "tests/harness/live_gateway.h"
#include "tests/harness/random.h"

namespace headgate::testing {
namespace {

constexpr int kResourceExhausted = 8;

class StateTest : public LiveGatewayTest {
 protected:
  StateTest() : LiveGatewayTest("state", {{"--max-rules", "8192"}}) {}
  void TearDown() override {
    if (agent().pid() > 0) agent().Stop();
    TryShell("umount " + Mounted());
    LiveGatewayTest::TearDown();
  }

  std::string Database() { return agent().directory() + "/state.db"; }
  std::string Mounted() { return agent().directory() + "/disk"; }

  // What a start on the database as it is now says; the data path must not mind.
  std::string FailedStart(const std::map<std::string, std::string>& arguments = {}) {
    const CommandResult result = RunAgent(arguments);
    EXPECT_EQ(result.code, 1);
    const Bytes payload(40, 0x31);
    client().Send(Ethernet{} / Ipv4{} / Udp{.destination_port = 9} / Payload(40));
    client().Send(Ethernet{} / Ipv4{} / Udp{.destination_port = 53} / Payload(payload));
    EXPECT_TRUE(server().Receive(CarriesPayload(payload)).has_value());
    return result.err;
  }
  void Sql(const std::string& statement) {
    sqlite3* database = nullptr;
    ASSERT_EQ(sqlite3_open(Database().c_str(), &database), SQLITE_OK);
    EXPECT_EQ(sqlite3_exec(database, statement.c_str(), nullptr, nullptr, nullptr), SQLITE_OK)
        << sqlite3_errmsg(database);
    sqlite3_close(database);
  }
  // Rules "NAME0" and so on, each dropping a source.
  static pb::ApplyRequest Rules(const std::string& name, int count, bool wait = true) {
    pb::ApplyRequest request = ConfigRequest(kDocument);
    for (int i = 0; i < count; ++i) {
      pb::Rule& rule = *request.mutable_config()->add_rules();
      rule.set_name(absl::StrCat(name, i));
      rule.set_priority(static_cast<uint32_t>(1000 + i));
      rule.mutable_match()->set_source(absl::StrCat("100.64.", i / 256, ".", i % 256));
      rule.mutable_action()->mutable_drop();
    }
    request.set_wait_applied(wait);
    return request;
  }
  // An agent whose database is on a disk of this many kilobytes, with nothing else on it.
  void StartOnDisk(int kilobytes) {
    agent().Kill();
    std::filesystem::create_directory(Mounted());
    Shell(absl::StrCat("mount -t tmpfs -o size=", kilobytes, "k tmpfs ", Mounted()));
    for (const char* suffix : {"", "-wal", "-shm"}) {
      if (std::filesystem::exists(Database() + suffix)) {
        std::filesystem::copy_file(Database() + suffix, Mounted() + "/state.db" + suffix);
      }
    }
    std::filesystem::remove(Database());
    std::filesystem::create_symlink(Mounted() + "/state.db", Database());
    agent().Start();
  }
};

// ---- another agent ------------------------------------------------------------------------------------------

TEST_F(StateTest, OneAgentOnADatabaseAndOnThePins) {
  const std::string held = Held();
  NowAndAfterRestart([&] {
    const std::map<std::string, std::string> elsewhere = {{"--socket", agent().directory() + "/other.sock"},
                                                          {"--http", "127.0.0.1:9781"}};
    auto same_state = elsewhere, same_pins = elsewhere;
    same_state["--bpffs-directory"] = "other";
    EXPECT_TRUE(absl::StrContains(FailedStart(same_state), "is another headgated running on it?"));
    same_pins["--state"] = agent().directory() + "/other.db";
    EXPECT_TRUE(absl::StrContains(FailedStart(same_pins), "another headgated uses " + agent().pins()));
    EXPECT_TRUE(Held() == held);
    ExpectDocumentInForce();
  });
  // Two with nothing in common get along.
  agent().Kill();
  agent().Start();
  const std::string other = agent().directory() + "/other";
  Command second({"nsenter", "--net=/run/netns/" + lab().Name("gw"), HG_AGENT, "--state", other + ".db",
                  "--socket", other + ".sock", "--bpffs", agent().directory() + "/bpf", "--bpffs-directory",
                  "other", "--http", "127.0.0.1:9781", "--max-rules", "64", "--max-prefixes", "64"});
  Client of_second("unix:" + other + ".sock");
  ASSERT_TRUE(WaitFor([&] { return of_second.Healthy(); }, std::chrono::seconds(30)));
  EXPECT_EQ(of_second.Status().desired_generation(), 0U);
  ExpectDocumentInForce();
  second.Signal(SIGTERM);
  EXPECT_EQ(second.Wait().code, 0);
}

// ---- damage -------------------------------------------------------------------------------------------------

TEST_F(StateTest, ADamagedDatabaseIsAnErrorAndNotAnEmptyState) {
  const std::string held = Held();
  EXPECT_EQ(agent().Stop(), 0);
  const std::string good = Database() + ".good";
  std::filesystem::copy_file(Database(), good);
  const auto damage = [&](const std::function<void(std::fstream&)>& how) {
    std::fstream file(Database(), std::ios::in | std::ios::out | std::ios::binary);
    how(file);
    file.close();
    const std::string says = FailedStart();
    EXPECT_TRUE(absl::StrContains(says, "state database")) << says;
    EXPECT_TRUE(absl::StrContains(says, Database())) << says;
    std::filesystem::copy_file(good, Database(), std::filesystem::copy_options::overwrite_existing);
  };
  // Not SQLite at all; a page of garbage; half of it gone.
  damage([](std::fstream& file) { file.write("garbage garbage garbage", 23); });
  damage([](std::fstream& file) {
    const std::string garbage(4096, '\xa5');
    for (int page = 1; page < 12; ++page) {
      file.seekp(page * 4096);
      file.write(garbage.data(), static_cast<std::streamsize>(garbage.size()));
    }
  });
  damage([&](std::fstream&) { std::filesystem::resize_file(Database(), 4096); });

  agent().Start();
  EXPECT_TRUE(Held() == held);
  ExpectDocumentInForce();
}

TEST_F(StateTest, ContentsThatMakeNoSenseAreAnError) {
  const std::string held = Held();
  EXPECT_EQ(agent().Stop(), 0);
  const std::string good = Database() + ".good";
  std::filesystem::copy_file(Database(), good);
  for (const auto& [statement, says] : std::initializer_list<std::pair<const char*, const char*>>{
           {"UPDATE meta SET value='99' WHERE name='schema'", "schema 99"},
           {"UPDATE meta SET value='many' WHERE name='generation'", "generation"},
           {"UPDATE object_log SET body=x'ffffffff' WHERE name='wire'", "wire"},
           {"UPDATE object_log SET id=1 WHERE kind=6", "two objects"},
           {"UPDATE object_log SET id=4000000 WHERE name='wire'", "--max-rules"},
           {"UPDATE prefix_chunks SET body=x'0420'", "prefixes cannot be read"},
           {"DROP TABLE objects; CREATE TABLE objects (x)", "state database"},
           {"DROP TABLE object_log; CREATE TABLE object_log (x)", "state database"}}) {
    SCOPED_TRACE(statement);
    Sql(statement);
    const std::string log = FailedStart();
    EXPECT_TRUE(absl::StrContains(log, says)) << log;
    for (const char* suffix : {"-wal", "-shm"}) std::filesystem::remove(Database() + suffix);
    std::filesystem::copy_file(good, Database(), std::filesystem::copy_options::overwrite_existing);
  }
  agent().Start();
  EXPECT_TRUE(Held() == held);
  ExpectDocumentInForce();
}

TEST_F(StateTest, WhereNothingCanBeWrittenNothingStarts) {
  agent().Kill();
  const std::string missing = FailedStart({{"--state", agent().directory() + "/none/state.db"}});
  EXPECT_TRUE(absl::StrContains(missing, "/none/state.db")) << missing;
  const std::string directory = FailedStart({{"--state", agent().directory()}});
  EXPECT_TRUE(absl::StrContains(directory, "state database")) << directory;
  agent().Start();
  StartOnDisk(4096);
  agent().Kill();
  ASSERT_EQ(mount("", Mounted().c_str(), "", MS_REMOUNT | MS_RDONLY, ""), 0);
  const std::string read_only = FailedStart();
  EXPECT_TRUE(absl::StrContains(read_only, "is read-only")) << read_only;
  EXPECT_TRUE(absl::StrContains(read_only, Database())) << read_only;
  ASSERT_EQ(mount("", Mounted().c_str(), "", MS_REMOUNT, ""), 0);
  agent().Start();
  ExpectDocumentInForce();
}

TEST_F(StateTest, AFullDiskRefusesChangesWhole) {
  StartOnDisk(300);
  const std::string held = Held();
  CallStatus status;
  NowAndAfterRestart([&] {
    for (int i = 0; i < 3; ++i) {
      status = ExpectRefused(Rules("r", 8000), kResourceExhausted);
      EXPECT_TRUE(absl::StrContains(status.message, "full")) << status.message;
    }
    EXPECT_TRUE(Held() == held);
  });
  // Updates likewise, each of which is answered.
  const auto updates = api().Update();
  pb::UpdateRequest update;
  *update.mutable_patch()->mutable_upsert() = Rules("r", 8000).config();
  ASSERT_TRUE(updates->Send(update));
  const auto answer = updates->Receive();
  ASSERT_TRUE(answer.has_value());
  EXPECT_EQ(answer->code(), kResourceExhausted);
  EXPECT_TRUE(Held() == held);

  // With room again, everything goes on without a restart.
  ASSERT_EQ(mount("", Mounted().c_str(), "", MS_REMOUNT, "size=64m"), 0);
  ASSERT_TRUE(api().Apply(Rules("r", 8000)).ok());
  NowAndAfterRestart([&] {
    EXPECT_EQ(api().GetAll({pb::KIND_RULE}).size(), 8004U);
    EXPECT_EQ(FateOfPort(53, "100.64.31.63"), "drop_rule");
    ExpectDocumentInForce();
  });
}

// ---- kills --------------------------------------------------------------------------------------------------

TEST_F(StateTest, AKillInTheMidstOfAChangeLeavesTheOneOrTheOther) {
  std::mt19937_64 random = MakeRandom();
  constexpr int kCount = 4000;
  ASSERT_TRUE(api().Apply(Rules("a", kCount)).ok());
  int a = 0, b = 0;
  for (int round = 0; round < 10; ++round) {
    const bool from_a = absl::StrContains(Held(), "\"a0\"");
    Client other(agent().address());
    std::thread apply([&] { other.Apply(Rules(from_a ? "b" : "a", kCount)); });
    // Some way into it: by how much has been written to the log, of more than a megabyte.
    const uintmax_t until = random() % 1'500'000;
    std::error_code error;
    WaitFor([&] { return std::filesystem::file_size(Database() + "-wal", error) > until; },
            std::chrono::milliseconds(300));
    agent().Kill();
    apply.join();
    agent().Start();
    const std::vector<pb::Object> rules = api().GetAll({pb::KIND_RULE});
    ASSERT_EQ(rules.size(), kCount + 4U);
    const bool now_a = rules[0].rule().name()[0] == 'a';
    ++(now_a ? a : b);
    for (int i = 0; i < kCount; ++i) {
      const pb::Rule& rule = rules[static_cast<size_t>(i)].rule();
      ASSERT_EQ(rule.name(), absl::StrCat(now_a ? "a" : "b", kCount - 1 - i));
    }
    EXPECT_EQ(api().Status().applied_generation(), api().Status().desired_generation());
    EXPECT_EQ(FateOfPort(53, "100.64.15.159"), "drop_rule");
    EXPECT_EQ(FateOfPort(53, "100.64.15.160"), "forward_redirect");
  }
  std::printf("a %d times, b %d times\n", a, b);
}

}  // namespace
}  // namespace headgate::testing
