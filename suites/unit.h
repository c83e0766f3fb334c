// A unit of a suite: one training, and what is measured when it is finished.
#pragma once
#include "suites/data_hash.h"
#include "suites/grid.h"
#include "suites/ledger.h"
#include "suites/measure.h"

namespace graft {

// Raised whenever the same configuration gives other numbers than before, so that a suite does not
// mix them: results of an older version then belong to other units.
inline constexpr int kNumericsVersion = 2;

struct Unit {
  UnitRow row;       // its place in the tables; hash, run and results are filled in
  RunConfig config;  // as a command line has it: what CompleteRunConfig makes of it is the run's
  std::string train_sha256;      // HashOfData of what it trains on
  std::string tokenizer_sha256;  // TokenizerIdentity, of texts
  std::string begins_with;       // HashOfMethodRuns
  std::vector<Measurement> measure;
};

// What decides the result of a unit, as JSON: its place in the suite, the configuration with hashes
// in the place of paths, the data, and the version of the numerics. Threads, directories, and
// options that only report or save are left out. `base_sha256` is BaseHash(config.model).
nlohmann::json IdentityOf(const Unit& unit, const std::string& kind,
                          const std::string& base_sha256);
// The SHA-256 of an identity.
std::string HashOf(const nlohmann::json& identity);

// The directory below SUITE/runs of a unit with a hash, such as "cifar/lora_r_8-seed0-0123456789":
// people can read it, and the hash makes it unique.
std::string RunName(const UnitRow& row);

// The options as text, such as "lr=1e-3, r=4"; "" without options.
std::string OptionsText(const nlohmann::json& options);
nlohmann::json OptionsJson(const Choice& choice);

// Candidates for the options of a unit, and what is trained with the best of them.
struct Selection {
  struct Candidate {
    std::string choice;        // hash of the unit that is measured on validation examples
    std::vector<Unit> finals;  // with these options, one for each seed
  };
  std::vector<Candidate> candidates;  // in the order of the grid
};

// The candidate with the highest score; of equal ones the one with the smaller loss, and of these
// the first. Returns nothing while one is not finished. Failed ones are passed over; if all failed,
// it is `candidates.size()`.
std::optional<size_t> Best(const Selection& selection, const std::vector<UnitRow>& ledger);

// A suite as it is to be run.
struct SuitePlan {
  SuiteInfo info;
  std::vector<Unit> units;            // known from the beginning
  std::vector<Selection> selections;  // whose finals are known when its choices are done
  std::vector<std::string> notes;     // what the user should know, a line each

  // All units that there may be, in the order in which they are begun.
  std::vector<const Unit*> All() const;
};

}  // namespace graft
