// Black-box tuning (Sun et al. 2022, arXiv 2201.03514): the search of what trains by the loss
// alone. CMA-ES proposes vectors z; the loss of each is the mean over all training examples, and
// the candidates of a generation are computed as one batch, beside each other.
#pragma once
#include "peft/method.h"
#include "train/batches.h"
#include "train/cma_es.h"

namespace graft {

struct SearchLimits {
  int64_t dimension = 1, population = 2, generations = 1;
  int64_t round = 1;  // generations between two validations: 100 candidates
  double sigma = 1;
};
SearchLimits LimitsOf(const MethodTerm& term);

inline constexpr const char* kSearched = "bbt.z";   // [1,d], what is searched
inline constexpr const char* kSearchState = "cma";  // ROOT of the search's state (cma_es.h)

// A training graph without dropout, in which kSearched is an input "z" and no parameter.
Graph SearchGraph(Graph training);

class BlackBox {
 public:
  // `graph` is what SearchGraph returns, optimised.
  BlackBox(const Graph& graph, ParamStore& params, const SessionOptions& options,
           const SearchLimits& limits, uint64_t seed);

  // Computes the candidates of the next generation over all examples and lets the search learn from
  // them; returns the least loss. Throws Error (kNonFinite) if none is a number.
  double Generation(BatchSource& data);

  // Writes the best vector of all generations to kSearched.
  void PutBest(ParamStore* params) const;
  // Saves the state as entries kSearchState.NAME, and returns their names.
  std::vector<std::string> Save(ParamStore* params) const;
  void Load(const ParamStore& params);

  const CmaEs& search() const { return search_; }
  const Session& session() const { return session_; }
  int64_t parts() const { return parts_; }  // that the last generation was computed in

 private:
  Session session_;
  CmaEs search_;
  bool started_ = false;
  int64_t parts_ = 0;
};

}  // namespace graft
