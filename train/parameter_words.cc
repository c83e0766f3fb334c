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

// Whether a word has a meaning of its own and names no parameter.
bool IsKind(const std::string& word) {
  return word == "bias" || word == "vector" || word == "norm";
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

std::vector<std::string> DecayWords(const std::string& words) {
  if (words.empty()) return {};
  const std::vector<std::string> all = SplitAt(words, '|');
  if (std::ranges::count(all, "") > 0)
    FailUsage("--no-decay '{}': expected words joined by '|', such as bias|norm", words);
  return all;
}

std::vector<std::string> PartsOf(const std::map<std::string, int>& trainable) {
  std::vector<std::string> parts;
  for (const auto& [name, rank] : trainable)
    for (const std::string& part : SplitAt(name, '.')) parts.push_back(part);
  return parts;
}

}  // namespace

bool WithoutDecay(const std::string& words, const std::string& name, int rank) {
  return std::ranges::any_of(DecayWords(words),
                             [&](const std::string& word) { return Names(word, name, rank); });
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
  for (const auto& [name, rank] : trainable) used.insert(FindRule(parsed, name, rank));
  for (const RateRule& rule : parsed)
    if (!used.contains(&rule))
      FailUsage("--lr-scale '{}': no parameter that trains is left for '{}'{}", rules, rule.word,
                DidYouMean(rule.word, PartsOf(trainable)));
}

void CheckDecayWords(const std::string& words, const std::map<std::string, int>& trainable) {
  for (const std::string& word : DecayWords(words))
    if (!IsKind(word) && std::ranges::none_of(trainable, [&](const auto& parameter) {
          return Names(word, parameter.first, parameter.second);
        }))
      FailUsage("--no-decay '{}': no parameter that trains has the name '{}'{}", words, word,
                DidYouMean(word, PartsOf(trainable)));
}

}  // namespace graft
