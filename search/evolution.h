// Evolution over candidates (GLoRA: Chavan et al. 2023; NOAH: Zhang et al. 2022): no gradients, a
// fitness for each candidate. docs/search.md has the algorithm in full.
//
// Every candidate is drawn from a stream of its own, so that what is drawn does not depend on what
// is measured when: a search that is begun again with the same fitness draws the same candidates.
#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

namespace graft {

using Genes = std::vector<int>;

// Genes that are bred together: which of them count is the choice of another gene.
struct Component {
  size_t own = 0;                         // that gene
  std::vector<size_t> genes;              // in order
  std::vector<std::vector<bool>> active;  // by choice of it, for each of `genes`
};

// What breeding knows of a space.
struct Population {
  std::vector<int> choices;           // by gene
  std::vector<Component> components;  // genes that are in none are bred one by one
  std::function<Genes(Genes)> canonical = [](Genes g) { return g; };  // equal for equal candidates
  std::function<int64_t(const Genes&)> size;                          // parameters
};

struct EvolutionOptions {
  int64_t population = 50, generations = 20, top = 10, mutations = 25, crossovers = 25;
  double mutation = 0.2;       // of a gene that is bred alone, and of a component
  double depth = 0.4;          // of a component that mutates: that it takes another depth
  int64_t max_parameters = 0;  // 0 = no limit
  bool random = false;         // all candidates are drawn, none is bred
  uint64_t seed = 0;
};

struct Fitness {
  double accuracy = 0, loss = 0;
  bool operator==(const Fitness&) const = default;
};
// By accuracy, then by loss.
bool Better(const Fitness& a, const Fitness& b);

struct Evaluated {
  Genes genes;
  int64_t parameters = 0, generation = 0;
  std::string origin;  // random, fitted (random, then made smaller), mutation, crossover
  Fitness fitness;
};

using MeasureGeneration = std::function<void(std::span<Evaluated>)>;
// measure(candidates) fills in the fitness of the candidates of a generation; what it throws ends
// the search. Candidates come in the order in which they are drawn, and none comes twice. Where a
// space is so small or a limit so tight that fewer are left than a generation wants, it has fewer.
std::vector<Evaluated> Evolve(const Population& population, const EvolutionOptions& options,
                              const MeasureGeneration& measure);

// The number of the best: of equal ones the first.
size_t BestOf(const std::vector<Evaluated>& candidates);

}  // namespace graft
