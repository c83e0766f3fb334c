// Compares the evolution of graft search with a Python reimplementation, draw by draw;
// fixtures/make_evolution.py says what the toy spaces and their fitness are.
#include "search/evolution.h"

#include <gtest/gtest.h>

#include <set>

#include "runtime/error.h"
#include "runtime/io/json.h"
#include "search/candidates.h"
#include "tests/fixture_testing.h"

namespace graft::evolution_test {
namespace {

const Json& Cases() {
  static const Json json = ReadJson(kFixtures + "evolution.json");
  return json["cases"];
}

Population ToyPopulation(const Json& space) {
  Population p;
  p.choices = space["choices"].get<std::vector<int>>();
  for (const Json& c : space["components"])
    p.components.push_back({c["own"].get<size_t>(), c["genes"].get<std::vector<size_t>>(),
                            c["active"].get<std::vector<std::vector<bool>>>()});
  p.canonical = [components = p.components](Genes genes) {
    for (const Component& c : components)
      for (size_t k = 0; k < c.genes.size(); ++k)
        if (!c.active[static_cast<size_t>(genes[c.own])][k]) genes[c.genes[k]] = 0;
    return genes;
  };
  p.size = [cost = space["cost"].get<std::vector<int64_t>>()](const Genes& genes) {
    int64_t sum = 0;
    for (size_t i = 0; i < genes.size(); ++i) sum += cost[i] * genes[i];
    return sum;
  };
  return p;
}

EvolutionOptions OptionsOf(const Json& o) {
  EvolutionOptions e;
  e.population = o["population"], e.generations = o["generations"], e.top = o["top"];
  e.mutations = o["mutations"], e.crossovers = o["crossovers"];
  e.mutation = o["mutation"], e.depth = o["depth"];
  e.max_parameters = o["max_parameters"], e.random = o["random"];
  e.seed = static_cast<uint64_t>(o["seed"].get<int64_t>());
  return e;
}

Fitness ToyFitness(const Genes& genes) {
  int accuracy = 0, loss = 0;
  for (int i = 0; i < static_cast<int>(genes.size()); ++i) {
    const int g = genes[static_cast<size_t>(i)];
    accuracy += (i + 2) * g, loss += (7 * i + 3) * (g + 1) * (g + 1);
  }
  return {accuracy % 11 / 10.0, loss % 13 / 8.0};
}

std::vector<Evaluated> RunToy(const Json& c) {
  return Evolve(ToyPopulation(c["space"]), OptionsOf(c["options"]),
                [](std::span<Evaluated> generation) {
                  for (Evaluated& e : generation) e.fitness = ToyFitness(e.genes);
                });
}

TEST(Evolution, DrawsWhatPythonDraws) {
  ASSERT_EQ(Cases().size(), 7u);
  for (const Json& c : Cases()) {
    SCOPED_TRACE(c["name"].get<std::string>());
    const std::vector<Evaluated> found = RunToy(c);
    ASSERT_EQ(found.size(), c["candidates"].size());
    for (size_t i = 0; i < found.size(); ++i) {
      const Json& expected = c["candidates"][i];
      ASSERT_EQ(found[i].genes, expected["genes"].get<Genes>()) << i;
      EXPECT_EQ(found[i].parameters, expected["parameters"].get<int64_t>()) << i;
      EXPECT_EQ(found[i].generation, expected["generation"].get<int64_t>()) << i;
      EXPECT_EQ(found[i].origin, expected["origin"].get<std::string>()) << i;
      EXPECT_EQ(found[i].fitness.accuracy, expected["accuracy"].get<double>()) << i;
      EXPECT_EQ(found[i].fitness.loss, expected["loss"].get<double>()) << i;
    }
  }
}

// The last generation counts, and ties of accuracy go to the smaller loss.
TEST(Evolution, TheBestIsOfAllGenerations) {
  std::vector<Evaluated> all(4);
  all[0].fitness = {0.5, 2}, all[1].fitness = {0.7, 3}, all[2].fitness = {0.7, 1};
  all[3].fitness = {0.7, 1};
  EXPECT_EQ(BestOf(all), 2u);
  all[3].fitness = {0.8, 9};
  EXPECT_EQ(BestOf(all), 3u);
}

TEST(Evolution, NothingIsMeasuredTwiceAndNothingAboveTheLimit) {
  for (const Json& c : Cases()) {
    const int64_t limit = c["options"]["max_parameters"];
    std::set<Genes> seen;
    for (const Evaluated& e : RunToy(c)) {
      EXPECT_TRUE(seen.insert(e.genes).second);
      if (limit > 0) {
        EXPECT_LE(e.parameters, limit);
      }
    }
  }
}

// JSON has no NaN, and a resumed search reads what was written.
TEST(Evolution, ALossThatIsNotFiniteIsTheWorst) {
  Metrics lost;
  lost.accuracy = 0.9, lost.loss = NAN;
  Evaluated e;
  e.fitness = FitnessOf(lost);
  EXPECT_TRUE(Better({0.0, 1e9}, e.fitness));
  EXPECT_EQ(CandidateLines({e}).find("null"), std::string::npos);
  lost.loss = 0.5;
  EXPECT_EQ(FitnessOf(lost), (Fitness{0.9, 0.5}));
}

// What is measured again from a list gives the same candidates, which is how a search resumes.
TEST(Evolution, GoesOnFromAList) {
  const Json& c = Cases()[0];
  const std::vector<Evaluated> whole = RunToy(c);
  std::vector<Evaluated> list;
  struct Killed {};
  for (const size_t until : {size_t{5}, size_t{30}, size_t{71}, size_t{1000}}) {
    size_t at = 0;
    const auto measure = [&](std::span<Evaluated> generation) {
      for (Evaluated& e : generation) {
        if (at == list.size()) {
          if (list.size() == until) throw Killed();
          list.push_back(e);
          list.back().fitness = ToyFitness(e.genes);
        }
        EXPECT_EQ(list[at].genes, e.genes);
        e.fitness = list[at++].fitness;
      }
    };
    try {
      Evolve(ToyPopulation(c["space"]), OptionsOf(c["options"]), measure);
      EXPECT_EQ(until, 1000u);
    } catch (const Killed&) {
    }
  }
  ASSERT_EQ(list.size(), whole.size());
  for (size_t i = 0; i < list.size(); ++i) EXPECT_EQ(list[i].genes, whole[i].genes) << i;
}

}  // namespace
}  // namespace graft::evolution_test
