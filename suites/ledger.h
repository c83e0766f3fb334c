// The ledger of a suite: which units of work it has, the state of each, and its results. It is one
// SQLite file, SUITE/ledger.sqlite, which several processes may use at once.
//   table suite   key TEXT, value TEXT        what SuiteInfo holds; hashes of superseded units
//   table units   a row each, as UnitRow; `hash` is its identity and occurs once
//   table owners  who runs units: name of the lock file, process id, host
// PRAGMA user_version is the version of this layout, and application_id says that it is one of
// ours. A reader opens it with Ledger::Read and calls Suite() and Units().
#pragma once
#include <cmath>
#include <functional>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "suites/sqlite.h"

namespace graft {

inline constexpr int kLedgerVersion = 1;

enum class UnitState { kPending, kRunning, kDone, kFailed };
const char* ToString(UnitState state);  // "pending", "running", "done", "failed"

// What all units of a suite have in common.
struct SuiteInfo {
  std::string kind;         // vtab, few-shot, text, shift, ablate
  std::string model;        // as it was named
  std::string base_sha256;  // of its files; "" of init:ARCH
  std::string data;         // the directory of the data
  std::string protocol;     // in words: what is trained on, what is measured, when
  std::string preprocess;   // of images, in full; "" of texts
  std::string command;      // that began it, for people
  std::string version;      // of graft, that began it
  // Training options that all units share, as the config.json of a run has them.
  nlohmann::json config = nlohmann::json::object();
  // The tasks that the kind knows or the user named, in the order of tables:
  // [{name, group, classes (null: not known), directory (null: missing), why (it is missing)}].
  nlohmann::json tasks = nlohmann::json::array();
  // Methods in the order of the command line, named as in the rows of tables.
  std::vector<std::string> methods;
};

struct UnitRow {
  std::string hash;    // SHA-256 of everything that decides the result
  std::string task;    // as in SuiteInfo::tasks
  std::string group;   // natural, specialised, structured, extra, or ""
  std::string method;  // the row of tables: as the user named it, in its canonical form
  // The options of the unit beside its method and seed, by name: {"shots": 4}, {"lr": "1e-3", "r":
  // "4"}, {"act": "none"}. Values are numbers or texts.
  nlohmann::json options = nlohmann::json::object();
  int64_t seed = 0;
  // What the unit is for: the score of a "final" unit is a number of the table; from "choice" units
  // --select chooses the options of a final unit.
  std::string phase = "final";
  std::string protocol;         // "train800val200 > test", "train800 > val200"
  bool chosen_on_test = false;  // its options were chosen on the split that it is measured on
  UnitState state = UnitState::kPending;

  // The result of a unit that is done. `metric` is one of accuracy, f1, macro_f1, matthews,
  // mean_class_accuracy, and `score` its value in [0, 1] ([-1, 1] for matthews), or NaN if there is
  // none yet.
  std::string metric = "accuracy";
  double score = std::numeric_limits<double>::quiet_NaN();
  // What was measured: {n, accuracy, mean_class_accuracy, macro_f1, matthews, loss, seconds}, with
  // two classes f1, and train_loss; with domain shift also targets: [{data, the same keys, drop,
  // relative_drop}].
  nlohmann::json metrics = nlohmann::json::object();
  int64_t trainable_parameters = 0;
  double seconds = 0;           // of training and measuring, over all sessions
  double train_seconds = 0;     // of that, training as summary.json of the run has it
  int64_t peak_bytes = 0;       // the most memory that a process held during it
  std::string run;              // run directory, relative to the suite's; "" before it began
  std::string error;            // of a failed unit, what went wrong
  std::string error_kind;       // user, usage, non_finite, ... as in the JSON of the command
  std::string machine;          // "avx512, 2 threads, host"
  int64_t attempts = 0;         // how many times a process began or resumed it
  double began = 0, ended = 0;  // seconds since 1970; 0 = not yet
  // Another unit has its place in the tables: of other data, options or version, planned later.
  bool superseded = false;
};

// What Claim has found.
struct Claimed {
  std::optional<UnitRow> unit;  // now this process's; of others' that died, too
  bool taken_over = false;      // from a process that is no more
  size_t others = 0;            // units that living processes run
};

class Ledger {
 public:
  // Opens the ledger of the suite in the directory SUITE, and makes one if there is none. Throws
  // Error for a directory that holds other things, for a ledger of another version and for a
  // damaged one.
  static Ledger OpenOrCreate(const std::string& suite);
  // Opens a ledger to read it. Throws Error as OpenOrCreate does, and if there is no ledger.
  static Ledger Read(const std::string& suite);
  // Whether there is a ledger; a process that was killed while it made one leaves none. Throws
  // Error for a file that is no database.
  static bool IsThere(const std::string& suite);
  static std::string PathOf(const std::string& suite) { return suite + "/ledger.sqlite"; }
  Ledger(Ledger&&) noexcept;
  ~Ledger();

  const std::string& directory() const { return directory_; }
  std::optional<SuiteInfo> Suite() const;  // nothing: its beginning was interrupted
  // In the order in which they were added. What a process ran that is no more is pending.
  std::vector<UnitRow> Units() const;
  std::optional<UnitRow> Find(const std::string& hash) const;

  void SetSuite(const SuiteInfo& info);
  // Adds those units that are not there yet, as pending ones. Returns how many were new. Other
  // units with the key of one of them, which says its place in the tables, are superseded from now
  // on.
  size_t Add(const std::vector<UnitRow>& units,
             const std::function<std::string(const UnitRow&)>& key);
  // Takes the first of these units that is pending, or that was run by a process which no longer
  // lives. Claims are atomic: of several processes only one gets a unit.
  Claimed Claim(const std::vector<std::string>& hashes);
  // Records that the unit is done or has failed, with the state, score, metrics and times of
  // `unit`. REQUIRES: it is claimed.
  void Finish(const UnitRow& unit);
  // Records that the unit was interrupted: it is pending again, and its run stays.
  void Release(const std::string& hash, double seconds);
  // Makes failed units pending again, except those whose result cannot change (non_finite).
  void RetryFailed(const std::vector<std::string>& hashes);

 private:
  class OwnerLock;
  Ledger(const std::string& directory, Database::Mode mode);
  bool Empty() const;
  std::set<std::string> Superseded() const;  // hashes
  void CheckVersion() const;
  void CreateTables();
  void Own();
  bool Lives(const std::string& owner) const;

  std::string directory_;
  Database database_;
  std::unique_ptr<OwnerLock> lock_;
};

}  // namespace graft
