#include "suites/ledger.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <map>
#include <random>

#include "runtime/error.h"
#include "runtime/io/json.h"
#include "runtime/io/listing.h"

namespace graft {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kApplication = 0x47524654;  // "GRFT"

double Now() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

std::string Host() {
  char name[256] = "";
  gethostname(name, sizeof name - 1);
  return name;
}

UnitState StateOf(const std::string& word, const std::string& where) {
  for (const UnitState state :
       {UnitState::kPending, UnitState::kRunning, UnitState::kDone, UnitState::kFailed})
    if (word == ToString(state)) return state;
  Fail("{}: the ledger is damaged: a unit with the state '{}'", where, word);
}

// The columns of a unit, in one order for reading and writing.
constexpr const char* kColumns =
    "hash, task, grp, method, options, seed, phase, protocol, chosen_on_test, state, metric, "
    "score, metrics, trainable_parameters, seconds, train_seconds, peak_bytes, run, error, "
    "error_kind, machine, attempts, began, ended";

UnitRow RowOf(const Statement& s, const std::string& where) {
  UnitRow u;
  u.hash = s.Text(0), u.task = s.Text(1), u.group = s.Text(2), u.method = s.Text(3);
  u.options = ParseJson(s.Text(4), where), u.seed = s.Int(5), u.phase = s.Text(6);
  u.protocol = s.Text(7), u.chosen_on_test = s.Int(8) != 0, u.state = StateOf(s.Text(9), where);
  u.metric = s.Text(10);
  if (!s.Null(11)) u.score = s.Real(11);
  u.metrics = ParseJson(s.Text(12), where);
  u.trainable_parameters = s.Int(13), u.seconds = s.Real(14), u.train_seconds = s.Real(15);
  u.peak_bytes = s.Int(16), u.run = s.Text(17), u.error = s.Text(18), u.error_kind = s.Text(19);
  u.machine = s.Text(20), u.attempts = s.Int(21), u.began = s.Real(22), u.ended = s.Real(23);
  return u;
}

}  // namespace

const char* ToString(UnitState state) {
  constexpr const char* kNames[] = {"pending", "running", "done", "failed"};
  return kNames[static_cast<int>(state)];
}

// A file that this process holds a lock on for as long as it lives, however it ends.
class Ledger::OwnerLock {
 public:
  explicit OwnerLock(const std::string& directory) {
    const std::string folder = directory + "/locks";
    if (mkdir(folder.c_str(), 0777) != 0 && errno != EEXIST)
      Fail("{}: cannot create: {}", folder, std::strerror(errno));
    std::random_device random;
    name_ = fmt::format("{}-{:08x}{:08x}", getpid(), random(), random());
    path_ = folder + "/" + name_;
    fd_ = open(path_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd_ < 0) Fail("{}: cannot create: {}", path_, std::strerror(errno));
    flock(fd_, LOCK_EX | LOCK_NB);  // nobody else knows the name yet
  }
  ~OwnerLock() {
    unlink(path_.c_str());
    close(fd_);
  }
  const std::string& name() const { return name_; }

 private:
  std::string name_, path_;
  int fd_ = -1;
};

Ledger::Ledger(const std::string& directory, Database::Mode mode)
    : directory_(directory), database_(PathOf(directory), mode) {}
Ledger::Ledger(Ledger&&) noexcept = default;
Ledger::~Ledger() = default;

Ledger Ledger::OpenOrCreate(const std::string& suite) {
  std::error_code none;
  if (!fs::exists(PathOf(suite), none)) {
    if (fs::exists(suite, none) && !fs::is_directory(suite, none))
      Fail("{}: expected the directory of a suite, found a file", suite);
    for (const auto& [name, kind, link] : ListIfReadable(suite))
      if (name != "runs" && name != "lists" && name != "locks")
        Fail("{}: the directory exists and holds {}, which is no suite's; hint: another --out",
             suite, name);
    fs::create_directories(suite, none);
    if (!fs::is_directory(suite, none)) Fail("{}: cannot create the directory", suite);
  }
  Ledger ledger(suite, Database::Mode::kCreate);
  ledger.CreateTables();
  ledger.CheckVersion();
  return ledger;
}

