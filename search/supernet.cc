#include "search/supernet.h"

#include <chrono>

#include "peft/merge.h"
#include "runtime/rng.h"
#include "runtime/verify.h"

namespace graft {

Supernet::Supernet(const BoundSpace& space, const ModelConfig& config, ParamStore& params,
                   SupernetOptions options)
    : space_(space),
      config_(config),
      params_(params),
      options_(std::move(options)),
      plain_(BuildModel(config, options_.build)) {
  options_.optimizer.updates = &updates_;
  // The whole storage gets its first values here, including what the first paths do not read.
  for (const Method& method : space_.Variants()) {
    Graph g = plain_;
    ApplyOnModel(g, config_, method, params_, options_.seed, false, &space_.storage());
  }
}

Genes Supernet::PathAt(int64_t step) const {
  Genes path;
  StreamKey stream;
  uint64_t at = 0;
  for (const Gene& gene : space_.genes()) {
    if (gene.option == 0) {  // the first of a place, or a term's own
      const std::string place = gene.place < 0 ? "" : space_.places(gene.term)[gene.place].name;
      const std::string name = fmt::format("path.{}.{}", gene.term, place);
      stream = {MakeKey(options_.seed, Purpose::kSearch, name), static_cast<uint64_t>(step), 0};
      at = 0;
    }
    const uint64_t word = RandomWord(stream, at++);
    path.push_back(static_cast<int>((word * static_cast<uint64_t>(gene.choices)) >> 32));
  }
  return space_.Canonical(std::move(path));
}

Graph Supernet::PathGraph(const Genes& path) {
  Graph g = plain_;
  ApplyOnModel(g, config_, space_.MethodOf(path), params_, options_.seed, false, &space_.storage());
  return g;
}

TrainStep& Supernet::StepOf(const Genes& path) {
  for (auto it = steps_.begin(); it != steps_.end(); ++it)
    if (it->first == path) {
      steps_.splice(steps_.begin(), steps_, it);
      return *it->second;
    }
  using Clock = std::chrono::steady_clock;
  const Clock::time_point start = Clock::now();
  // The first path has shown that the rewrites are right; later ones are verified once, by their
  // session.
  std::optional<VerifyAtTheEnd> trusting;
  if (compiled_ > 0) trusting.emplace();
  auto step = std::make_unique<TrainStep>(PathGraph(path), params_, options_.optimizer,
                                          options_.capacity, TrainingPasses(options_.passes),
                                          TrainStep::Parallel{.shared = &shared_});
  if (options_.group) step->ShareWith(options_.group);
  compile_seconds_ += std::chrono::duration<double>(Clock::now() - start).count();
  ++compiled_;
  steps_.emplace_front(path, std::move(step));
  if (steps_.size() > options_.sessions) steps_.pop_back();
  return *steps_.front().second;
}

std::vector<std::string> Supernet::StateNames() const {
  std::vector<std::string> names;
  for (const auto& [name, entry] : params_.entries())
    if (updates_.contains(name) || name.starts_with("opt.")) names.push_back(name);
  return names;
}

namespace {

// Sets the first rows and columns, which FirstOf of peft/parameters.cc reads.
void SetFirst(const ParamStore& from, const std::string& name, const Extents& shape,
              ParamStore* to) {
  const ParamStore::Entry& stored = from.Get(name);
  if (stored.shape == shape) return to->SetShared(name, from, name);
  const int64_t stride = stored.shape.rank > 1 ? stored.shape[1] : 1;
  const int64_t rows = shape[0], cols = shape.rank > 1 ? shape[1] : 1;
  std::vector<float> first;
  for (int64_t r = 0; r < rows; ++r) {
    const auto row =
        stored.values().subspan(static_cast<size_t>(r * stride), static_cast<size_t>(cols));
    first.insert(first.end(), row.begin(), row.end());
  }
  to->Set(name, shape, first);
}

}  // namespace

ParamStore CandidateParams(const BoundSpace& space, const ModelConfig& config, const Genes& genes,
                           const ParamStore& supernet) {
  ParamStore params;
  for (const auto& [name, entry] : supernet.entries())
    if (!name.starts_with("opt.") && !space.storage().contains(name))
      params.SetShared(name, supernet, name);
  // The shapes are those that the method has by itself.
  ParamStore scratch = params;
  const Graph g = MethodGraph(config, {}, space.MethodOf(genes), scratch, 0, nullptr, true);
  for (ValueId v : g.Leaves(Role::kParam))
    if (const std::string& name = g.value(v).name;
        space.storage().contains(name) && supernet.Has(name))
      SetFirst(supernet, name, At(g.shape(v), {}), &params);
  return params;
}

Graph FoldedCandidate(const ModelConfig& config, const Method& method, ParamStore& params,
                      uint64_t seed, const PassManager& passes) {
  const std::vector<std::string> base = BuildModel(config).ParamNames();
  Graph g = InferenceGraph(config, method, params, seed, true);
  Merge(g, params, base);
  passes.Run(g);
  return g;
}

}  // namespace graft
