#include "search/candidates.h"

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "runtime/io/atomic_file.h"
#include "runtime/io/json.h"

namespace graft {

Population PopulationOf(const BoundSpace& space) {
  Population p;
  p.canonical = [&space](Genes g) { return space.Canonical(std::move(g)); };
  p.size = [&space](const Genes& g) { return space.Parameters(g); };
  const std::vector<Gene>& genes = space.genes();
  for (size_t i = 0; i < genes.size(); ++i) {
    const Gene& gene = genes[i];
    p.choices.push_back(gene.choices);
    if (gene.place < 0) {
      Component& c = p.components.emplace_back();
      c.own = i;
      c.active.resize(static_cast<size_t>(gene.choices));
    } else if (!p.components.empty() && genes[p.components.back().own].term == gene.term) {
      Component& c = p.components.back();
      c.genes.push_back(i);
      for (size_t choice = 0; choice < c.active.size(); ++choice)
        c.active[choice].push_back(
            space.Active(gene.term, static_cast<int>(choice))[static_cast<size_t>(gene.place)]);
    }
  }
  return p;
}

Fitness FitnessOf(const Metrics& metrics) {
  constexpr double kWorst = 1e300;
  if (!std::isfinite(metrics.loss)) return {0, kWorst};
  return {metrics.accuracy, metrics.loss};
}

std::string CandidateLines(const std::vector<Evaluated>& candidates) {
  std::string lines;
  for (const Evaluated& e : candidates)
    lines += DumpJson({{"genes", e.genes},
                       {"parameters", e.parameters},
                       {"generation", e.generation},
                       {"origin", e.origin},
                       {"accuracy", e.fitness.accuracy},
                       {"loss", e.fitness.loss}}) +
             "\n";
  return lines;
}

std::vector<Evaluated> ReadCandidates(const std::string& file, const BoundSpace& space) {
  std::vector<Evaluated> candidates;
  if (!std::filesystem::exists(file)) return candidates;
  const std::string text = ReadFile(file, uint64_t{1} << 30);
  for (size_t begin = 0, end; (end = text.find('\n', begin)) != text.npos; begin = end + 1) {
    const std::string where = fmt::format("{}: line {}", file, candidates.size() + 1);
    const Json line = ParseJson(std::string_view(text).substr(begin, end - begin), where);
    Evaluated& e = candidates.emplace_back();
    const std::vector<int64_t> genes = GetInts(line, "genes", 0, 1 << 20, where);
    e.genes.assign(genes.begin(), genes.end());
    bool fits = e.genes.size() == space.genes().size();
    for (size_t i = 0; fits && i < genes.size(); ++i) fits = e.genes[i] < space.genes()[i].choices;
    if (!fits) Fail("{}: 'genes' are not those of this space", where);
    e.parameters = GetInt(line, "parameters", 0, int64_t{1} << 50, where);
    e.generation = GetInt(line, "generation", 0, int64_t{1} << 30, where);
    e.origin = GetString(line, "origin", where);
    e.fitness = {GetNumber(line, "accuracy", 0, 1, where),
                 GetNumber(line, "loss", 0, 1e300, where)};
  }
  return candidates;
}

std::vector<Evaluated> ParetoFront(const std::vector<Evaluated>& candidates) {
  std::vector<Evaluated> sorted = candidates;
  std::ranges::stable_sort(sorted, [](const Evaluated& a, const Evaluated& b) {
    return a.parameters != b.parameters ? a.parameters < b.parameters
                                        : Better(a.fitness, b.fitness);
  });
  std::vector<Evaluated> front;
  for (const Evaluated& e : sorted)
    if (front.empty() || e.fitness.accuracy > front.back().fitness.accuracy) front.push_back(e);
  return front;
}

std::string CandidatesJson(const std::vector<Evaluated>& candidates, const BoundSpace& space) {
  const std::vector<Evaluated> front = ParetoFront(candidates);
  nlohmann::json list = nlohmann::json::array();
  for (const Evaluated& e : candidates)
    list.push_back({{"method", ToString(space.MethodOf(e.genes))},
                    {"parameters", e.parameters},
                    {"val_accuracy", e.fitness.accuracy},
                    {"val_loss", e.fitness.loss},
                    {"generation", e.generation},
                    {"origin", e.origin},
                    {"front", std::ranges::count(front, e.genes, &Evaluated::genes) > 0}});
  return DumpJson(list, 1) + "\n";
}

std::string CandidatesCsv(const std::vector<Evaluated>& candidates) {
  std::string csv = "number,parameters,val_accuracy,val_loss,generation,origin\n";
  for (size_t i = 0; i < candidates.size(); ++i) {
    const Evaluated& e = candidates[i];
    csv += fmt::format("{},{},{},{},{},{}\n", i + 1, e.parameters, e.fitness.accuracy,
                       e.fitness.loss, e.generation, e.origin);
  }
  return csv;
}

}  // namespace graft
