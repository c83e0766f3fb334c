#include "search/evolution.h"

#include <algorithm>
#include <numeric>
#include <set>

#include "runtime/error.h"
#include "runtime/rng.h"

namespace graft {
namespace {

// So many draws for each candidate that a generation wants of one kind.
constexpr int64_t kTries = 10;

// The draws of one candidate, in order.
class Draws {
 public:
  Draws(uint64_t key, int64_t generation, int64_t attempt)
      : stream_{key, static_cast<uint64_t>(generation), static_cast<uint32_t>(attempt)} {}
  int Choice(int n) {
    const uint64_t word = RandomWord(stream_, at_++);
    return static_cast<int>((word * static_cast<uint64_t>(n)) >> 32);
  }
  bool Chance(double p) { return Uniform(stream_, at_++) < p; }

 private:
  StreamKey stream_;
  uint64_t at_ = 0;
};

class Breeding {
 public:
  Breeding(const Population& p, const EvolutionOptions& o, const MeasureGeneration& measure)
      : p_(p), o_(o), measure_(measure), alone_(p.choices.size(), true) {
    for (const Component& c : p.components) {
      alone_[c.own] = false;
      for (const size_t gene : c.genes) alone_[gene] = false;
    }
  }

  std::vector<Evaluated> Run() {
    Fill(0, o_.population);
    MeasureFrom(0);
    for (int64_t generation = 1; generation <= o_.generations; ++generation) {
      ChooseTop();
      const size_t before = all_.size();
      if (!o_.random && !top_.empty()) {
        Breed(generation, "mutation", o_.mutations, [&](Draws& d) { return Mutant(d); });
        Breed(generation, "crossover", o_.crossovers, [&](Draws& d) { return Crossed(d); });
      }
      Fill(generation, o_.population - static_cast<int64_t>(all_.size() - before));
      MeasureFrom(before);
    }
    return std::move(all_);
  }

 private:
  // Nothing of a generation is drawn by the fitness of another of it.
  void MeasureFrom(size_t first) {
    if (first < all_.size()) measure_(std::span(all_).subspan(first));
  }

  // The best so far, of all generations.
  void ChooseTop() {
    top_.resize(all_.size());
    std::iota(top_.begin(), top_.end(), size_t{0});
    std::ranges::stable_sort(
        top_, [&](size_t a, size_t b) { return Better(all_[a].fitness, all_[b].fitness); });
    top_.resize(std::min(top_.size(), static_cast<size_t>(o_.top)));
  }

  Genes Random(Draws& d) const {
    Genes genes;
    for (const int choices : p_.choices) genes.push_back(d.Choice(choices));
    return genes;
  }

  const Genes& Parent(Draws& d) const {
    return all_[top_[static_cast<size_t>(d.Choice(static_cast<int>(top_.size())))]].genes;
  }

  Genes Mutant(Draws& d) const {
    Genes genes = Parent(d);
    for (size_t i = 0; i < genes.size(); ++i)
      if (alone_[i] && d.Chance(o_.mutation)) genes[i] = d.Choice(p_.choices[i]);
    for (const Component& c : p_.components) {
      if (!d.Chance(o_.mutation) || !d.Chance(o_.depth)) continue;
      const std::vector<bool>& before = c.active[static_cast<size_t>(genes[c.own])];
      genes[c.own] = d.Choice(p_.choices[c.own]);
      const std::vector<bool>& after = c.active[static_cast<size_t>(genes[c.own])];
      for (size_t k = 0; k < c.genes.size(); ++k)
        if (after[k] && !before[k]) genes[c.genes[k]] = d.Choice(p_.choices[c.genes[k]]);
    }
    return genes;
  }

  Genes Crossed(Draws& d) const {
    const Genes& a = Parent(d);
    const Genes& b = Parent(d);
    Genes genes = a;
    for (size_t i = 0; i < genes.size(); ++i)
      if (alone_[i] && d.Choice(2) == 1) genes[i] = b[i];
    for (const Component& c : p_.components) {
      if (d.Choice(2) == 0) continue;
      genes[c.own] = b[c.own];
      for (const size_t gene : c.genes) genes[gene] = b[gene];
    }
    return genes;
  }

  bool Fits(const Genes& genes) const {
    return o_.max_parameters == 0 || p_.size(genes) <= o_.max_parameters;
  }

  // Adds what is new and small enough; says whether it was.
  bool Take(Genes genes, int64_t generation, const std::string& origin) {
    genes = p_.canonical(std::move(genes));
    if (seen_.contains(genes) || !Fits(genes)) return false;
    all_.push_back({genes, p_.size(genes), generation, origin, {}});
    seen_.insert(std::move(genes));
    return true;
  }

  void Breed(int64_t generation, const std::string& origin, int64_t wanted, const auto& draw) {
    const uint64_t key = MakeKey(o_.seed, Purpose::kSearch, "evolution." + origin);
    const int64_t limit = kTries * wanted;
    for (int64_t attempt = 0; attempt < limit && wanted > 0; ++attempt) {
      Draws d(key, generation, attempt);
      wanted -= Take(draw(d), generation, origin);
    }
  }

  // With random candidates; if most are too large, the later ones are made smaller until they fit.
  void Fill(int64_t generation, int64_t wanted) {
    const uint64_t key = MakeKey(o_.seed, Purpose::kSearch, "evolution.random");
    const int64_t plain = kTries * o_.population;
    for (int64_t attempt = 0; attempt < 2 * plain && wanted > 0; ++attempt) {
      Draws d(key, generation, attempt);
      Genes genes = Random(d);
      const bool fits = attempt < plain || Fits(p_.canonical(genes));
      if (!fits) Shrink(d, &genes);
      wanted -= Take(std::move(genes), generation, fits ? "random" : "fitted");
    }
  }

  // One gene after the other, from a drawn one on, takes its smallest choice.
  void Shrink(Draws& d, Genes* genes) const {
    const size_t n = genes->size(), first = static_cast<size_t>(d.Choice(static_cast<int>(n)));
    for (size_t k = 0; k < n && !Fits(p_.canonical(*genes)); ++k) {
      const size_t i = (first + k) % n;
      int best = 0;
      int64_t least = -1;
      for (int choice = 0; choice < p_.choices[i]; ++choice) {
        (*genes)[i] = choice;
        const int64_t size = p_.size(p_.canonical(*genes));
        if (least < 0 || size < least) least = size, best = choice;
      }
      (*genes)[i] = best;
    }
  }

  const Population& p_;
  const EvolutionOptions& o_;
  const MeasureGeneration& measure_;
  std::vector<bool> alone_;
  std::vector<Evaluated> all_;
  std::vector<size_t> top_;  // of all_, the best first
  std::set<Genes> seen_;
};

}  // namespace

bool Better(const Fitness& a, const Fitness& b) {
  return a.accuracy != b.accuracy ? a.accuracy > b.accuracy : a.loss < b.loss;
}

std::vector<Evaluated> Evolve(const Population& population, const EvolutionOptions& options,
                              const MeasureGeneration& measure) {
  return Breeding(population, options, measure).Run();
}

size_t BestOf(const std::vector<Evaluated>& candidates) {
  GRAFT_CHECK(!candidates.empty());
  size_t best = 0;
  for (size_t i = 1; i < candidates.size(); ++i)
    if (Better(candidates[i].fitness, candidates[best].fitness)) best = i;
  return best;
}

}  // namespace graft