namespace {

// A process that was killed while it wrote leaves a journal, which only a writer can roll back.
Database::Mode ReadersMode(const std::string& path) {
  return access(path.c_str(), W_OK) == 0 ? Database::Mode::kWrite : Database::Mode::kRead;
}

}  // namespace

bool Ledger::Empty() const { return database_.Number("SELECT count(*) FROM sqlite_master") == 0; }

bool Ledger::IsThere(const std::string& suite) {
  std::error_code none;
  if (!fs::exists(PathOf(suite), none)) return false;
  return !Ledger(suite, ReadersMode(PathOf(suite))).Empty();
}

Ledger Ledger::Read(const std::string& suite) {
  if (!IsThere(suite))
    Fail("{}: no suite here (no ledger.sqlite); hint: the --out of graft bench or graft ablate",
         suite);
  Ledger ledger(suite, ReadersMode(PathOf(suite)));
  ledger.CheckVersion();
  return ledger;
}

void Ledger::CheckVersion() const {
  const std::string& path = database_.path();
  const int64_t application = database_.Number("PRAGMA application_id");
  if (application != kApplication)
    Fail("{}: expected the ledger of a suite, found another SQLite database", path);
  const int64_t version = database_.Number("PRAGMA user_version");
  if (version != kLedgerVersion)
    Fail("{}: a ledger of version {}, this graft knows version {}; hint: {}", path, version,
         kLedgerVersion,
         version > kLedgerVersion ? "a newer graft reads it" : "begin again with another --out");
}

void Ledger::CreateTables() {
  Transaction transaction(database_);
  if (!Empty()) return;  // it is there
  database_.Run("CREATE TABLE suite (key TEXT PRIMARY KEY, value TEXT NOT NULL)");
  database_.Run("CREATE TABLE owners (name TEXT PRIMARY KEY, pid INTEGER, host TEXT)");
  database_.Run(
      "CREATE TABLE units (id INTEGER PRIMARY KEY, hash TEXT NOT NULL UNIQUE, task TEXT NOT NULL, "
      "grp TEXT NOT NULL, method TEXT NOT NULL, options TEXT NOT NULL, seed INTEGER NOT NULL, "
      "phase TEXT NOT NULL, protocol TEXT NOT NULL, chosen_on_test INTEGER NOT NULL, "
      "state TEXT NOT NULL, metric TEXT NOT NULL, score REAL, metrics TEXT NOT NULL, "
      "trainable_parameters INTEGER NOT NULL, seconds REAL NOT NULL, "
      "train_seconds REAL NOT NULL, peak_bytes INTEGER NOT NULL, run TEXT NOT NULL, "
      "error TEXT NOT NULL, error_kind TEXT NOT NULL, machine TEXT NOT NULL, "
      "attempts INTEGER NOT NULL, began REAL NOT NULL, ended REAL NOT NULL, "
      "owner TEXT REFERENCES owners (name))");
  database_.Run(fmt::format("PRAGMA application_id = {}", kApplication));
  database_.Run(fmt::format("PRAGMA user_version = {}", kLedgerVersion));
  transaction.Commit();
}

// --- what all units have in common

std::optional<SuiteInfo> Ledger::Suite() const {
  Statement s = database_.Prepare("SELECT value FROM suite WHERE key = 'info'");
  if (!s.Next()) return {};
  const std::string& where = database_.path();
  const nlohmann::json json = ParseJson(s.Text(0), where);
  SuiteInfo info;
  const auto text = [&](const char* key) { return GetString(json, key, where); };
  info.kind = text("kind"), info.model = text("model"), info.base_sha256 = text("base_sha256");
  info.data = text("data"), info.protocol = text("protocol"), info.command = text("command");
  info.preprocess = text("preprocess"), info.version = text("version");
  info.config = GetObject(json, "config", where);
  info.tasks = GetArray(json, "tasks", where);
  info.methods = GetStrings(json, "methods", where);
  return info;
}

