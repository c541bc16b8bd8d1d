// SPDX-License-Identifier: Apache-2.0
#include "agent/control/store.h"

#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>
#include <sqlite3.h>

#include <vector>

#include "agent/base/status.h"
#include "agent/control/store_statement.h"
#include "agent/control/validate.h"

namespace headgate {
namespace {

// 1 had no log of objects.
constexpr int kFirstSchema = 1, kSchema = 2;
// Those of a state; a state to roll back to has the like, called old_ and so on.
constexpr const char* kStateTables[] = {"meta", "objects", "object_log", "prefix_chunks", "prefix_edits"};

}  // namespace

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
        Execute(absl::StrCat("CREATE TABLE IF NOT EXISTS ", tables, "object_log ",
                             "(seq INTEGER PRIMARY KEY, kind INTEGER, name TEXT, id INTEGER, body BLOB)")
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
  if (schema == absl::StrCat(kSchema)) return absl::OkStatus();
  // What the one before wrote is read as it is.
  if (schema.empty() || schema == absl::StrCat(kFirstSchema)) return SetNote("schema", absl::StrCat(kSchema));
  return absl::FailedPreconditionError(absl::StrCat("the state database has schema ", schema,
                                                    " and this headgated knows only ", kSchema,
                                                    ": run the version that wrote it, or move it away"));
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

absl::Status Store::Commit(const State& before, const State& after, const Notes& notes,
                           std::optional<std::chrono::system_clock::time_point> confirm_by) {
  HG_RETURN_IF_ERROR(Execute("BEGIN IMMEDIATE"));
  absl::Status status;
  for (const char* table : kStateTables) {
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
  for (const char* table : kStateTables) {
    status.Update(Execute(absl::StrCat("DELETE FROM old_", table).c_str()));
  }
  if (status.ok()) status = Execute("COMMIT");
  if (!status.ok()) sqlite3_exec(database_, "ROLLBACK", nullptr, nullptr, nullptr);
  return status;
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
