// SPDX-License-Identifier: Apache-2.0
//
// The desired state on disk: one SQLite database, one transaction for each batch of changes. For one thread at a
// time.
//
// Objects are rows of (kind, name, id, body), and a log of such rows since. The prefixes of a set are kept apart,
// as chunks written with the set and a log of single edits since, so that changing one prefix of a million writes
// a few bytes.
#pragma once

#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "agent/control/state.h"

struct sqlite3;

namespace headgate {

// The form of objects on disk, chosen where the API's messages are known. Ids and a set's prefixes are not part
// of it.
class ObjectCodec {
 public:
  virtual ~ObjectCodec() = default;
  virtual std::string Encode(const Settings& settings) const = 0;
  virtual std::string Encode(const Interface& interface) const = 0;
  virtual std::string Encode(const PrefixSet& set) const = 0;
  virtual std::string Encode(const NextHop& hop) const = 0;
  virtual std::string Encode(const SteerTarget& target) const = 0;
  virtual std::string Encode(const MulticastRoute& route) const = 0;
  virtual std::string Encode(const Rule& rule) const = 0;
  virtual absl::StatusOr<Settings> DecodeSettings(absl::string_view body) const = 0;
  virtual absl::StatusOr<Interface> DecodeInterface(absl::string_view body) const = 0;
  virtual absl::StatusOr<PrefixSet> DecodePrefixSet(absl::string_view body) const = 0;
  virtual absl::StatusOr<NextHop> DecodeNextHop(absl::string_view body) const = 0;
  virtual absl::StatusOr<SteerTarget> DecodeSteerTarget(absl::string_view body) const = 0;
  virtual absl::StatusOr<MulticastRoute> DecodeMulticastRoute(absl::string_view body) const = 0;
  virtual absl::StatusOr<Rule> DecodeRule(absl::string_view body) const = 0;
};

// A change that waits for confirmation, and what it goes back to without.
struct Unconfirmed {
  std::chrono::system_clock::time_point deadline;
  Snapshot previous;
};

class Store {
 public:
  // Creates the database when there is none. Only one process may have it open.
  static absl::StatusOr<std::unique_ptr<Store>> Open(const std::string& path, const ObjectCodec& codec);
  ~Store();

  absl::StatusOr<Snapshot> Load();
  absl::StatusOr<std::optional<Unconfirmed>> LoadUnconfirmed();

  // Values of the agent's own by name, kept beside the state.
  using Notes = std::vector<std::pair<std::string, std::string>>;

  // Writes what differs, and the notes; durable when it returns. With a deadline, also keeps `before` for a
  // rollback, until the next Commit without one.
  absl::Status Commit(const State& before, const State& after, const Notes& notes = {},
                      std::optional<std::chrono::system_clock::time_point> confirm_by = std::nullopt);
  // Forgets what was kept for a rollback.
  absl::Status Confirm();

  // Empty when there is none.
  absl::StatusOr<std::string> GetNote(const std::string& name);

 private:
  class Statement;

  Store(sqlite3* database, const ObjectCodec& codec) : database_(database), codec_(codec) {}
  absl::Status Execute(const char* sql);
  absl::Status CreateTables();
  absl::Status SetNote(const std::string& name, const std::string& value);
  absl::Status WriteDifferences(const State& before, const State& after);
  absl::Status WriteObjects(const State& before, const State& after, bool log);
  absl::Status FoldLog();
  absl::Status WritePrefixes(const PrefixSet* before, const PrefixSet* after);
  absl::Status WriteChunks(const PrefixSet& set);
  absl::StatusOr<Snapshot> LoadFrom(const std::string& tables);
  absl::Status ReadObject(Statement& row, State& state) const;
  absl::Status LoadObjects(const std::string& tables, State& state);
  absl::Status LoadPrefixes(const std::string& tables, State& state);
  absl::Status Failed(const std::string& tried) const;

  sqlite3* database_;
  const ObjectCodec& codec_;
};

}  // namespace headgate