void Ledger::SetSuite(const SuiteInfo& i) {
  const nlohmann::json json{
      {"kind", i.kind},       {"model", i.model},       {"base_sha256", i.base_sha256},
      {"data", i.data},       {"protocol", i.protocol}, {"preprocess", i.preprocess},
      {"command", i.command}, {"version", i.version},   {"config", i.config},
      {"tasks", i.tasks},     {"methods", i.methods}};
  database_.Prepare("INSERT OR REPLACE INTO suite VALUES ('info', ?)").Bind(DumpJson(json)).Run();
}

// --- units

std::vector<UnitRow> Ledger::Units() const {
  std::vector<UnitRow> units;
  const std::set<std::string> superseded = Superseded();
  constexpr int kOwner = 24;
  Statement s = database_.Prepare(fmt::format("SELECT {}, owner FROM units ORDER BY id", kColumns));
  while (s.Next()) {
    UnitRow& u = units.emplace_back(RowOf(s, database_.path()));
    u.superseded = superseded.contains(u.hash);
    if (u.state == UnitState::kRunning && !Lives(s.Text(kOwner))) u.state = UnitState::kPending;
  }
  return units;
}

std::set<std::string> Ledger::Superseded() const {
  Statement s = database_.Prepare("SELECT value FROM suite WHERE key = 'superseded'");
  if (!s.Next()) return {};
  const nlohmann::json json = ParseJson(s.Text(0), database_.path());
  if (!json.is_array()) Fail("{}: the ledger is damaged: 'superseded'", database_.path());
  std::set<std::string> hashes;
  for (const nlohmann::json& hash : json)
    if (hash.is_string()) hashes.insert(hash.get<std::string>());
  return hashes;
}

std::optional<UnitRow> Ledger::Find(const std::string& hash) const {
  Statement s = database_.Prepare(fmt::format("SELECT {} FROM units WHERE hash = ?", kColumns));
  if (!s.Bind(hash).Next()) return {};
  return RowOf(s, database_.path());
}

size_t Ledger::Add(const std::vector<UnitRow>& units,
                   const std::function<std::string(const UnitRow&)>& key) {
  Transaction transaction(database_);
  int64_t added = 0;
  for (const UnitRow& u : units) {
    Statement s = database_.Prepare(fmt::format(
        "INSERT OR IGNORE INTO units ({}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 'pending', ?, NULL, "
        "'{{}}', 0, 0, 0, 0, '', '', '', '', 0, 0, 0)",
        kColumns));
    s.Bind(u.hash).Bind(u.task).Bind(u.group).Bind(u.method).Bind(DumpJson(u.options));
    s.Bind(u.seed).Bind(u.phase).Bind(u.protocol).Bind(int64_t{u.chosen_on_test}).Bind(u.metric);
    s.Run();
    added += database_.Changed();
  }
  std::map<std::string, std::set<std::string>> planned;  // the hashes of each place
  for (const UnitRow& u : units) planned[key(u)].insert(u.hash);
  std::set<std::string> superseded;
  for (const UnitRow& u : Units())
    if (const auto at = planned.find(key(u));
        at == planned.end() ? u.superseded : !at->second.contains(u.hash))
      superseded.insert(u.hash);
  if (superseded != Superseded())
    database_.Prepare("INSERT OR REPLACE INTO suite VALUES ('superseded', ?)")
        .Bind(DumpJson(nlohmann::json(superseded)))
        .Run();
  transaction.Commit();
  return static_cast<size_t>(added);
}

// Makes this process's lock while nobody else looks for locks: before it is locked it would look
// like that of a dead process.
void Ledger::Own() {
  if (lock_) return;
  Transaction transaction(database_);
  for (const DirectoryEntry& entry : ListIfReadable(directory_ + "/locks"))
    Lives(entry.name);  // which removes those of dead processes
  lock_ = std::make_unique<OwnerLock>(directory_);
  database_.Prepare("INSERT INTO owners VALUES (?, ?, ?)")
      .Bind(lock_->name())
      .Bind(int64_t{getpid()})
      .Bind(Host())
      .Run();
  transaction.Commit();
}

