// SPDX-License-Identifier: Apache-2.0
#include "agent/control/store.h"

#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>
#include <sqlite3.h>

#include <array>
#include <unordered_map>
#include <vector>

#include "agent/base/status.h"
#include "agent/control/validate.h"

namespace headgate {
namespace {

constexpr int kSchema = 1;
constexpr size_t kPrefixesPerChunk = 4096;
// Edits are logged until there are this many for a set, or a quarter of its size; then it is written whole.
constexpr uint64_t kMinLoggedEdits = 1000;

void AppendPrefix(const Prefix& prefix, std::string& out) {
  out.push_back(static_cast<char>(prefix.address.family));
  out.push_back(static_cast<char>(prefix.length));
  for (int i = 0; i < (prefix.address.family == Family::kIpv4 ? 1 : 4); ++i) {
    for (int shift = 24; shift >= 0; shift -= 8)
      out.push_back(static_cast<char>(prefix.address.words[i] >> shift));
  }
}

// Takes one prefix off the front; false when what is there is none.
bool TakePrefix(absl::string_view& in, Prefix& prefix) {
  if (in.size() < 2 || (in[0] != 4 && in[0] != 6)) return false;
  prefix = {};
  prefix.address.family = static_cast<Family>(in[0]);
  prefix.length = static_cast<uint8_t>(in[1]);
  const size_t words = prefix.address.family == Family::kIpv4 ? 1 : 4;
  if (in.size() < 2 + 4 * words || prefix.length > 32 * words) return false;
  for (size_t i = 0; i < 4 * words; ++i) {
    prefix.address.words[i / 4] = prefix.address.words[i / 4] << 8 | static_cast<uint8_t>(in[2 + i]);
  }
  in.remove_prefix(2 + 4 * words);
  return true;
}

}  // namespace

// A prepared statement, for one use.
class Store::Statement {
 public:
  Statement(Store& store, const std::string& sql) : store_(store), sql_(sql) {
    sqlite3_prepare_v2(store.database_, sql.c_str(), -1, &statement_, nullptr);
  }
  ~Statement() { sqlite3_finalize(statement_); }
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;

  Statement& Bind(int at, int64_t value) {
    sqlite3_bind_int64(statement_, at, value);
    return *this;
  }
  // The text must outlive the step.
  Statement& BindText(int at, absl::string_view value) {
    sqlite3_bind_text(statement_, at, value.data(), static_cast<int>(value.size()), SQLITE_STATIC);
    return *this;
  }
  Statement& BindBlob(int at, absl::string_view value) {
    sqlite3_bind_blob(statement_, at, value.data(), static_cast<int>(value.size()), SQLITE_STATIC);
    return *this;
  }

  // True when there is a row.
  absl::StatusOr<bool> Step() {
    const int result = statement_ != nullptr ? sqlite3_step(statement_) : SQLITE_ERROR;
    if (result == SQLITE_ROW) return true;
    if (result == SQLITE_DONE) return false;
    return store_.Failed(sql_);
  }
  // For statements without rows; ready to be bound again.
  absl::Status Run() {
    absl::Status status = Step().status();
    if (statement_ != nullptr) sqlite3_reset(statement_);
    return status;
  }

  int64_t Int(int column) { return sqlite3_column_int64(statement_, column); }
  std::string Bytes(int column) {
    const void* data = sqlite3_column_blob(statement_, column);
    return data == nullptr ? std::string()
                           : std::string(static_cast<const char*>(data),
                                         static_cast<size_t>(sqlite3_column_bytes(statement_, column)));
  }

