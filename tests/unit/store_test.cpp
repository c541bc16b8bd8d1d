// SPDX-License-Identifier: Apache-2.0
//
// The database: what is loaded is what was saved, whatever the history; rollback states, notes, and what is said
// when the file is not what it should be.
#include "agent/control/store.h"

#include <absl/strings/str_cat.h>
#include <gtest/gtest.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "tests/harness/model.h"
#include "tests/harness/random.h"
#include "tests/harness/scratch.h"

namespace headgate::testing {
namespace {

constexpr char kEveryField[] = R"(
interfaces:
  - {name: wan, device: eth0, mode: native}
  - {name: lan, mode: generic}
  - {name: any}
default_action: drop
management:
  allow:
    - {source: 192.0.2.0/24, protocol: tcp, destination_ports: ["22", "1-9"], interface: lan}
    - {source: "2001:db8::/32"}
prefix_sets:
  - {name: bad, prefixes: [10.0.0.0/8, 0.0.0.0/0, "::/0", "2001:db8::1", 192.0.2.1]}
  - {name: empty}
next_hops:
  - {name: up, interface: wan, mac: 02:00:00:00:00:01}
  - {name: tagged, interface: wan, mac: 02:00:00:00:00:02, source_mac: 02:00:00:00:00:03, vlan: 0, decrement_ttl: true}
steer_targets: [{name: app, fallback: drop}, {name: other}]
rules:
  - name: all
    priority: 2147483647
    match:
      {interface: wan, vlan: 0, inner_vlan: 4094, source: 10.0.0.0/8, destination_set: bad, protocol: tcp,
       source_ports: ["1", "2-3"], destination_ports: ["0-65535"], tcp_flags: "syn,!ack", dscp: 63, fragment: first,
       packet_length: "40-1500"}
    action: {redirect: {interface: lan, source_mac: 02:00:00:00:00:04, destination_mac: 01:00:5e:00:00:01},
             count: {counter: hits}, rate_limit: {bits_per_second: 1000000000000, burst: 5, per: source}, sample: {one_in: 7}}
  - {name: icmp, priority: 1, match: {protocol: icmpv6, icmp_type: 0, icmp_code: 255, destination: "fc00::/7"}, action: {tx: {swap: ports}}}
  - {name: hop, priority: 2, action: {next_hop: {name: up}, count: {counter: hits}}}
  - {name: steer, priority: 3, match: {fragment: later}, action: {steer: {target: app}}}
  - {name: route, priority: 4, match: {protocol: "200"}, action: {route: {}, rate_limit: {packets_per_second: 1}}}
  - {name: tx, priority: 5, match: {source_set: empty}, action: {tx: {}, count: {counter: other}}}
  - {name: pass, priority: 6, action: {pass: {}}}
)";

class StoreTest : public ::testing::Test {
 protected:
  StoreTest() { Open(); }

  void Open() {
    store_.reset();
    auto store = Store::Open(path_, codec_);
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
  }
  absl::Status Commit(const Snapshot& before, const Snapshot& after, const Store::Notes& notes = {}) {
    return store_->Commit(*before, *after, notes);
  }
  // Applies and commits.
  void Save(Change change) {
    const Snapshot before = desired_.state();
    desired_.Must(std::move(change));
    const absl::Status status = Commit(before, desired_.state());
    ASSERT_TRUE(status.ok()) << status;
  }
  void ExpectLoaded(const State& expected) {
    const auto loaded = store_->Load();
    ASSERT_TRUE(loaded.ok()) << loaded.status();
    EXPECT_EQ(Describe(**loaded), Describe(expected));
    EXPECT_EQ((*loaded)->generation, expected.generation);
  }
  // A statement behind the store's back.
  void Sql(const std::string& statement) {
    store_.reset();
    sqlite3* database = nullptr;
    ASSERT_EQ(sqlite3_open(path_.c_str(), &database), SQLITE_OK);
    char* error = nullptr;
    EXPECT_EQ(sqlite3_exec(database, statement.c_str(), nullptr, nullptr, &error), SQLITE_OK)
        << (error ? error : "");
    sqlite3_close(database);
  }

