// Tests the ledger of a suite: claims of several processes, what is kept, and broken files.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <set>
#include <sstream>

#include "suites/ledger.h"
#include "suites/scores.h"
#include "suites/sqlite.h"
#include "tests/test_util.h"

namespace graft::suites_ledger_test {
namespace {

UnitRow Unit(int number) {
  UnitRow unit;
  unit.hash = fmt::format("{:064}", number);
  unit.task = "cifar", unit.group = "natural", unit.method = "lora(r=8)", unit.seed = number;
  unit.options = {{"lr", "1e-3"}}, unit.protocol = "train > test";
  return unit;
}

std::vector<UnitRow> Units(int count) {
  std::vector<UnitRow> units;
  for (int i = 0; i < count; ++i) units.push_back(Unit(i));
  return units;
}

std::string Place(const UnitRow& u) { return PlaceOf("vtab", u); }

std::vector<std::string> Hashes(const std::vector<UnitRow>& units) {
  std::vector<std::string> hashes;
  for (const UnitRow& u : units) hashes.push_back(u.hash);
  return hashes;
}

TEST(Ledger, KeepsWhatItIsTold) {
  const TempDir dir;
  const std::string suite = dir / "suite";
  {
    Ledger ledger = Ledger::OpenOrCreate(suite);
    EXPECT_FALSE(ledger.Suite());
    SuiteInfo info;
    info.kind = "vtab", info.model = "init:x", info.methods = {"linear", "lora(r=8)"};
    info.config = {{"epochs", 3}};
    info.tasks = {{{"name", "cifar"}}};
    ledger.SetSuite(info);
    EXPECT_EQ(ledger.Add(Units(3), Place), 3u);
    EXPECT_EQ(ledger.Add(Units(4), Place), 1u);  // the others are there
    Claimed claimed = ledger.Claim({Unit(1).hash});
    ASSERT_TRUE(claimed.unit);
    EXPECT_EQ(claimed.unit->seed, 1);
    EXPECT_EQ(claimed.unit->attempts, 1);
    UnitRow done = *claimed.unit;
    done.state = UnitState::kDone, done.score = 0.75, done.metrics = {{"accuracy", 0.75}};
    done.trainable_parameters = 12, done.seconds = 1.5, done.train_seconds = 1, done.peak_bytes = 7;
    done.run = "runs/a", done.machine = "avx2";
    ledger.Finish(done);
    EXPECT_NE(MessageOf([&] { ledger.Finish(done); }).find("no longer"), std::string::npos);
  }
  const Ledger ledger = Ledger::Read(suite);
  EXPECT_EQ(ledger.Suite()->methods[1], "lora(r=8)");
  EXPECT_EQ(ledger.Suite()->config["epochs"], 3);
  const std::vector<UnitRow> units = ledger.Units();
  ASSERT_EQ(units.size(), 4u);
  EXPECT_EQ(units[0].state, UnitState::kPending);
  EXPECT_TRUE(std::isnan(units[0].score));
  EXPECT_EQ(units[0].options["lr"], "1e-3");
  const UnitRow& u = units[1];
  EXPECT_EQ(u.state, UnitState::kDone);
  EXPECT_EQ(u.score, 0.75);
  EXPECT_EQ(u.metrics["accuracy"], 0.75);
  EXPECT_EQ(u.trainable_parameters, 12);
  EXPECT_EQ(u.seconds, 1.5);
  EXPECT_EQ(u.train_seconds, 1);
  EXPECT_EQ(u.peak_bytes, 7);
  EXPECT_EQ(u.run, "runs/a");
  EXPECT_EQ(u.machine, "avx2");
  EXPECT_GE(u.ended, u.began);
  EXPECT_GT(u.began, 1.6e9);
}

// Other data, options or versions make other units: the tables have those that were planned last,
// which may be the first ones again.
TEST(Ledger, AnotherUnitInAPlaceSupersedes) {
  const TempDir dir;
  Ledger ledger = Ledger::OpenOrCreate(dir / "suite");
  const auto other = [](int number) {
    UnitRow u = Unit(number);
    u.hash = "other" + u.hash;
    u.options = {{"lr", "1e-2"}};  // that was chosen
    return u;
  };
  const auto states = [&] {
    std::string text;
    for (const UnitRow& u : ledger.Units()) text += u.superseded ? 's' : '.';
    return text;
  };
  ledger.Add(Units(2), Place);
  EXPECT_EQ(states(), "..");
  ledger.Add({other(1)}, Place);
  EXPECT_EQ(states(), ".s.");
  ledger.Add({other(0), other(2)}, Place);  // a further seed is in nobody's place
  EXPECT_EQ(states(), "ss...");
  ledger.Add(Units(1), Place);
  EXPECT_EQ(states(), ".s.s.");
  UnitRow shots = Unit(1);
  shots.hash = "shots", shots.options["shots"] = 4;  // another row of the table
  ledger.Add({shots}, Place);
  EXPECT_EQ(states(), ".s.s..");
  EXPECT_EQ(Ledger::Read(dir / "suite").Units()[1].superseded, true);
}

TEST(Ledger, WhatIsFinishedOrFailedIsNotClaimed) {
  const TempDir dir;
  Ledger ledger = Ledger::OpenOrCreate(dir / "suite");
  ledger.Add(Units(3), Place);
  const std::vector<std::string> hashes = Hashes(Units(3));
  UnitRow first = *ledger.Claim(hashes).unit;
  first.state = UnitState::kDone;
  ledger.Finish(first);
  UnitRow second = *ledger.Claim(hashes).unit;
  EXPECT_EQ(second.hash, hashes[1]);
  second.state = UnitState::kFailed, second.error = "no such file", second.error_kind = "user";
  ledger.Finish(second);
  UnitRow third = *ledger.Claim(hashes).unit;
  third.state = UnitState::kFailed, third.error_kind = "non_finite";
  ledger.Finish(third);
  EXPECT_FALSE(ledger.Claim(hashes).unit);
  EXPECT_EQ(ledger.Find(hashes[1])->error, "no such file");
  ledger.RetryFailed(hashes);  // a loss that left the numbers would leave them again
  const Claimed again = ledger.Claim(hashes);
  ASSERT_TRUE(again.unit);
  EXPECT_EQ(again.unit->hash, hashes[1]);
  EXPECT_EQ(again.unit->attempts, 2);
  EXPECT_EQ(again.unit->error, "");
  ledger.Release(hashes[1], 2);
  EXPECT_EQ(ledger.Find(hashes[1])->state, UnitState::kPending);
  EXPECT_EQ(ledger.Find(hashes[1])->seconds, 2);
}

// A process that claims units until none is left, and writes a line for each. It begins when it can
// read a byte, and lets the others in between.
void Work(const std::string& suite, const std::vector<std::string>& hashes, const std::string& log,
          int begin) {
  std::ofstream lines(log);
  Ledger ledger = Ledger::OpenOrCreate(suite);
  char byte = 0;
  if (read(begin, &byte, 1) != 1) _exit(1);
  while (true) {
    const Claimed claimed = ledger.Claim(hashes);
    if (!claimed.unit && claimed.others == 0) break;
    usleep(3000);
    if (!claimed.unit) continue;
    lines << claimed.unit->hash << std::endl;
    UnitRow done = *claimed.unit;
    done.state = UnitState::kDone;
    ledger.Finish(done);
  }
}

// Not only from its first write on, which two that have read could both begin.
TEST(Ledger, ATransactionExcludesOthersFromItsBeginning) {
  const TempDir dir;
  const Database one(dir / "a", Database::Mode::kCreate), other(dir / "a", Database::Mode::kCreate);
  one.Run("CREATE TABLE t (x INTEGER)");
  other.Run("PRAGMA busy_timeout = 0");
  {
    const Transaction first(one);
    EXPECT_NE(MessageOf([&] { const Transaction second(other); }), "no error");
  }
  EXPECT_EQ(MessageOf([&] { const Transaction second(other); }), "no error");
}

TEST(Ledger, SeveralProcessesNeverClaimAUnitTwice) {
  const TempDir dir;
  const std::string suite = dir / "suite";
  const std::vector<UnitRow> units = Units(24);
  const std::vector<std::string> hashes = Hashes(units);
  Ledger::OpenOrCreate(suite).Add(units, Place);
  int begin[2];
  ASSERT_EQ(pipe(begin), 0);
  std::vector<pid_t> children;
  for (int i = 0; i < 4; ++i) {
    children.push_back(fork());
    if (children.back() != 0) continue;
    try {
      Work(suite, hashes, dir / ("log" + std::to_string(i)), begin[0]);
    } catch (const Error&) {
      _exit(1);
    }
    _exit(0);
  }
  usleep(100'000);
  ASSERT_EQ(write(begin[1], "xxxx", 4), 4);
  for (const pid_t child : children) {
    int status = 0;
    waitpid(child, &status, 0);
    EXPECT_EQ(status, 0);
  }
  std::multiset<std::string> claimed;
  int busy = 0;
  for (int i = 0; i < 4; ++i) {
    std::ifstream lines(dir / ("log" + std::to_string(i)));
    const size_t before = claimed.size();
    for (std::string line; std::getline(lines, line);) claimed.insert(line);
    busy += claimed.size() > before;
  }
  EXPECT_EQ(claimed, std::multiset<std::string>(hashes.begin(), hashes.end()));
  EXPECT_GE(busy, 2) << "one process had all units";
  for (const UnitRow& u : Ledger::Read(suite).Units()) EXPECT_EQ(u.attempts, 1) << u.seed;
}

TEST(Ledger, AUnitOfADeadProcessIsTakenOver) {
  const TempDir dir;
  const std::string suite = dir / "suite";
  Ledger ledger = Ledger::OpenOrCreate(suite);
  ledger.Add(Units(1), Place);
  const std::vector<std::string> hashes = Hashes(Units(1));
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const pid_t child = fork();
  if (child == 0) {
    Ledger own = Ledger::OpenOrCreate(suite);
    own.Claim(hashes);
    if (write(ready[1], "x", 1) != 1) _exit(1);
    pause();
  }
  char byte = 0;
  ASSERT_EQ(read(ready[0], &byte, 1), 1);
  const Claimed busy = ledger.Claim(hashes);
  EXPECT_FALSE(busy.unit);
  EXPECT_EQ(busy.others, 1u);
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  const Claimed taken = ledger.Claim(hashes);
  ASSERT_TRUE(taken.unit);
  EXPECT_TRUE(taken.taken_over);
  EXPECT_EQ(taken.unit->attempts, 2);
  Ledger other = Ledger::OpenOrCreate(suite);
  EXPECT_EQ(other.Claim(hashes).others, 1u);
  const std::filesystem::directory_iterator locks(suite + "/locks"), end;
  EXPECT_EQ(std::distance(locks, end), 2);  // of the living
}

TEST(Ledger, WhatIsNoLedgerOfThisVersionIsRefused) {
  const TempDir dir;
  const auto refused = [&](const std::string& name, const char* words) {
    for (const bool reader : {true, false}) {
      const std::string message = MessageOf([&] {
        if (reader)
          Ledger::Read(dir / name).Units();
        else
          Ledger::OpenOrCreate(dir / name).Units();
      });
      EXPECT_NE(message.find(words), std::string::npos) << name << ": " << message;
      EXPECT_NE(message.find(dir / name), std::string::npos) << message;
    }
  };
  dir.Write("text/ledger.sqlite", std::string(5000, 'x'));
  refused("text", "no SQLite database");
  Ledger::OpenOrCreate(dir / "newer").Add(Units(2), Place);
  Database(dir / "newer/ledger.sqlite", Database::Mode::kWrite).Run("PRAGMA user_version = 7");
  refused("newer", "a ledger of version 7, this graft knows version 1; hint: a newer graft");
  std::filesystem::create_directories(dir / "other");
  Database(dir / "other/ledger.sqlite", Database::Mode::kCreate).Run("CREATE TABLE t (x)");
  refused("other", "another SQLite database");
  Ledger::OpenOrCreate(dir / "cut").Add(Units(200), Place);
  std::filesystem::resize_file(dir / "cut/ledger.sqlite", 9000);
  refused("cut", "damaged");
  dir.Write("begun/ledger.sqlite", "");  // by a process that was killed before anything else
  EXPECT_FALSE(Ledger::IsThere(dir / "begun"));
  EXPECT_NE(MessageOf([&] { Ledger::Read(dir / "begun"); }).find("no suite here"),
            std::string::npos);
  EXPECT_EQ(Ledger::OpenOrCreate(dir / "begun").Units().size(), 0u);
  EXPECT_TRUE(Ledger::IsThere(dir / "begun"));
  dir.Write("full/notes.txt", "mine");
  EXPECT_NE(MessageOf([&] {
              Ledger::OpenOrCreate(dir / "full");
            }).find("holds notes.txt, which is no suite's"),
            std::string::npos);
  EXPECT_NE(MessageOf([&] { Ledger::Read(dir / "full"); }).find("no suite here"),
            std::string::npos);
}

}  // namespace
}  // namespace graft::suites_ledger_test