 private:
  Store& store_;
  std::string sql_;
  sqlite3_stmt* statement_ = nullptr;
};

absl::Status Store::Failed(const std::string& tried) const {
  const int code = sqlite3_errcode(database_);
  const char* file = sqlite3_db_filename(database_, "main");
  const std::string message =
      absl::StrCat("state database", file != nullptr && *file != '\0' ? " " : "", file != nullptr ? file : "",
                   ": ", tried, ": ", sqlite3_errmsg(database_));
  if (code == SQLITE_FULL) return absl::ResourceExhaustedError(message);
  if (code == SQLITE_CORRUPT || code == SQLITE_NOTADB) {
    return absl::DataLossError(
        absl::StrCat(message, " (restore a copy of it, or move it away to begin with nothing)"));
  }
  if (code == SQLITE_BUSY || code == SQLITE_LOCKED) {
    return absl::UnavailableError(absl::StrCat(message, " (is another headgated running on it?)"));
  }
  return absl::InternalError(message);
}

absl::Status Store::Execute(const char* sql) {
  return sqlite3_exec(database_, sql, nullptr, nullptr, nullptr) == SQLITE_OK ? absl::OkStatus() : Failed(sql);
}

absl::StatusOr<std::unique_ptr<Store>> Store::Open(const std::string& path, const ObjectCodec& codec) {
  sqlite3* database = nullptr;
  const int result = sqlite3_open_v2(path.c_str(), &database,
                                     SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, nullptr);
  std::unique_ptr<Store> store(new Store(database, codec));
  if (result != SQLITE_OK) return store->Failed(absl::StrCat("open ", path));
  if (sqlite3_db_readonly(database, "main") == 1) {
    return absl::PermissionDeniedError(absl::StrCat("state database ", path, " is read-only"));
  }
  // A write-ahead log with a sync at every commit: an acknowledged change survives a power failure.
  HG_RETURN_IF_ERROR(store->Execute("PRAGMA locking_mode=EXCLUSIVE"));
  HG_RETURN_IF_ERROR(store->Execute("PRAGMA journal_mode=WAL"));
  HG_RETURN_IF_ERROR(store->Execute("PRAGMA synchronous=FULL"));
  HG_RETURN_IF_ERROR(store->CreateTables());
  return store;
}

Store::~Store() { sqlite3_close(database_); }

absl::Status Store::CreateTables() {
  HG_RETURN_IF_ERROR(Execute("BEGIN IMMEDIATE"));
  for (const char* tables : {"", "old_"}) {
    HG_RETURN_IF_ERROR(Execute(absl::StrCat("CREATE TABLE IF NOT EXISTS ", tables, "meta ",
                                            "(name TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID")
                                   .c_str()));
    HG_RETURN_IF_ERROR(
        Execute(absl::StrCat("CREATE TABLE IF NOT EXISTS ", tables, "objects ",
                             "(kind INTEGER, name TEXT, id INTEGER, body BLOB, PRIMARY KEY (kind, name)) "
                             "WITHOUT ROWID")
                    .c_str()));
    HG_RETURN_IF_ERROR(
        Execute(absl::StrCat("CREATE TABLE IF NOT EXISTS ", tables, "prefix_chunks ",
                             "(set_id INTEGER, chunk INTEGER, body BLOB, PRIMARY KEY (set_id, chunk)) "
                             "WITHOUT ROWID")
                    .c_str()));
    HG_RETURN_IF_ERROR(
        Execute(absl::StrCat("CREATE TABLE IF NOT EXISTS ", tables, "prefix_edits ",
                             "(seq INTEGER PRIMARY KEY, set_id INTEGER, added INTEGER, prefix BLOB)")
                    .c_str()));
  }
  HG_RETURN_IF_ERROR(Execute("COMMIT"));
  HG_ASSIGN_OR_RETURN(const std::string schema, GetNote("schema"));
  if (schema.empty()) return SetNote("schema", absl::StrCat(kSchema));
  if (schema != absl::StrCat(kSchema)) {
    return absl::FailedPreconditionError(absl::StrCat("the state database has schema ", schema,
                                                      " and this headgated knows only ", kSchema,
                                                      ": run the version that wrote it, or move it away"));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> Store::GetNote(const std::string& name) {
  Statement select(*this, "SELECT value FROM meta WHERE name = ?");
  select.BindText(1, name);
  HG_ASSIGN_OR_RETURN(const bool found, select.Step());
  return found ? select.Bytes(0) : std::string();
}

absl::Status Store::SetNote(const std::string& name, const std::string& value) {
  Statement put(*this, "INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)");
  return put.BindText(1, name).BindBlob(2, value).Run();
}

absl::Status Store::WriteChunks(const PrefixSet& set) {
  Statement clear_chunks(*this, "DELETE FROM prefix_chunks WHERE set_id = ?");
  HG_RETURN_IF_ERROR(clear_chunks.Bind(1, set.id).Run());
  Statement clear_edits(*this, "DELETE FROM prefix_edits WHERE set_id = ?");
  HG_RETURN_IF_ERROR(clear_edits.Bind(1, set.id).Run());
  Statement put(*this, "INSERT INTO prefix_chunks (set_id, chunk, body) VALUES (?, ?, ?)");
  std::string body;
  int64_t chunk = 0;
  size_t count = 0;
  absl::Status status;
  const auto flush = [&] {
    status.Update(put.Bind(1, set.id).Bind(2, chunk++).BindBlob(3, body).Run());
    body.clear();
    count = 0;
  };
  set.prefixes.ForEach([&](const Prefix& prefix) {
    AppendPrefix(prefix, body);
    if (++count == kPrefixesPerChunk) flush();
  });
  if (count != 0) flush();
  return status;
}

absl::Status Store::WritePrefixes(const PrefixSet* before, const PrefixSet* after) {
  if (before && (!after || after->id != before->id)) {
    PrefixSet none;
    none.id = before->id;
    HG_RETURN_IF_ERROR(WriteChunks(none));
  }
  if (!after) return absl::OkStatus();
  if (!before || before->id != after->id) return WriteChunks(*after);

  uint64_t edits = 0;
  PrefixMap::ForEachDifference(before->prefixes, after->prefixes, [&](const Prefix*, const Prefix*) { ++edits; });
  if (edits == 0) return absl::OkStatus();
  Statement count(*this, "SELECT COUNT(*) FROM prefix_edits WHERE set_id = ?");
  HG_RETURN_IF_ERROR(count.Bind(1, after->id).Step().status());
  if (edits + static_cast<uint64_t>(count.Int(0)) >
      std::max<uint64_t>(kMinLoggedEdits, after->prefixes.size() / 4)) {
    return WriteChunks(*after);
  }
  Statement log(*this, "INSERT INTO prefix_edits (set_id, added, prefix) VALUES (?, ?, ?)");
  absl::Status status;
  PrefixMap::ForEachDifference(before->prefixes, after->prefixes, [&](const Prefix* gone, const Prefix* come) {
    std::string bytes;
    AppendPrefix(come ? *come : *gone, bytes);
    status.Update(log.Bind(1, after->id).Bind(2, come ? 1 : 0).BindBlob(3, bytes).Run());
  });
  return status;
}

absl::Status Store::WriteDifferences(const State& before, const State& after) {
  Statement put(*this, "INSERT OR REPLACE INTO objects (kind, name, id, body) VALUES (?, ?, ?, ?)");
  Statement erase(*this, "DELETE FROM objects WHERE kind = ? AND name = ?");
  absl::Status status;
  ForEachDifference(before, after, [&](Kind kind, const std::string& name, const auto* old, const auto* now) {
    if (!status.ok()) return;
    using Object = std::remove_cv_t<std::remove_pointer_t<decltype(now)>>;
    if constexpr (std::is_same_v<Object, PrefixSet>) status.Update(WritePrefixes(old, now));
    put.Bind(1, static_cast<int64_t>(kind)).BindText(2, name);
    if (!now) {
      status.Update(erase.Bind(1, static_cast<int64_t>(kind)).BindText(2, name).Run());
    } else if constexpr (std::is_same_v<Object, Counter>) {
      status.Update(put.Bind(3, now->id).BindBlob(4, "").Run());
    } else if constexpr (std::is_same_v<Object, Settings>) {
      status.Update(put.Bind(3, 0).BindBlob(4, codec_.Encode(*now)).Run());
    } else {
      const std::string body = codec_.Encode(*now);
      status.Update(put.Bind(3, now->id).BindBlob(4, body).Run());
    }
  });
  HG_RETURN_IF_ERROR(status);
  return SetNote("generation", absl::StrCat(after.generation));
}

absl::Status Store::Commit(const State& before, const State& after, const Notes& notes,
                           std::optional<std::chrono::system_clock::time_point> confirm_by) {
  HG_RETURN_IF_ERROR(Execute("BEGIN IMMEDIATE"));
  absl::Status status;
  for (const char* table : {"meta", "objects", "prefix_chunks", "prefix_edits"}) {
    status.Update(Execute(absl::StrCat("DELETE FROM old_", table).c_str()));
    if (confirm_by)
      status.Update(Execute(absl::StrCat("INSERT INTO old_", table, " SELECT * FROM ", table).c_str()));
  }
  status.Update(WriteDifferences(before, after));
  for (const auto& [name, value] : notes) status.Update(SetNote(name, value));
  if (confirm_by) {
    const auto since_epoch =
        std::chrono::duration_cast<std::chrono::milliseconds>(confirm_by->time_since_epoch()).count();
    Statement put(*this, "INSERT OR REPLACE INTO old_meta (name, value) VALUES ('confirm_by_ms', ?)");
    status.Update(put.BindBlob(1, absl::StrCat(since_epoch)).Run());
  }
  if (status.ok()) status = Execute("COMMIT");
  if (!status.ok()) sqlite3_exec(database_, "ROLLBACK", nullptr, nullptr, nullptr);
  return status;
}

absl::Status Store::Confirm() {
  HG_RETURN_IF_ERROR(Execute("BEGIN IMMEDIATE"));
  absl::Status status;
  for (const char* table : {"meta", "objects", "prefix_chunks", "prefix_edits"}) {
    status.Update(Execute(absl::StrCat("DELETE FROM old_", table).c_str()));
  }
  if (status.ok()) status = Execute("COMMIT");
  if (!status.ok()) sqlite3_exec(database_, "ROLLBACK", nullptr, nullptr, nullptr);
  return status;
}

absl::Status Store::LoadPrefixes(const std::string& tables, State& state) {
  std::unordered_map<uint32_t, PrefixSet> sets;
  state.prefix_sets.ForEach([&](const std::shared_ptr<const PrefixSet>& set) { sets.emplace(set->id, *set); });
  const auto garbage = [] {
    return absl::DataLossError("state database: a prefix set's prefixes cannot be read");
  };

  Statement chunks(*this, absl::StrCat("SELECT set_id, body FROM ", tables, "prefix_chunks"));
  while (true) {
    HG_ASSIGN_OR_RETURN(const bool row, chunks.Step());
    if (!row) break;
    const auto set = sets.find(static_cast<uint32_t>(chunks.Int(0)));
    const std::string body = chunks.Bytes(1);
    absl::string_view left = body;
    Prefix prefix;
    while (!left.empty()) {
      if (set == sets.end() || !TakePrefix(left, prefix)) return garbage();
      set->second.prefixes.Put(prefix);
    }
  }
  Statement edits(*this, absl::StrCat("SELECT set_id, added, prefix FROM ", tables, "prefix_edits ORDER BY seq"));
  while (true) {
    HG_ASSIGN_OR_RETURN(const bool row, edits.Step());
    if (!row) break;
    const auto set = sets.find(static_cast<uint32_t>(edits.Int(0)));
    const std::string body = edits.Bytes(2);
    absl::string_view left = body;
    Prefix prefix;
    if (set == sets.end() || !TakePrefix(left, prefix)) return garbage();
    if (edits.Int(1) != 0) {
      set->second.prefixes.Put(prefix);
    } else {
      set->second.prefixes.Erase(prefix);
    }
  }
  for (auto& [id, set] : sets) {
    state.prefix_count += set.prefixes.size();
    state.prefix_sets.Set(std::move(set));
  }
  return absl::OkStatus();
}

absl::Status Store::LoadObjects(const std::string& tables, State& state) {
  Statement select(*this, absl::StrCat("SELECT kind, name, id, body FROM ", tables, "objects ORDER BY kind, id"));
  const auto add = [&](auto object, auto State::*table) -> absl::Status {
    HG_RETURN_IF_ERROR(object.status());
    object->id = static_cast<uint32_t>(select.Int(2));
    (state.*table).Set(*std::move(object));
    return absl::OkStatus();
  };
  while (true) {
    HG_ASSIGN_OR_RETURN(const bool row, select.Step());
    if (!row) return absl::OkStatus();
    const std::string name = select.Bytes(1), body = select.Bytes(3);
    absl::Status status;
    switch (static_cast<Kind>(select.Int(0))) {
      case Kind::kSettings: {
        absl::StatusOr<Settings> settings = codec_.DecodeSettings(body);
        status = settings.status();
        if (status.ok()) state.settings = std::make_shared<const Settings>(*std::move(settings));
        break;
      }
      case Kind::kInterface:
        status = add(codec_.DecodeInterface(body), &State::interfaces);
        break;
      case Kind::kPrefixSet:
        status = add(codec_.DecodePrefixSet(body), &State::prefix_sets);
        break;
      case Kind::kNextHop:
        status = add(codec_.DecodeNextHop(body), &State::next_hops);
        break;
      case Kind::kSteerTarget:
        status = add(codec_.DecodeSteerTarget(body), &State::steer_targets);
        break;
      case Kind::kCounter:
        state.counters.Set(Counter{name, static_cast<uint32_t>(select.Int(2)), 0});
        break;
      case Kind::kRule:
        status = add(codec_.DecodeRule(body), &State::rules);
        break;
    }
    HG_RETURN_IF_ERROR(Annotate(status, "state database: ", name));
  }
}

absl::StatusOr<Snapshot> Store::LoadFrom(const std::string& tables) {
  State state;
  Statement generation(*this, absl::StrCat("SELECT value FROM ", tables, "meta WHERE name = 'generation'"));
  HG_ASSIGN_OR_RETURN(const bool found, generation.Step());
  if (found && !absl::SimpleAtoi(generation.Bytes(0), &state.generation)) {
    return absl::DataLossError("state database: the generation is not a number");
  }
  HG_RETURN_IF_ERROR(LoadObjects(tables, state));
  HG_RETURN_IF_ERROR(LoadPrefixes(tables, state));
  DeriveState(state);
  HG_RETURN_IF_ERROR(Annotate(CheckWhole(state), "state database"));
  return std::make_shared<const State>(std::move(state));
}

absl::StatusOr<Snapshot> Store::Load() { return LoadFrom(""); }

absl::StatusOr<std::optional<Unconfirmed>> Store::LoadUnconfirmed() {
  Statement select(*this, "SELECT value FROM old_meta WHERE name = 'confirm_by_ms'");
  HG_ASSIGN_OR_RETURN(const bool found, select.Step());
  if (!found) return std::optional<Unconfirmed>();
  int64_t milliseconds = 0;
  if (!absl::SimpleAtoi(select.Bytes(0), &milliseconds)) {
    return absl::DataLossError("state database: the time to confirm by is not a number");
  }
  HG_ASSIGN_OR_RETURN(Snapshot previous, LoadFrom("old_"));
  return std::optional<Unconfirmed>(
      {std::chrono::system_clock::time_point(std::chrono::milliseconds(milliseconds)), std::move(previous)});
}

}  // namespace headgate
