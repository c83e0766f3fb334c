#include "suites/sqlite.h"

#include <sqlite3.h>

#include <chrono>
#include <thread>

#include "runtime/error.h"

namespace graft {
namespace {

// SQLite's own handler waits longer each time, so that among processes which claim one short unit
// after the other a late one would never get its turn.
constexpr int kWaitMs = 3, kMostWaits = 20'000;
int WaitAgain(void*, int waits) {
  std::this_thread::sleep_for(std::chrono::milliseconds(kWaitMs));
  return waits < kMostWaits;
}

}  // namespace

// --- statements

Statement::Statement(const Database* database, sqlite3_stmt* statement)
    : database_(database), statement_(statement, sqlite3_finalize) {}

void Statement::Check(int code) const {
  if (code != SQLITE_OK) database_->Fail(code);
}

Statement& Statement::Bind(int64_t value) {
  Check(sqlite3_bind_int64(statement_.get(), ++bound_, value));
  return *this;
}
Statement& Statement::Bind(double value) {
  Check(sqlite3_bind_double(statement_.get(), ++bound_, value));
  return *this;
}
Statement& Statement::Bind(std::string_view text) {
  Check(sqlite3_bind_text(statement_.get(), ++bound_, text.data(), static_cast<int>(text.size()),
                          SQLITE_TRANSIENT));
  return *this;
}
Statement& Statement::BindNull() {
  Check(sqlite3_bind_null(statement_.get(), ++bound_));
  return *this;
}

bool Statement::Next() {
  const int code = sqlite3_step(statement_.get());
  if (code != SQLITE_ROW && code != SQLITE_DONE) database_->Fail(code);
  return code == SQLITE_ROW;
}

int64_t Statement::Int(int column) const { return sqlite3_column_int64(statement_.get(), column); }
double Statement::Real(int column) const { return sqlite3_column_double(statement_.get(), column); }
std::string Statement::Text(int column) const {
  const auto* text = reinterpret_cast<const char*>(sqlite3_column_text(statement_.get(), column));
  const int bytes = sqlite3_column_bytes(statement_.get(), column);
  return text ? std::string(text, static_cast<size_t>(bytes)) : "";
}
bool Statement::Null(int column) const {
  return sqlite3_column_type(statement_.get(), column) == SQLITE_NULL;
}

// --- the database

Database::Database(const std::string& path, Mode mode) : path_(path), database_(nullptr, nullptr) {
  const int flags = mode == Mode::kRead    ? SQLITE_OPEN_READONLY
                    : mode == Mode::kWrite ? SQLITE_OPEN_READWRITE
                                           : SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;
  sqlite3* opened = nullptr;
  const int code = sqlite3_open_v2(path.c_str(), &opened, flags | SQLITE_OPEN_NOMUTEX, nullptr);
  database_ = {opened, sqlite3_close};
  if (code != SQLITE_OK) Fail(code);
  sqlite3_busy_handler(opened, WaitAgain, nullptr);
  // Views and triggers of a file that came from elsewhere must not run anything.
  sqlite3_db_config(opened, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, nullptr);
  sqlite3_db_config(opened, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, nullptr);
}

Statement Database::Prepare(std::string_view sql) const {
  sqlite3_stmt* statement = nullptr;
  const int code = sqlite3_prepare_v2(database_.get(), sql.data(), static_cast<int>(sql.size()),
                                      &statement, nullptr);
  if (code != SQLITE_OK) Fail(code);
  return {this, statement};
}

int64_t Database::Number(std::string_view sql) const {
  Statement statement = Prepare(sql);
  return statement.Next() ? statement.Int(0) : 0;
}

int64_t Database::Changed() const { return sqlite3_changes(database_.get()); }

void Database::Fail(int code) const {
  const char* why = database_ ? sqlite3_errmsg(database_.get()) : sqlite3_errstr(code);
  switch (code & 0xFF) {
    case SQLITE_NOTADB:
      graft::Fail("{}: expected the ledger of a suite, found a file that is no SQLite database",
                  path_);
    case SQLITE_CORRUPT:
      graft::Fail(
          "{}: the ledger is damaged ({}); the runs beside it are whole; hint: move it away, and "
          "the same command takes up its runs",
          path_, why);
    case SQLITE_BUSY:
      graft::Fail("{}: another process has had the ledger locked for a minute", path_);
    case SQLITE_FULL:
      graft::Fail("{}: cannot write: the disk is full; nothing that was finished is lost", path_);
    case SQLITE_IOERR:
      graft::Fail("{}: cannot read or write: {}; nothing that was finished is lost", path_, why);
    case SQLITE_CANTOPEN:
      graft::Fail("{}: cannot open the ledger: {}", path_, why);
    case SQLITE_READONLY:
      graft::Fail("{}: cannot write the ledger: {}", path_, why);
    default:
      graft::Fail("{}: the ledger cannot be used: {}", path_, why);
  }
}

// --- transactions

Transaction::~Transaction() {
  // An error, such as a full disk, may have ended the transaction already.
  if (!open_ || sqlite3_get_autocommit(database_.database_.get())) return;
  sqlite3_exec(database_.database_.get(), "ROLLBACK", nullptr, nullptr, nullptr);
}

void Transaction::Commit() {
  database_.Run("COMMIT");
  open_ = false;
}

}  // namespace graft
