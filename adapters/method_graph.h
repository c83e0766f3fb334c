// The graph of a model with a method, and the optimising passes that a session wants.
#pragma once
#include "autograd/recompute.h"
#include "autograd/train_step.h"
#include "models/model.h"
#include "ops/low_precision.h"
#include "peft/method.h"

namespace graft {

// Builds the canonical graph for training: the model with the method, its parameters frozen or
// trainable. Parameters of the method that `params` lacks are initialised there from `seed`. Inputs
// and outputs are those of BuildVit or BuildBert. With `reopened`, what trains is loaded
// afterwards, so that runs whose values would begin it need not be there. Throws Error for a method
// that finds no place in this model.
Graph MethodGraph(const ModelConfig& config, const ModelBuild& build, const Method& method,
                  ParamStore& params, uint64_t seed = 0, std::vector<PassReport>* reports = nullptr,
                  bool reopened = false);

// How many numbers of the method remain after training, with the head: TrainableCount without what
// the method drops, such as the MLP that makes a prefix.
int64_t StoredCount(const ModelConfig& config, const Method& method, ParamStore params,
                    uint64_t seed = 0);

// Applies the method to a graph that BuildModel has made of this model. With `storage`, the graph
// is that of a path through a supernet (MethodContext).
std::vector<PassReport> ApplyOnModel(Graph& g, const ModelConfig& config, const Method& method,
                                     ParamStore& params, uint64_t seed, bool reopened = false,
                                     const std::map<std::string, Extents>* storage = nullptr);

// Builds the graph that validates while a method trains: without dropout, and what trains may
// change. Outputs "logits" [S,classes] and, with `loss`, "losses" [S,1].
Graph EvaluationGraph(const ModelConfig& config, const Method& method, ParamStore& params,
                      uint64_t seed = 0, bool loss = true);

// The same with nothing trainable, so kernels may keep packed weights. Merging starts from this
// graph.
Graph InferenceGraph(const ModelConfig& config, const Method& method, ParamStore& params,
                     uint64_t seed = 0, bool loss = false);

// Choices of optimising passes, which give equal results for less work.
// InferencePasses().Run(graph) comes before a Session is built on the graph; TrainingPasses() is
// the argument `passes` of TrainStep, and computes values twice where that is needed to keep within
// the limit. Both throw Error (kUsage) for an unknown name in `disabled`.
// With a precision below f32 the results are no longer equal: the last pass then is low_precision.
struct PassOptions {
  std::vector<std::string> disabled = {};  // names of passes to leave out
  Precision precision = {};
  PassOptions() = default;
  PassOptions(std::initializer_list<std::string> names) : disabled(names) {}
  PassOptions(std::vector<std::string> names) : disabled(std::move(names)) {}
  PassOptions(std::vector<std::string> names, Precision p)
      : disabled(std::move(names)), precision(std::move(p)) {}
};
PassManager InferencePasses(const PassOptions& options = {});
TrainStep::Passes TrainingPasses(const PassOptions& options = {}, const RecomputeLimit& limit = {});
// The names of all passes, for messages and `graft inspect`.
std::vector<std::string> PassNames();
// Throws Error (kUsage) for a name that is not one of them.
void CheckPassNames(const std::vector<std::string>& names);

}  // namespace graft
