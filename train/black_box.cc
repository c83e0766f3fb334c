#include "train/black_box.h"

#include <algorithm>

#include "peft/merge.h"
#include "train/evaluator.h"

namespace graft {

Graph SearchGraph(Graph g) {
  const ValueId param = g.FindLeaf(kSearched);
  GRAFT_CHECK(param.valid(), "nothing is searched");
  const UserList users = g.users(param);
  g.SetTrainable(param, false);
  g.ReplaceUsesIn(param, g.AddInput("z", g.type(param)), users);
  RemoveDropout(g);
  g.EraseUnusedInputs();
  g.EraseDead();
  return g;
}

SearchLimits LimitsOf(const MethodTerm& term) {
  Graph g;
  ParamStore params;
  const std::map<std::string, std::string> options = CompleteOptions(term);
  const MethodArgs a{g, params, options, 0};
  SearchLimits limits;
  limits.dimension = a.Int("d", 0, kCmaMaxDimension);
  if (limits.dimension == 0)
    FailUsage("method '{}': d=0 is what a search leaves; training needs d of at least 1",
              ToString({term}));
  limits.population = a.Int("population", 2, kCmaMaxPopulation);
  limits.generations = a.Int("budget", limits.population, int64_t{1} << 40) / limits.population;
  constexpr int64_t kRound = 100;  // candidates, as in the authors' code
  limits.round = (kRound + limits.population - 1) / limits.population;
  limits.sigma = a.Number("sigma", 1e-6, 1e6);
  return limits;
}

BlackBox::BlackBox(const Graph& graph, ParamStore& params, const SessionOptions& options,
                   const SearchLimits& limits, uint64_t seed)
    : session_(graph, params, options),
      search_(limits.dimension, limits.sigma, limits.population, seed, kSearched) {}

double BlackBox::Generation(BatchSource& data) {
  if (!std::exchange(started_, true)) {
    data.Start(InOrder(data));
    data.Take(data.size());
  }
  const std::span<const double> candidates = search_.Ask();
  const std::vector<Counts> parts = data.Parts(session_.options().capacity);
  std::vector<int64_t> first{0};
  for (const Counts& part : parts) first.push_back(first.back() + part.sequences);
  const int64_t count = std::ssize(parts);
  parts_ = search_.population * count;
  std::vector<double> sums(parts_);
  ForEachRun(session_, parts_, [&](int64_t i, int worker) {
    const int64_t candidate = i / count, part = i % count;
    const std::span<const double> x = candidates.subspan(candidate * search_.n, search_.n);
    float* z = session_.Input("z", worker).f32();
    for (const double value : x) *z++ = static_cast<float>(value);
    data.Fill(session_, first[part], parts[part].sequences, worker);
    session_.Run(parts[part], worker);
    const float* losses = session_.Output("losses", worker).f32();
    for (int64_t k = 0; k < parts[part].sequences; ++k) sums[i] += losses[k];
  });
  std::vector<double> losses(search_.population);
  for (int64_t i = 0; i < parts_; ++i) losses[i / count] += sums[i];
  for (double& loss : losses) loss /= static_cast<double>(data.size());
  search_.Tell(losses);
  return *std::ranges::min_element(losses);
}

void BlackBox::PutBest(ParamStore* params) const {
  std::ranges::transform(search_.best.x, params->Mutable(kSearched),
                         [](double v) { return static_cast<float>(v); });
}

std::vector<std::string> BlackBox::Save(ParamStore* params) const {
  return ToTensors(search_, kSearchState, params);
}

void BlackBox::Load(const ParamStore& params) { FromTensors(params, kSearchState, &search_); }

}  // namespace graft
