// SPDX-License-Identifier: Apache-2.0
//
// The database after a crash: copies of its files taken or cut anywhere, and a process killed while it writes.
// What is loaded is a state that was committed, and none that was acknowledged is lost.
#include <absl/strings/str_cat.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "agent/control/store.h"
#include "tests/harness/model.h"
#include "tests/harness/random.h"
#include "tests/harness/scratch.h"

namespace headgate::testing {
namespace {

// A history whose states are a function of their generation, with all kinds of change in it.
class History {
 public:
  const Snapshot& Next() {
    const uint64_t n = desired_->generation + 1;
    std::string yaml = absl::StrCat("{upsert: {rules: [{name: r", n % 40, ", priority: ", 1 + n,
                                    ", action: {pass: {}, count: {counter: c", n % 7, "}}}]");
    if (n % 5 == 0)
      absl::StrAppend(&yaml, ", prefix_sets: [{name: s", n % 3, ", prefixes: [0.0.0.", n % 256, "]}]");
    if (n % 11 == 0) absl::StrAppend(&yaml, ", default_action: ", n % 2 == 0 ? "pass" : "drop");
    absl::StrAppend(&yaml, "}, delete_rules: [r", (n + 20) % 40, "]");
    if (n > 20) {
      absl::StrAppend(&yaml, ", prefix_set_changes: [{name: s", n % 3, ", add: [1.0.", n / 256, ".", n % 256,
                      "], remove: [1.0.", (n - 9) / 256, ".", (n - 9) % 256, "]}]");
    }
    return desired_.Must(Patch(yaml + "}"));
  }
  const Snapshot& state() const { return desired_.state(); }

 private:
  Desired desired_;
};

std::string ReadAll(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

class StoreCrash : public ::testing::Test {
 protected:
  std::string LoadedFrom(const std::string& database, const std::string& log, uint64_t* generation) {
    const std::string path = directory_ + "/copy.db";
    std::ofstream(path, std::ios::binary | std::ios::trunc) << database;
    std::ofstream(path + "-wal", std::ios::binary | std::ios::trunc) << log;
    const auto store = Store::Open(path, codec_);
    EXPECT_TRUE(store.ok()) << store.status();
    if (!store.ok()) return "";
    const auto loaded = (*store)->Load();
    EXPECT_TRUE(loaded.ok()) << loaded.status();
    if (!loaded.ok()) return "";
    *generation = (*loaded)->generation;
    return Describe(**loaded);
  }

  Scratch scratch_{"crash"};
  const std::string directory_ = scratch_.path();
  api::ProtoCodec codec_{Actions()};
};

TEST_F(StoreCrash, ALogCutAnywhereGivesTheStateBeforeOrAfter) {
  std::mt19937_64 random = MakeRandom();
  const std::string path = directory_ + "/state.db";
  const auto store = *Store::Open(path, codec_);
  History history;
  int cuts = 0;
  std::string database = ReadAll(path), log = ReadAll(path + "-wal");
  for (int step = 0; step < 80; ++step) {
    const Snapshot before = history.state();
    const Snapshot after = history.Next();
    ASSERT_TRUE(store->Commit(*before, *after).ok());
    const std::string new_database = ReadAll(path), new_log = ReadAll(path + "-wal");
    const std::string old_text = Describe(*before), new_text = Describe(*after);
    uint64_t generation = 0;
    EXPECT_EQ(LoadedFrom(new_database, new_log, &generation), new_text);
    EXPECT_EQ(generation, after->generation);
    // While the log only grew, it may have been cut at any byte of what was added.
    if (new_database == database && new_log.size() > log.size() && new_log.compare(0, log.size(), log) == 0) {
      for (int cut = 0; cut < 6; ++cut) {
        const size_t length = log.size() + random() % (new_log.size() - log.size());
        std::string torn = new_log.substr(0, length);
        // What was not written yet may be anything.
        if (cut % 2 == 1) torn.resize(new_log.size(), static_cast<char>(random()));
        const std::string text = LoadedFrom(database, torn, &generation);
        EXPECT_EQ(text, generation == after->generation ? new_text : old_text) << "cut at " << length;
        ++cuts;
      }
    }
    database = new_database;
    log = new_log;
    ASSERT_FALSE(HasFailure()) << "step " << step;
  }
  EXPECT_GT(cuts, 200);
}

// A copy of both files, one after the other, while nothing writes: what a backup may be.
TEST_F(StoreCrash, CopiesBetweenCommitsAreWhole) {
  const std::string path = directory_ + "/state.db";
  const auto store = *Store::Open(path, codec_);
  History history;
  for (int step = 0; step < 400; ++step) {
    const Snapshot before = history.state();
    ASSERT_TRUE(store->Commit(*before, *history.Next()).ok());
    if (step % 8 != 0) continue;
    uint64_t generation = 0;
    EXPECT_EQ(LoadedFrom(ReadAll(path), ReadAll(path + "-wal"), &generation), Describe(*history.state()));
    EXPECT_EQ(generation, history.state()->generation);
  }
}

TEST_F(StoreCrash, AKilledAgentLosesNothingThatWasAcknowledged) {
  std::mt19937_64 random = MakeRandom();
  const std::string path = directory_ + "/state.db";
  for (int round = 0; round < 8; ++round) {
    std::filesystem::remove(path);
    std::filesystem::remove(path + "-wal");
    int pipe_ends[2];
    ASSERT_EQ(pipe(pipe_ends), 0);
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      const auto store = Store::Open(path, codec_);
      History history;
      while (store.ok()) {
        const Snapshot before = history.state();
        const Snapshot after = history.Next();
        if (!(*store)->Commit(*before, *after).ok()) break;
        if (write(pipe_ends[1], &after->generation, sizeof(uint64_t)) != sizeof(uint64_t)) break;
      }
      _exit(1);
    }
    close(pipe_ends[1]);
    // Killed at some acknowledgement, while it goes on.
    const uint64_t enough = 1 + random() % 150;
    uint64_t acknowledged = 0, got = 0;
    while (acknowledged < enough && read(pipe_ends[0], &got, sizeof(got)) == sizeof(got)) acknowledged = got;
    EXPECT_EQ(acknowledged, enough) << "the child did not commit";
    kill(child, SIGKILL);
    int status = 0;
    waitpid(child, &status, 0);
    while (read(pipe_ends[0], &got, sizeof(got)) == sizeof(got)) acknowledged = got;
    close(pipe_ends[0]);

    const auto store = Store::Open(path, codec_);
    ASSERT_TRUE(store.ok()) << store.status();
    const auto loaded = (*store)->Load();
    ASSERT_TRUE(loaded.ok()) << loaded.status();
    EXPECT_GE((*loaded)->generation, acknowledged);
    EXPECT_LE((*loaded)->generation, acknowledged + 1);
    History history;
    while (history.state()->generation < (*loaded)->generation) history.Next();
    EXPECT_EQ(Describe(**loaded), Describe(*history.state()));
  }
}

}  // namespace
}  // namespace headgate::testing
