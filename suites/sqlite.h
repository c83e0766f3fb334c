// The small part of SQLite that a ledger needs: statements with typed values, and errors as
// graft::Error.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

struct sqlite3;
struct sqlite3_stmt;

namespace graft {

class Database;

// A statement with its values. Rows are read by `while (s.Next())`.
class Statement {
 public:
  // Gives a value to the next ? of the statement, from the left.
  Statement& Bind(int64_t value);
  Statement& Bind(double value);
  Statement& Bind(std::string_view text);
  Statement& BindNull();

  bool Next();  // false: no more rows
  void Run() {
    while (Next()) {
    }
  }
  int64_t Int(int column) const;
  double Real(int column) const;
  std::string Text(int column) const;  // "" of null
  bool Null(int column) const;

 private:
  friend class Database;
  Statement(const Database* database, sqlite3_stmt* statement);
  void Check(int code) const;

  const Database* database_;
  std::unique_ptr<sqlite3_stmt, int (*)(sqlite3_stmt*)> statement_;
  int bound_ = 0;
};

// A database file, which other processes may use at the same time: a process that finds it locked
// waits, for a minute at most. It uses the rollback journal, as the write-ahead log needs memory
// that all processes share, which they do not have on a file system of several machines.
class Database {
 public:
  enum class Mode { kRead, kWrite, kCreate };  // kCreate: or write what is there
  // Throws Error for a file that cannot be opened. If it is no database, the first statement says
  // so.
  Database(const std::string& path, Mode mode);

  const std::string& path() const { return path_; }
  Statement Prepare(std::string_view sql) const;
  void Run(std::string_view sql) const { Prepare(sql).Run(); }
  int64_t Number(std::string_view sql) const;  // the first value of the first row
  // The number of rows that the last statement has changed.
  int64_t Changed() const;
  // Throws Error that says what SQLite's code means for the file.
  [[noreturn]] void Fail(int code) const;

 private:
  friend class Transaction;
  std::string path_;
  std::unique_ptr<sqlite3, int (*)(sqlite3*)> database_;
};

// Excludes all other writers from its beginning on. Everything done in it is taken back unless
// Commit is reached.
class Transaction {
 public:
  explicit Transaction(const Database& database) : database_(database) {
    database_.Run("BEGIN IMMEDIATE");
  }
  ~Transaction();
  void Commit();

 private:
  const Database& database_;
  bool open_ = true;
};

}  // namespace graft
