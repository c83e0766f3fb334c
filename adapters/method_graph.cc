#include "adapters/method_graph.h"

#include <algorithm>
#include <functional>

#include "adapters/merged_run.h"
#include "ops/bf16_values.h"
#include "ops/optimise.h"
#include "peft/merge.h"

namespace graft {

std::vector<PassReport> ApplyOnModel(Graph& g, const ModelConfig& config, const Method& method,
                                     ParamStore& params, uint64_t seed, bool reopened,
                                     const std::map<std::string, Extents>* storage) {
  const MethodContext context{std::bind_front(MergedRun, std::cref(config)), RunWeights, reopened,
                              storage};
  return ApplyMethod(g, params, method, seed, context);
}

Graph MethodGraph(const ModelConfig& config, const ModelBuild& build, const Method& method,
                  ParamStore& params, uint64_t seed, std::vector<PassReport>* reports,
                  bool reopened) {
  Graph g = BuildModel(config, build);
  std::vector<PassReport> made = ApplyOnModel(g, config, method, params, seed, reopened);
  if (reports) *reports = std::move(made);
  return g;
}

int64_t StoredCount(const ModelConfig& config, const Method& method, ParamStore params,
                    uint64_t seed) {
  return TrainableCount(
      MethodGraph(config, {}, ReducedMethod(method), params, seed, nullptr, true));
}

Graph EvaluationGraph(const ModelConfig& config, const Method& method, ParamStore& params,
                      uint64_t seed, bool loss) {
  // A branch with dropout may be built with more nodes than one without.
  Method without = method;
  for (MethodTerm& term : without)
    if (CompleteOptions(term).contains("dropout")) term.options["dropout"] = "0";
  Graph g = MethodGraph(config, {.loss = loss}, without, params, seed);
  RemoveDropout(g);
  g.EraseUnusedInputs();
  return g;
}

Graph InferenceGraph(const ModelConfig& config, const Method& method, ParamStore& params,
                     uint64_t seed, bool loss) {
  Graph g = EvaluationGraph(config, method, params, seed, loss);
  for (ValueId v : g.Trainable()) g.SetTrainable(v, false);
  return g;
}

namespace {

void AddPrecision(const Precision& precision, std::vector<Pass>& passes) {
  if (precision.cell == CellType::kF32) return;
  passes.push_back(LowPrecisionPass(precision));
  passes.push_back(Bf16ValuesPass());
  passes.push_back(ByteRowsPass());
}

PassManager MakePasses(std::vector<Pass> passes, const std::vector<std::string>& disabled) {
  PassManager::Options options;
  // A name may belong to the other group of passes; CheckPassNames has refused those of neither.
  for (const Pass& pass : passes)
    if (std::find(disabled.begin(), disabled.end(), pass.name) != disabled.end())
      options.disabled.insert(pass.name);
  PassManager manager(options);
  for (Pass& pass : passes) manager.Add(std::move(pass));
  return manager;
}

}  // namespace

void CheckPassNames(const std::vector<std::string>& disabled) {
  const std::vector<std::string> known = PassNames();
  for (const std::string& name : disabled)
    if (std::find(known.begin(), known.end(), name) == known.end())
      FailUsage("--disable-pass: no pass '{}'{}", name, DidYouMean(name, known));
}

std::vector<std::string> PassNames() {
  std::vector<std::string> names;
  for (const auto& group : {ForwardPasses(),
                            StepPasses(),
                            {LowPrecisionPass({}), Bf16ValuesPass(), ByteRowsPass()},
                            {RecomputePass({})}})
    for (const Pass& pass : group)
      if (std::find(names.begin(), names.end(), pass.name) == names.end())
        names.push_back(pass.name);
  return names;
}

PassManager InferencePasses(const PassOptions& options) {
  CheckPassNames(options.disabled);
  std::vector<Pass> passes = ForwardPasses();
  for (Pass& pass : StepPasses()) passes.push_back(std::move(pass));
  AddPrecision(options.precision, passes);
  return MakePasses(std::move(passes), options.disabled);
}

TrainStep::Passes TrainingPasses(const PassOptions& options, const RecomputeLimit& limit) {
  CheckPassNames(options.disabled);
  std::vector<Pass> step = StepPasses();
  AddPrecision(options.precision, step);
  step.push_back(RecomputePass(limit));
  return {MakePasses(ForwardPasses(), options.disabled),
          MakePasses(std::move(step), options.disabled)};
}

}  // namespace graft
