#include "train/parameter_words.h"

#include <algorithm>
#include <charconv>
#include <set>

#include "runtime/error.h"
#include "runtime/graph.h"
#include "runtime/words.h"

namespace graft {
namespace {

bool Names(const std::string& word, const std::string& name, int rank) {
  if (word == "bias") return name.ends_with("bias");
  if (word == "vector") return rank == 1;
  const std::vector<std::string> parts = SplitAt(name, '.');
  if (word == "norm") return parts.size() > 1 && GlobMatch("*norm*", parts[parts.size() - 2]);
  return GlobMatch(word, name) ||
         std::ranges::any_of(parts, [&](const std::string& part) { return GlobMatch(word, part); });
}

struct RateRule {
  std::string word;
  double factor;
};

std::vector<RateRule> ParseRules(const std::string& rules) {
  std::vector<RateRule> parsed;
  if (rules.empty()) return parsed;
  for (const std::string& rule : SplitAt(rules, '|')) {
    const size_t equals = rule.find('=');
    const size_t end = equals == rule.npos ? rule.size() : equals;
    double factor = 0;
    const char *begin = rule.data() + std::min(end + 1, rule.size()),
               *stop = rule.data() + rule.size();
    const auto [read, error] = std::from_chars(begin, stop, factor);
    if (end == 0 || error != std::errc() || read != stop || !(factor >= 1e-6 && factor <= 1e6))
      FailUsage(
          "--lr-scale '{}': expected WORD=FACTOR joined by '|', such as head=10|lora_b=16, with "
          "factors from 1e-6 to 1e6; found '{}'",
          rules, rule);
    parsed.push_back({rule.substr(0, end), factor});
  }
  return parsed;
}

const RateRule* FindRule(const std::vector<RateRule>& rules, const std::string& name, int rank) {
  const auto found = std::ranges::find_if(
      rules, [&](const RateRule& rule) { return Names(rule.word, name, rank); });
  return found == rules.end() ? nullptr : &*found;
}

}  // namespace

bool WithoutDecay(const std::string& words, const std::string& name, int rank) {
  if (words.empty()) return false;
  const std::vector<std::string> all = SplitAt(words, '|');
  if (std::ranges::count(all, "") > 0)
    FailUsage("--no-decay '{}': expected words joined by '|', such as bias|norm", words);
  return std::ranges::any_of(all, [&](const std::string& word) { return Names(word, name, rank); });
}

double RateFactor(const std::string& rules, const std::string& name, int rank) {
  const std::vector<RateRule> parsed = ParseRules(rules);
  const RateRule* rule = FindRule(parsed, name, rank);
  return rule ? rule->factor : 1;
}

std::map<std::string, int> TrainableRanks(const Graph& g) {
  std::map<std::string, int> ranks;
  for (ValueId v : g.Trainable()) ranks[g.value(v).name] = static_cast<int>(g.shape(v).size());
  return ranks;
}

void CheckRateRules(const std::string& rules, const std::map<std::string, int>& trainable) {
  const std::vector<RateRule> parsed = ParseRules(rules);
  std::set<const RateRule*> used;
  std::vector<std::string> parts;
  for (const auto& [name, rank] : trainable) {
    used.insert(FindRule(parsed, name, rank));
    for (const std::string& part : SplitAt(name, '.')) parts.push_back(part);
  }
  for (const RateRule& rule : parsed)
    if (!used.contains(&rule))
      FailUsage("--lr-scale '{}': no parameter that trains is left for '{}'{}", rules, rule.word,
                DidYouMean(rule.word, parts));
}

}  // namespace graft
