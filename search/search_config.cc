// search.json: what a search was asked for.
#include "runtime/io/json.h"
#include "search/search_run.h"
#include "search/space.h"

namespace graft {

nlohmann::json ToJson(const SearchConfig& c) {
  const EvolutionOptions& o = c.evolution;
  return {{"space", c.space},
          {"population", o.population},
          {"generations", o.generations},
          {"top", o.top},
          {"mutations", o.mutations},
          {"crossovers", o.crossovers},
          {"mutation", o.mutation},
          {"depth", o.depth},
          {"max_parameters", o.max_parameters},
          {"random", o.random},
          {"seed", o.seed}};
}

SearchConfig ReadSearchConfig(const std::string& path) {
  const Json json = ReadJson(path);
  SearchConfig c;
  EvolutionOptions& o = c.evolution;
  constexpr int64_t kMost = int64_t{1} << 50;
  c.space = GetString(json, "space", path);
  for (const auto& [key, value] : {std::pair("population", &o.population),
                                   {"generations", &o.generations},
                                   {"top", &o.top},
                                   {"mutations", &o.mutations},
                                   {"crossovers", &o.crossovers},
                                   {"max_parameters", &o.max_parameters}})
    *value = GetInt(json, key, 0, kMost, path);
  o.mutation = GetNumber(json, "mutation", 0, 1, path);
  o.depth = GetNumber(json, "depth", 0, 1, path);
  o.random = GetBool(json, "random", path);
  o.seed = static_cast<uint64_t>(GetInt(json, "seed", INT64_MIN, INT64_MAX, path));
  OfFile(path, [&] {
    ParseSpace(c.space);
    CheckEvolution(o);
  });
  return c;
}

void CheckEvolution(const EvolutionOptions& o) {
  const auto in_range = [](const char* flag, int64_t value, int64_t min, int64_t max) {
    if (value < min || value > max)
      FailUsage("--{}: expected {} to {}, found {}", flag, min, max, value);
  };
  in_range("population", o.population, 1, 100000);
  in_range("generations", o.generations, 0, 100000);
  in_range("top", o.top, 1, 100000);
  in_range("mutations", o.mutations, 0, 100000);
  in_range("crossovers", o.crossovers, 0, 100000);
  if (!o.random && o.generations > 0 && o.mutations + o.crossovers > o.population)
    FailUsage("--mutations {} and --crossovers {}: together more than --population {}", o.mutations,
              o.crossovers, o.population);
}

}  // namespace graft
