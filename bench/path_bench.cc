// Measures the milliseconds of one thread to build and compile a new path of a supernet, DeiT-Ti.
//   path_bench [--benchmark_filter=glora]
// Stages: Method makes the path's graph, Passes turns it into a training step and rewrites that,
// Path is all of it with the session, as a step of `graft search` compiles it; Candidate cuts a
// candidate out of the supernet and folds it. Paths are those of steps 1, 2, ..., the first having
// been compiled before.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <iostream>

#include "runtime/rng.h"
#include "runtime/verify.h"
#include "search/supernet.h"

namespace graft {
namespace {

constexpr VitConfig kDeitTiny{
    .width = 192, .depth = 12, .heads = 3, .mlp_width = 768, .classes = 10};

struct Subject {
  ModelConfig config = kDeitTiny;
  ParamStore params;
  std::optional<BoundSpace> space;
  std::optional<Supernet> supernet;
  SupernetOptions options{.capacity = {8, 0}, .sessions = 1};
  int64_t step = 1;

  explicit Subject(const std::string& text, int64_t images = 8) {
    options.capacity.sequences = std::min<int64_t>(images, 8);
    InitVit(kDeitTiny, params, 1);
    space.emplace(ParseSpace(WrittenOut(text, "", kDeitTiny.depth)), config, params);
    supernet.emplace(*space, config, params, options);
    supernet->StepOf(supernet->PathAt(0));
  }
  Genes Next() { return supernet->PathAt(step++); }
};

using Stage = void (*)(Subject& subject, benchmark::State& state);

void MethodStage(Subject& s, benchmark::State& state) {
  const VerifyAtTheEnd trusting;
  for (auto _ : state) benchmark::DoNotOptimize(s.supernet->PathGraph(s.Next()).num_nodes());
}

void PassesStage(Subject& s, benchmark::State& state) {
  const VerifyAtTheEnd trusting;
  OptimizerConfig optimizer;
  std::map<std::string, int64_t> updates;
  optimizer.updates = &updates;
  for (auto _ : state) {
    state.PauseTiming();
    Graph g = s.supernet->PathGraph(s.Next());
    state.ResumeTiming();
    benchmark::DoNotOptimize(
        TrainStep::BuildGraph(std::move(g), s.params, optimizer, TrainingPasses()).num_nodes());
  }
}

double ThreadMilliseconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return 1e3 * static_cast<double>(now.tv_sec) + 1e-6 * static_cast<double>(now.tv_nsec);
}

// `fastest` is what a machine that does nothing else would need.
void PathStage(Subject& s, benchmark::State& state) {
  size_t nodes = 0;
  double fastest = 1e9;
  for (auto _ : state) {
    const double start = ThreadMilliseconds();
    nodes += s.supernet->StepOf(s.Next()).session().steps().size();
    fastest = std::min(fastest, ThreadMilliseconds() - start);
  }
  state.counters["nodes"] = static_cast<double>(nodes) / static_cast<double>(state.iterations());
  state.counters["fastest"] = fastest;
}

void CandidateStage(Subject& s, benchmark::State& state) {
  for (auto _ : state) {
    const Genes genes = s.Next();
    ParamStore params = CandidateParams(*s.space, s.config, genes, s.params);
    benchmark::DoNotOptimize(
        FoldedCandidate(s.config, s.space->MethodOf(genes), params, 0).num_nodes());
  }
}

// --- a whole step and a whole candidate, for a comparison with others

std::vector<float> Noise(int64_t images) {
  std::vector<float> noise(static_cast<size_t>(images * 3 * 224 * 224));
  FillNormal(noise, {MakeKey(7, Purpose::kData, "images")}, 0, 1);
  return noise;
}

void FillFrom(const std::vector<float>& noise, Session& session, int64_t first, int64_t count,
              int worker) {
  const ptrdiff_t size = 3 * 224 * 224;
  std::copy_n(noise.begin() + first * size, count * size, session.Input("image", worker).f32());
  for (int64_t i = 0; i < count; ++i)
    session.Input("labels", worker).i32()[i] = static_cast<int32_t>((first + i) % 10);
}

void StepOnce(Subject& s, const std::vector<float>& noise, int64_t images) {
  const int64_t at = s.step;
  TrainStep& step = s.supernet->StepOf(s.Next());
  step.Run(images, at, 1e-4, [&](int64_t first, int64_t count, int worker) {
    FillFrom(noise, step.session(), first, count, worker);
  });
}

void CandidateOnce(Subject& s, const std::vector<float>& noise, int64_t images,
                   const PassOptions& passes) {
  const Genes genes = s.Next();
  ParamStore params = CandidateParams(*s.space, s.config, genes, s.params);
  const Graph g =
      FoldedCandidate(s.config, s.space->MethodOf(genes), params, 0, InferencePasses(passes));
  Session session(g, params, {.capacity = s.options.capacity, .workers = Threads()});
  const int64_t part = s.options.capacity.sequences, parts = (images + part - 1) / part;
  ForEachRun(session, parts, [&](int64_t i, int worker) {
    const int64_t count = std::min(part, images - i * part);
    FillFrom(noise, session, i * part, count, worker);
    session.Run({count, 0}, worker);
  });
}

// `dtype` is of candidates; steps are in f32.
void Serve(const std::string& space, int64_t images, const std::string& dtype) {
  Subject subject(space, images);
  const std::vector<float> noise = Noise(images);
  std::cout << "ready" << std::endl;
  for (std::string line; std::getline(std::cin, line);) {
    const auto start = std::chrono::steady_clock::now();
    if (line == "step")
      StepOnce(subject, noise, images);
    else
      CandidateOnce(subject, noise, images, {{}, ParsePrecision(dtype, "")});
    const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - start;
    std::cout << took.count() << std::endl;
  }
}

void Register(const char* stage_name, const char* name, const char* space, Stage stage) {
  benchmark::RegisterBenchmark(fmt::format("{}/{}", stage_name, name).c_str(),
                               [space, stage](benchmark::State& state) {
                                 Subject subject(space);
                                 stage(subject, state);
                               })
      ->Iterations(60)
      ->Unit(benchmark::kMillisecond);
}

}  // namespace
}  // namespace graft

int main(int argc, char** argv) {
  using namespace graft;
  if (argc == 5 && argv[1] == std::string_view("--serve")) {
    Serve(argv[2], std::atoi(argv[3]), argv[4]);
    return 0;
  }
  constexpr std::pair<const char*, const char*> kSpaces[] = {
      {"lora", "lora(r={1|2|4},targets=attn.q|attn.v)"},
      {"noah", "noah"},
      {"mixed", "lora(r={0|2|4|8},targets=attn.*)+adaptformer(r={0|4|8})"},
      {"glora", "glora"}};
  for (const auto& [name, space] : kSpaces) {
    Register("Method", name, space, MethodStage);
    Register("Passes", name, space, PassesStage);
    Register("Path", name, space, PathStage);
    Register("Candidate", name, space, CandidateStage);
  }
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
}