  // Closes the store.
  int CountRows(const std::string& table) {
    store_.reset();
    sqlite3* database = nullptr;
    sqlite3_stmt* count = nullptr;
    int rows = -1;
    EXPECT_EQ(sqlite3_open(path_.c_str(), &database), SQLITE_OK);
    EXPECT_EQ(
        sqlite3_prepare_v2(database, absl::StrCat("SELECT COUNT(*) FROM ", table).c_str(), -1, &count, nullptr),
        SQLITE_OK);
    if (sqlite3_step(count) == SQLITE_ROW) rows = sqlite3_column_int(count, 0);
    sqlite3_finalize(count);
    sqlite3_close(database);
    return rows;
  }

  Scratch scratch_{"store"};
  const std::string directory_ = scratch_.path();
  const std::string path_ = directory_ + "/state.db";
  api::ProtoCodec codec_{Actions()};
  std::unique_ptr<Store> store_;
  Desired desired_;
};

TEST_F(StoreTest, ANewOneIsEmpty) {
  ExpectLoaded(State{});
  EXPECT_FALSE(*store_->LoadUnconfirmed());
  EXPECT_EQ(*store_->GetNote("anything"), "");
}

TEST_F(StoreTest, EveryFieldComesBack) {
  Save(Config(kEveryField));
  ExpectLoaded(*desired_);
  Open();
  ExpectLoaded(*desired_);
}

TEST_F(StoreTest, OnlyTheDifferenceIsWrittenAndAllOfItIsThere) {
  Save(Config(kEveryField));
  Save(Patch(R"(
upsert:
  rules: [{name: tx, priority: 50, action: {drop: {}}}, {name: new, priority: 51, action: {pass: {}, count: {counter: third}}}]
  prefix_sets: [{name: empty, prefixes: [1.2.3.4]}]
  default_action: pass
delete_rules: [route, hop]
delete_steer_targets: [other]
delete_next_hops: [tagged]
prefix_set_changes: [{name: bad, add: [9.9.9.9], remove: ["::/0"]}]
)"));
  ExpectLoaded(*desired_);
  Open();
  ExpectLoaded(*desired_);
  Save(Config("{}"));
  Open();
  ExpectLoaded(*desired_);
  EXPECT_EQ(desired_->generation, 3u);
}

TEST_F(StoreTest, RandomHistoriesOfPrefixesComeBack) {
  std::mt19937_64 random = MakeRandom();
  Save(Config("prefix_sets: [{name: a}, {name: b}]"));
  const auto draw = [&](uint32_t range) {
    Prefix prefix;
    prefix.length = 32;
    prefix.address.words[0] = static_cast<uint32_t>(random() % range);
    if (random() % 3 == 0) {
      prefix.address.family = Family::kIpv6;
      prefix.address.words = {1, 2, 3, static_cast<uint32_t>(random() % range)};
      prefix.length = 128;
    }
    return prefix;
  };
  for (int step = 0; step < 60; ++step) {
    Change change;
    const std::string name = random() % 2 == 0 ? "a" : "b";
    if (random() % 12 == 0) {
      // Away and back: with another id, and nothing of the old one.
      change.delete_prefix_sets = {name};
      Save(std::move(change));
      Save(Patch("upsert: {prefix_sets: [{name: " + name + "}]}"));
      continue;
    }
    // Few edits go to a log, many have the set written whole, and the log has an end.
    PrefixSetEdit edit{.name = name, .path = "edit"};
    const uint64_t count = random() % 4 == 0 ? 5000 : random() % 300;
    for (uint64_t i = 0; i < count; ++i) (random() % 4 != 0 ? edit.add : edit.remove).push_back(draw(8000));
    change.prefix_set_edits.push_back(std::move(edit));
    Save(std::move(change));
    if (step % 6 == 0) Open();
    if (step % 3 == 0) ExpectLoaded(*desired_);
    ASSERT_FALSE(HasFailure()) << "step " << step;
  }
  Open();
  ExpectLoaded(*desired_);
}

// Several changes may share a transaction: a set that is deleted and made anew comes in one difference, with two
// ids.
TEST_F(StoreTest, ASetThatWasMadeAnewInOneTransaction) {
  Save(Config("prefix_sets: [{name: a, prefixes: [1.1.1.1]}]"));
  Save(Patch("prefix_set_changes: [{name: a, add: [2.2.2.2]}]"));
  const Snapshot before = desired_.state();
  const uint32_t id = before->prefix_sets.Get("a")->id;
  desired_.Must(Patch("delete_prefix_sets: [a]"));
  const Snapshot after = desired_.Must(Patch("upsert: {prefix_sets: [{name: a, prefixes: [3.3.3.3]}]}"));
  ASSERT_NE(after->prefix_sets.Get("a")->id, id);
  ASSERT_TRUE(Commit(before, after).ok());
  Open();
  ExpectLoaded(*after);
}

TEST_F(StoreTest, TheLogOfPrefixEditsHasAnEnd) {
  Save(Config("prefix_sets: [{name: a}]"));
  for (int i = 0; i < 3000; ++i) {
    Save(Patch(absl::StrCat("prefix_set_changes: [{name: a, ", i % 2 == 0 ? "add" : "remove", ": [1.2.3.4]}]")));
  }
  EXPECT_LE(CountRows("prefix_edits"), 1000);
  Open();
  ExpectLoaded(*desired_);
}

TEST_F(StoreTest, NotesAreOfTheSameTransaction) {
  const Snapshot before = desired_.state();
  const Snapshot after = desired_.Must(Config(kEveryField));
  ASSERT_TRUE(Commit(before, after, {{"file", std::string("a\0b", 3)}, {"other", ""}}).ok());
  EXPECT_EQ(*store_->GetNote("file"), std::string("a\0b", 3));
  ASSERT_TRUE(Commit(after, after, {{"file", "second"}}).ok());
  Open();
  EXPECT_EQ(*store_->GetNote("file"), "second");
  EXPECT_EQ(*store_->GetNote("none"), "");
  ExpectLoaded(*after);
}

TEST_F(StoreTest, AnUnconfirmedChangeKeepsWhatWasBefore) {
  Save(Config(kEveryField));
  Save(Patch("prefix_set_changes: [{name: bad, add: [7.7.7.7], remove: [10.0.0.0/8]}]"));
  const Snapshot before = desired_.state();
  const std::string text = Describe(*before);
  const Snapshot after = desired_.Must(Config("rules: [{name: pass, priority: 6, action: {drop: {}}}]"));
  const auto deadline = std::chrono::system_clock::now() + std::chrono::seconds(60);
  ASSERT_TRUE(store_->Commit(*before, *after, {}, deadline).ok());
  Open();
  ExpectLoaded(*after);
  const auto unconfirmed = store_->LoadUnconfirmed();
  ASSERT_TRUE(unconfirmed.ok()) << unconfirmed.status();
  ASSERT_TRUE(*unconfirmed);
  EXPECT_EQ(Describe(*(*unconfirmed)->previous), text);
  EXPECT_EQ((*unconfirmed)->previous->generation, before->generation);
  const auto skew = std::chrono::abs((*unconfirmed)->deadline - deadline);
  EXPECT_LE(skew, std::chrono::milliseconds(1));

  ASSERT_TRUE(store_->Confirm().ok());
  EXPECT_FALSE(*store_->LoadUnconfirmed());
  ExpectLoaded(*after);
  Open();
  EXPECT_FALSE(*store_->LoadUnconfirmed());
}

TEST_F(StoreTest, ARollbackIsACommitOfWhatWasBefore) {
  Save(Config(kEveryField));
  const Snapshot before = desired_.state();
  const Snapshot after = desired_.Must(Config("prefix_sets: [{name: bad, prefixes: [5.5.5.5]}]"));
  ASSERT_TRUE(store_->Commit(*before, *after, {}, std::chrono::system_clock::now()).ok());
  Open();
  // As a restarted agent does it: both states come from the database and share nothing.
  const Snapshot current = *store_->Load();
  State back = *(*store_->LoadUnconfirmed())->previous;
  back.generation = current->generation + 1;
  ASSERT_TRUE(store_->Commit(*current, back).ok());
  EXPECT_FALSE(*store_->LoadUnconfirmed());
  Open();
  ExpectLoaded(back);
  EXPECT_EQ(Describe(back), Describe(*before));
}

// Changes to single rules go to a log that has an end, and what is loaded is the last of each, deletions and what
// came back after one included.
TEST_F(StoreTest, TheLogOfObjectsHasAnEnd) {
  std::mt19937_64 random = MakeRandom();
  int longest = 0;
  for (int i = 0; i < 600; ++i) {
    const uint64_t n = random() % 40;
    const bool deletes = random() % 3 == 0;
    Save(Patch(deletes ? absl::StrCat("delete_rules: [r", n, "]")
                       : absl::StrCat("upsert: {rules: [{name: r", n, ", priority: ", n + 1, ", action: {",
                                      random() % 2 == 0 ? "pass" : "drop", ": {}, count: {counter: c", n % 5,
                                      "}}}]}")));
    if (i % 7 != 0) continue;
    longest = std::max(longest, CountRows("object_log"));
    Open();
    ExpectLoaded(*desired_);
    ASSERT_FALSE(HasFailure()) << "change " << i;
  }
  EXPECT_GT(longest, 20);
  EXPECT_LE(longest, 64);
  EXPECT_GT(CountRows("objects"), 20);
  EXPECT_EQ(CountRows("objects WHERE body IS NULL"), 0) << "a deletion was taken in as an object";
}

// What an agent without a log of objects left.
TEST_F(StoreTest, TheFirstSchemaIsReadAndBroughtUp) {
  Save(Config(kEveryField));
  Sql("INSERT INTO objects (kind, name, id, body) SELECT kind, name, id, body FROM object_log;"
      "DROP TABLE object_log; DROP TABLE old_object_log; UPDATE meta SET value = '1' WHERE name = 'schema'");
  Open();
  ExpectLoaded(*desired_);
  EXPECT_EQ(*store_->GetNote("schema"), "2");
  Save(Patch("delete_rules: [pass]"));
  Open();
  ExpectLoaded(*desired_);
}

TEST_F(StoreTest, OneAgentAtATime) {
  const auto second = Store::Open(path_, codec_);
  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable) << second.status();
  EXPECT_NE(second.status().message().find("is another headgated running on it?"), absl::string_view::npos);
  store_.reset();
  Open();
}

TEST_F(StoreTest, ASchemaOfAnotherVersionIsNotTouched) {
  Save(Config(kEveryField));
  Sql("UPDATE meta SET value = '3' WHERE name = 'schema'");
  const auto store = Store::Open(path_, codec_);
  EXPECT_EQ(store.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(store.status().message(),
            "the state database has schema 3 and this headgated knows only 2: run the version "
            "that wrote it, or move it away");
  Sql("UPDATE meta SET value = '2' WHERE name = 'schema'");
  Open();
  ExpectLoaded(*desired_);
}

TEST_F(StoreTest, NoSuchDirectory) {
  const auto store = Store::Open(directory_ + "/no/such/state.db", codec_);
  ASSERT_FALSE(store.ok());
  EXPECT_NE(store.status().message().find(directory_ + "/no/such/state.db"), absl::string_view::npos)
      << store.status();
}

// As nobody: root may write anything.
TEST_F(StoreTest, AFileThatCannotBeWritten) {
  Save(Config(kEveryField));
  store_.reset();
  chmod(path_.c_str(), 0444);
  chmod(directory_.c_str(), 0555);
  const uid_t user = geteuid();
  ASSERT_TRUE(user != 0 || seteuid(65534) == 0);
  const auto store = Store::Open(path_, codec_);
  ASSERT_TRUE(user != 0 || seteuid(0) == 0);
  chmod(directory_.c_str(), 0755);
  chmod(path_.c_str(), 0644);
  ASSERT_FALSE(store.ok());
  EXPECT_NE(store.status().message().find("state database"), absl::string_view::npos) << store.status();
  Open();
  ExpectLoaded(*desired_);
}

TEST_F(StoreTest, AFileThatIsNoDatabase) {
  store_.reset();
  std::ofstream(path_, std::ios::trunc) << std::string(8192, 'x');
  const auto store = Store::Open(path_, codec_);
  EXPECT_EQ(store.status().code(), absl::StatusCode::kDataLoss) << store.status();
}

TEST_F(StoreTest, RowsThatCannotBeReadAreNamed) {
  const auto load_error = [&](const std::string& statement) {
    std::filesystem::remove(path_);
    desired_ = Desired();
    Open();
    Save(Config(kEveryField));
    Sql(statement);
    Open();
    const auto loaded = store_->Load();
    EXPECT_EQ(loaded.status().code(), absl::StatusCode::kDataLoss) << statement;
    return std::string(loaded.status().message());
  };
  EXPECT_EQ(load_error("UPDATE object_log SET body = x'ff' WHERE name = 'hop'"),
            "state database: hop: the object is not a message of its kind");
  // A message of its kind with text that is none.
  EXPECT_NE(load_error("UPDATE object_log SET body = x'0a0175' WHERE name = 'up'").find("state database: up: "),
            std::string::npos);
  EXPECT_EQ(load_error("UPDATE meta SET value = 'x' WHERE name = 'generation'"),
            "state database: the generation is not a number");
  EXPECT_EQ(load_error("UPDATE prefix_chunks SET body = x'0420'"),
            "state database: a prefix set's prefixes cannot be read");
  EXPECT_EQ(load_error("UPDATE prefix_chunks SET set_id = 77"),
            "state database: a prefix set's prefixes cannot be read");
  EXPECT_EQ(load_error("INSERT INTO prefix_edits (set_id, added, prefix) VALUES (0, 1, x'07')"),
            "state database: a prefix set's prefixes cannot be read");
}

// What names something that is not there would bring the compiler down.
TEST_F(StoreTest, RowsThatDoNotBelongTogetherAreRefused) {
  for (const char* name : {"lan", "wan", "bad", "up", "app", "hits"}) {
    std::filesystem::remove(path_);
    desired_ = Desired();
    Open();
    Save(Config(kEveryField));
    Sql(absl::StrCat("DELETE FROM object_log WHERE name = '", name, "'; DELETE FROM prefix_chunks"));
    Open();
    const auto loaded = store_->Load();
    EXPECT_EQ(loaded.status().code(), absl::StatusCode::kDataLoss) << name;
    EXPECT_NE(loaded.status().message().find(absl::StrCat("\"", name, "\"")), absl::string_view::npos)
        << loaded.status();
  }
}

TEST_F(StoreTest, GarbageInTheFileNeverGetsFurther) {
  std::mt19937_64 random = MakeRandom();
  Save(Config(kEveryField));
  store_.reset();
  std::ifstream file(path_, std::ios::binary);
  const std::string good((std::istreambuf_iterator<char>(file)), {});
  ASSERT_GT(good.size(), 8192u);
  int refused = 0, loaded_all = 0;
  for (int round = 0; round < 300; ++round) {
    std::string bad = good;
    for (uint64_t flips = 1 + random() % 8; flips > 0; --flips)
      bad[random() % bad.size()] = static_cast<char>(random());
    if (random() % 8 == 0) bad.resize(random() % bad.size());
    std::filesystem::remove(path_ + "-wal");
    std::ofstream(path_, std::ios::binary | std::ios::trunc) << bad;
    auto store = Store::Open(path_, codec_);
    if (!store.ok()) {
      ++refused;
      continue;
    }
    const auto loaded = (*store)->Load();
    ++(loaded.ok() ? loaded_all : refused);
    (void)(*store)->LoadUnconfirmed();
    if (loaded.ok()) (void)Describe(**loaded);
  }
  std::printf("%d refused, %d loaded\n", refused, loaded_all);
  EXPECT_GT(refused, 0);
}

}  // namespace
}  // namespace headgate::testing
