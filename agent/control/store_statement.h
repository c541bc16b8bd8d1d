// SPDX-License-Identifier: Apache-2.0
//
// SQLite's statements, for the store's own sources.
#pragma once

#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>
#include <sqlite3.h>

#include <string>

#include "agent/control/store.h"

namespace headgate {

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

  bool IsNull(int column) { return sqlite3_column_type(statement_, column) == SQLITE_NULL; }
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

}  // namespace headgate
