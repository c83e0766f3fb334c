// The candidates that a search has measured, as files and as a front.
#pragma once
#include <nlohmann/json_fwd.hpp>

#include "search/space.h"
#include "train/evaluator.h"

namespace graft {

inline constexpr const char* kCandidatesFile = "candidates.jsonl";

// What evolution knows of a space. REQUIRES: the space outlives it.
Population PopulationOf(const BoundSpace& space);

// A candidate whose loss is not finite is the worst of all: the search goes on without it.
Fitness FitnessOf(const Metrics& metrics);

// A JSON object a line: genes, parameters, generation, origin, accuracy, loss.
std::string CandidateLines(const std::vector<Evaluated>& candidates);
// Reads them back, none if there is no file. Throws Error naming the file and the line for what is
// no candidate of the space.
std::vector<Evaluated> ReadCandidates(const std::string& file, const BoundSpace& space);

// For programs and plots: a list of objects with method, parameters, val_accuracy, val_loss,
// generation, origin and whether it is of the front; the same as a table, without methods.
std::string CandidatesJson(const std::vector<Evaluated>& candidates, const BoundSpace& space);
std::string CandidatesCsv(const std::vector<Evaluated>& candidates);

// Those that no other beats: as good with fewer parameters, or better with as many. The smallest
// first; of equal ones the first.
std::vector<Evaluated> ParetoFront(const std::vector<Evaluated>& candidates);

}  // namespace graft
