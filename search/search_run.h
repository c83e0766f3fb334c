// A search as a run: the supernet trains on the training split, candidates cut from it are measured
// on the validation split, and the best becomes a run that evaluates, fuses and trains on like any
// other. docs/search.md has the protocol.
//
// Files besides those of a run: search.json (what was asked for), supernet.safetensors (all
// weights, and the state to resume from), supernet.jsonl (its epochs), candidates.jsonl (what was
// measured, in order, which is all that the evolution resumes from), seconds.json, and
// at the end candidates.json, candidates.csv, choices.txt, choices.svg and METHOD, which comes
// last.
#pragma once
#include <nlohmann/json_fwd.hpp>

#include "search/evolution.h"
#include "train/trainer.h"

namespace graft {

struct SearchConfig {
  std::string space;  // written out
  EvolutionOptions evolution;
};
nlohmann::json ToJson(const SearchConfig& config);
// Throws Error that names the file.
SearchConfig ReadSearchConfig(const std::string& path);
// Refuses numbers outside their ranges and a generation that has no room for what it breeds.
void CheckEvolution(const EvolutionOptions& options);

// What there is to search; told once model and data are open.
struct SearchBegin {
  const RunConfig* config = nullptr;
  const LoadedModel* model = nullptr;
  int64_t train = 0, validation = 0, steps = 0;
  const char* unit = "";
  size_t genes = 0;
  double log10_candidates = 0;
  int64_t smallest = 0;  // parameters
};
struct CandidateReport {
  int64_t number = 0, most = 0;  // from 1; most: that the budget allows
  const Evaluated* candidate = nullptr;
  Evaluated best;  // so far
};
struct SearchHooks {
  std::string command;  // that searches, for summary.json
  std::function<void(const std::string&)> note;
  std::function<void(const SearchBegin&)> on_start;
  std::function<void(const StepReport&)> on_step;
  std::function<void(const EpochReport&)> on_epoch;
  std::function<void(const CandidateReport&)> on_candidate;
  std::function<bool()> stop;  // true: save and return
  // The processes that search together, each of which makes the same calls; null if this one is
  // alone. They divide batches and candidates' examples, and the first one writes. No bit of the
  // result depends on them.
  ProcessGroup* group = nullptr;
};

struct SearchSummary {
  RunConfig config;     // of the run, with the METHOD that was found
  std::string choices;  // as ChoicesText
  int64_t parameters = 0, trainable_parameters = 0, evaluated = 0;  // parameters: without the head
  Fitness fitness;
  int64_t steps = 0, compiled = 0;
  double seconds = 0, compile_seconds = 0;
  // Of this session, in passes of one candidate over the validation split: what was measured, and
  // what of it was taken from candidates with the same first layers.
  double passes = 0, shared_passes = 0;
  std::vector<Evaluated> front;  // no other is smaller and as good; the smallest first
  bool interrupted = false;
  std::optional<Layout> layout = {};
};

// Completes the configuration of a search as CompleteRunConfig does, for the largest candidate.
// Throws Error (kUsage) without a validation split, and for a validation split that is the test
// split.
RunConfig CompleteSearch(RunConfig config, const SearchConfig& search,
                         std::vector<std::string>* notes);

// Searches from where the directory stands to the end, or until stop(). Throws Error (kUsage) for a
// limit that no candidate meets, with the smallest possible size.
SearchSummary Search(RunDir& dir, const SearchConfig& search, const SearchHooks& hooks);

}  // namespace graft
