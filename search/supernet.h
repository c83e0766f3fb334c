// A supernet: all candidates of a space in one storage. A parameter of a method has the shape of
// the largest choice, and a candidate reads its first rows and columns (weight entanglement, GLoRA
// and NOAH); the head, and what terms without choices train, belong to all.
//
// A step of training draws one candidate, its path, and compiles that path's graph alone: slices
// are nodes whose gradients fall into the storage, zeros elsewhere. What is not on the path has no
// gradient, and its optimizer leaves it alone, moments and count of updates too, as torch.optim
// does with grad None. Sessions share packed frozen weights and memory.
#pragma once
#include <list>

#include "adapters/method_graph.h"
#include "search/space.h"

namespace graft {

struct SupernetOptions {
  ModelBuild build = {.loss = true};
  OptimizerConfig optimizer;
  Counts capacity;  // the largest micro-batch
  PassOptions passes = {};
  uint64_t seed = 0;
  size_t sessions = 4;            // that are kept: the paths that were taken last
  ProcessGroup* group = nullptr;  // that divides the lanes of each step, as TrainStep::ShareWith
};

class Supernet {
 public:
  // `params` hold the base and get what the space adds. Both must outlive the supernet.
  Supernet(const BoundSpace& space, const ModelConfig& config, ParamStore& params,
           SupernetOptions options);

  // The path of step i. For each place its choices are drawn uniformly from the stream of its name
  // and the step.
  Genes PathAt(int64_t step) const;
  // The graph of a path with its losses; it trains the parameters that the path reads.
  Graph PathGraph(const Genes& path);
  // The compiled step of a path. It is valid until the next one is asked for.
  TrainStep& StepOf(const Genes& path);

  // How often each parameter has been updated; a resumed run puts these counts back.
  std::map<std::string, int64_t>& updates() { return updates_; }
  // The names of what any step so far has trained, and of all optimizer state.
  std::vector<std::string> StateNames() const;

  int64_t compiled() const { return compiled_; }  // sessions
  double compile_seconds() const { return compile_seconds_; }

 private:
  const BoundSpace& space_;
  const ModelConfig& config_;
  ParamStore& params_;
  SupernetOptions options_;
  Graph plain_;
  std::map<std::string, int64_t> updates_;
  SharedMemory shared_;
  std::list<std::pair<Genes, std::unique_ptr<TrainStep>>> steps_;  // the last first
  int64_t compiled_ = 0;
  double compile_seconds_ = 0;
};

// The parameters of one candidate, cut from those of the supernet, under their names and in shapes
// of their own. The base, and what trains everywhere, are those of the supernet.
ParamStore CandidateParams(const BoundSpace& space, const ModelConfig& config, const Genes& genes,
                           const ParamStore& supernet);

// A candidate as inference runs it: everything that folds is folded into the base's weights in
// `params`, which are CandidateParams. Then `passes` run.
Graph FoldedCandidate(const ModelConfig& config, const Method& method, ParamStore& params,
                      uint64_t seed, const PassManager& passes = {});

}  // namespace graft
