// A unit of a suite: one training with what is measured when it is finished.
#pragma once
#include "suites/data_hash.h"
#include "suites/grid.h"
#include "suites/ledger.h"
#include "suites/measure.h"

namespace graft {

// Raised whenever the same configuration gives other numbers than before, so that a suite does not
// mix them: the results of an older version are then other units.
inline constexpr int kNumericsVersion = 1;

struct Unit {
  UnitRow row;       // its place in the tables; hash, run and results are filled in
  RunConfig config;  // as a command line has it: what CompleteRunConfig makes of it is the run's
  std::string train_sha256;  // HashOfData of what it trains on
  std::vector<Measurement> measure;
};

// What decides the result of a unit, as JSON: its place in the suite, the configuration with hashes
// in the place of paths, the data, and the version of the numerics. Threads, directories and what
// only tells or saves are not in it. `base_sha256`: BaseHash(config.model).
nlohmann::json IdentityOf(const Unit& unit, const std::string& kind,
                          const std::string& base_sha256);
// The SHA-256 of it.
std::string HashOf(const nlohmann::json& identity);

// "cifar/lora_r_8-seed0-0123456789": of a unit with a hash, below SUITE/runs. For people, and
// unique by the hash.
std::string RunName(const UnitRow& row);

// "lr=1e-3, r=4"; "" without options.
std::string OptionsText(const nlohmann::json& options);
nlohmann::json OptionsJson(const Choice& choice);

// The options of a unit among which the best is looked for, and what is trained with the best.
struct Selection {
  struct Candidate {
    std::string choice;        // hash of the unit that is measured on validation examples
    std::vector<Unit> finals;  // with these options, one for each seed
  };
  std::vector<Candidate> candidates;  // in the order of the grid
};

// The candidate with the highest score, of equal ones that with the smaller loss, of these the
// first. Nothing while one is not finished; failed ones are passed over, and if all failed
// `candidates.size()` is returned.
std::optional<size_t> Best(const Selection& selection, const std::vector<UnitRow>& ledger);

// A suite as it is to be done.
struct SuitePlan {
  SuiteInfo info;
  std::vector<Unit> units;            // known from the beginning
  std::vector<Selection> selections;  // whose finals are known when its choices are done
  std::vector<std::string> notes;     // what the user should know, a line each

  // Of all units that there may be, in the order in which they are begun.
  std::vector<const Unit*> All() const;
};

}  // namespace graft
