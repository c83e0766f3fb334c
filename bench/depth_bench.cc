// Measures seconds to compile graphs of growing depth: how stages grow with the number of nodes.
//   depth_bench [--benchmark_filter=Step/lora]
// A ViT of tiny width, so that nodes and not floats take the time. Stages: Method makes the graph
// of the model with the method, Passes turns it into a training step and rewrites that, Session
// plans memory and prepares kernels, Step is all three; Budget is Passes and Session under a memory
// budget, Infer the inference graph and its passes, Merge folds the method's branches away. The
// last lines give the fitted order of growth.
#include <benchmark/benchmark.h>

#include "adapters/method_graph.h"
#include "peft/merge.h"
#include "train/budget.h"

namespace graft {
namespace {

VitConfig Deep(int64_t depth) {
  return {.image_size = 8,
          .patch_size = 4,
          .width = 16,
          .depth = depth,
          .heads = 2,
          .mlp_width = 32,
          .classes = 5};
}

struct Subject {
  VitConfig config;
  Method method;
  ParamStore params;
  Subject(const char* text, int64_t depth) : config(Deep(depth)), method(ParseMethod(text)) {
    InitVit(config, params, 1);
  }
  Graph Make() { return MethodGraph(config, {.loss = true}, method, params, 1); }
};

const OptimizerConfig kOptimizer{.clip = 1};
constexpr Counts kCapacity{4, 0};

using Stage = void (*)(Subject& subject, benchmark::State& state);

void MethodStage(Subject& subject, benchmark::State& state) {
  for (auto _ : state) benchmark::DoNotOptimize(subject.Make().num_nodes());
}

void PassesStage(Subject& subject, benchmark::State& state) {
  const Graph g = subject.Make();
  for (auto _ : state)
    benchmark::DoNotOptimize(
        TrainStep::BuildGraph(g, subject.params, kOptimizer, TrainingPasses()).num_nodes());
}

void SessionStage(Subject& subject, benchmark::State& state) {
  const Graph g =
      TrainStep::BuildGraph(subject.Make(), subject.params, kOptimizer, TrainingPasses());
  for (auto _ : state) {
    Session session(g, subject.params, TrainStep::Options(g, kCapacity, {1, 1}));
    benchmark::DoNotOptimize(session.planned_bytes());
  }
  state.counters["nodes"] = static_cast<double>(g.live_nodes());
}

void StepStage(Subject& subject, benchmark::State& state) {
  for (auto _ : state) {
    TrainStep step(subject.Make(), subject.params, kOptimizer, kCapacity, TrainingPasses(), {1, 1});
    benchmark::DoNotOptimize(step.session().planned_bytes());
  }
}

// The micro-batch stays as it is, so that only recomputing makes the arena a tenth smaller.
void BudgetStage(Subject& subject, benchmark::State& state) {
  const Graph g = subject.Make();
  BudgetRequest request{.wanted = kCapacity, .keep = {kCapacity, 1}};
  const CompiledStep all = CompileWithinBudget(g, subject.params, kOptimizer, request);
  const size_t arena = all.step.session().memory().bytes;
  request.budget = fmt::format("{}B", all.plan_bytes - arena / 10);
  for (auto _ : state)
    state.counters["recomputed"] =
        CompileWithinBudget(g, subject.params, kOptimizer, request).recompute.nodes;
}

void InferStage(Subject& subject, benchmark::State& state) {
  for (auto _ : state) {
    Graph g = InferenceGraph(subject.config, subject.method, subject.params);
    InferencePasses().Run(g);
    benchmark::DoNotOptimize(g.num_nodes());
  }
}

void MergeStage(Subject& subject, benchmark::State& state) {
  subject.Make();
  const std::vector<std::string> names = BuildVit(subject.config).ParamNames();
  for (auto _ : state) {
    ParamStore params = subject.params;
    Graph g = InferenceGraph(subject.config, subject.method, params);
    benchmark::DoNotOptimize(Merge(g, params, names).left.size());
  }
}

void Register(const char* name, const char* method, Stage stage) {
  benchmark::RegisterBenchmark(fmt::format("{}/{}", name, method).c_str(),
                               [method, stage](benchmark::State& state) {
                                 Subject subject(method, state.range(0));
                                 stage(subject, state);
                                 state.SetComplexityN(state.range(0));
                               })
      ->Arg(64)
      ->Arg(128)
      ->Arg(256)
      ->Arg(512)
      ->Arg(1024)
      ->Iterations(1)
      ->Unit(benchmark::kMillisecond)
      ->Complexity();
}

}  // namespace
}  // namespace graft

int main(int argc, char** argv) {
  using namespace graft;
  for (const char* method : {"lora(r=2,dropout=0.1)", "full"}) {
    Register("Method", method, MethodStage);
    Register("Passes", method, PassesStage);
    Register("Session", method, SessionStage);
    Register("Step", method, StepStage);
    Register("Infer", method, InferStage);
    Register("Merge", method, MergeStage);
    Register("Budget", method, BudgetStage);
  }
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
}