// Whether the process that holds this lock still lives. The lock ends with its process. Where the
// file system has no locks, the process id on this machine has to tell. What a dead process has
// left is removed.
bool Ledger::Lives(const std::string& owner) const {
  if (lock_ && owner == lock_->name()) return true;
  const std::string path = directory_ + "/locks/" + owner;
  const int fd = open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (fd < 0) return errno != ENOENT;
  const bool got = flock(fd, LOCK_EX | LOCK_NB) == 0;
  const bool no_locks = !got && errno != EWOULDBLOCK;
  close(fd);
  if (got) {
    unlink(path.c_str());
    return false;
  }
  if (!no_locks) return true;
  Statement s = database_.Prepare("SELECT pid, host FROM owners WHERE name = ?");
  if (!s.Bind(owner).Next() || s.Text(1) != Host()) return true;
  return kill(static_cast<pid_t>(s.Int(0)), 0) == 0 || errno != ESRCH;
}

Claimed Ledger::Claim(const std::vector<std::string>& hashes) {
  Own();
  Claimed claimed;
  Transaction transaction(database_);
  for (const std::string& hash : hashes) {
    Statement s = database_.Prepare("SELECT state, owner FROM units WHERE hash = ?");
    if (!s.Bind(hash).Next()) continue;
    const UnitState state = StateOf(s.Text(0), database_.path());
    if (state != UnitState::kPending && state != UnitState::kRunning) continue;
    if (state == UnitState::kRunning && Lives(s.Text(1))) {
      ++claimed.others;
      continue;
    }
    claimed.taken_over = state == UnitState::kRunning;
    database_
        .Prepare(
            "UPDATE units SET state = 'running', owner = ?, attempts = attempts + 1, "
            "began = CASE WHEN began > 0 THEN began ELSE ? END, error = '', error_kind = '' "
            "WHERE hash = ?")
        .Bind(lock_->name())
        .Bind(Now())
        .Bind(hash)
        .Run();
    claimed.unit = Find(hash);
    transaction.Commit();
    return claimed;
  }
  return claimed;
}

void Ledger::Finish(const UnitRow& u) {
  Statement s = database_.Prepare(
      "UPDATE units SET state = ?, score = ?, metrics = ?, trainable_parameters = ?, "
      "seconds = seconds + ?, train_seconds = ?, peak_bytes = max(peak_bytes, ?), run = ?, "
      "error = ?, error_kind = ?, machine = ?, ended = ?, owner = NULL "
      "WHERE hash = ? AND state = 'running' AND owner = ?");
  s.Bind(std::string_view(ToString(u.state)));
  if (std::isnan(u.score))
    s.BindNull();
  else
    s.Bind(u.score);
  s.Bind(DumpJson(u.metrics)).Bind(u.trainable_parameters).Bind(u.seconds).Bind(u.train_seconds);
  s.Bind(u.peak_bytes).Bind(u.run).Bind(u.error).Bind(u.error_kind).Bind(u.machine);
  s.Bind(Now()).Bind(u.hash).Bind(lock_ ? lock_->name() : "").Run();
  if (database_.Changed() != 1)
    Fail("{}: the unit {} of {} is no longer this process's", database_.path(),
         u.hash.substr(0, 12), u.task);
}

void Ledger::Release(const std::string& hash, double seconds) {
  database_
      .Prepare(
          "UPDATE units SET state = 'pending', seconds = seconds + ?, owner = NULL "
          "WHERE hash = ? AND state = 'running' AND owner = ?")
      .Bind(seconds)
      .Bind(hash)
      .Bind(lock_ ? lock_->name() : "")
      .Run();
}

void Ledger::RetryFailed(const std::vector<std::string>& hashes) {
  Transaction transaction(database_);
  for (const std::string& hash : hashes)
    database_
        .Prepare(
            "UPDATE units SET state = 'pending' WHERE hash = ? AND state = 'failed' "
            "AND error_kind <> 'non_finite'")
        .Bind(hash)
        .Run();
  transaction.Commit();
}

}  // namespace graft
