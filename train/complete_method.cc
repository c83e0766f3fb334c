#include "train/complete_method.h"

#include <filesystem>

#include "adapters/base_hash.h"
#include "adapters/base_model.h"
#include "adapters/merged_run.h"
#include "adapters/open_model.h"

namespace graft {
namespace {

// Fills in the run that a term begins with: where it is, of which base and with which weights.
void CompleteRun(const RunConfig& c, std::string_view option, MethodTerm* term,
                 std::vector<std::string>* notes) {
  std::string& run = term->options[std::string(option)];
  run = std::filesystem::absolute(run).lexically_normal();
  const std::string hash = HashOfRunWeights(run);
  const AdapterFacts facts = ReadRunFacts(run);
  const bool same =
      facts.base_sha256.empty() ? facts.model == c.model : facts.base_sha256 == BaseHash(c.model);
  if (!same)
    FailUsage("method '{}': {} was trained on another base, {}, than {}", term->name, run,
              facts.model, c.model);
  if (facts.arch != c.arch)
    FailUsage("method '{}': {} was trained with --arch '{}', not '{}'", term->name, run, facts.arch,
              c.arch);
  std::string& known = term->options["sha256"];
  if (!known.empty() && known != hash)
    FailUsage("method '{}': {} has other weights than those of sha256={}", term->name, run, known);
  known = hash;
  notes->push_back(
      fmt::format("'{}' takes the {} weights of {}", term->name, UsualCheckpoint(run), run));
}

// Fills in the ids of the words that a prompt begins with.
void CompleteText(const RunConfig& c, MethodTerm* term) {
  const std::string& text = term->options["text"];
  const std::vector<int32_t> ids = OpenTokenizer(c).Encode(text, {.special_tokens = false}).ids;
  if (ids.empty()) FailUsage("method 'prompt': init=text: expected words as option 'text'");
  term->options["ids"] = fmt::format("{}", fmt::join(ids, "|"));
}

// The option that names the run a term begins with, or nothing.
const char* RunOption(const MethodTerm& term, const std::map<std::string, std::string>& options) {
  if (term.name == "forget") return options.at("run").empty() ? nullptr : "run";
  if (term.name != "prompt") return nullptr;
  const std::string& init = options.at("init");
  return init == "text" || init == "random" || init == "vocab" ? nullptr : "init";
}

}  // namespace

std::string HashOfMethodRuns(const Method& method) {
  std::string hashes;
  for (const MethodTerm& term : method)
    if (const auto options = CompleteOptions(term); const char* run = RunOption(term, options))
      hashes += (hashes.empty() ? "" : " ") + HashOfRunWeights(options.at(run));
  return hashes;
}

void CompleteMethod(const RunConfig& c, Method* method, std::vector<std::string>* notes) {
  for (MethodTerm& term : *method) {
    const std::map<std::string, std::string> options = CompleteOptions(term);
    if (const char* run = RunOption(term, options)) CompleteRun(c, run, &term, notes);
    if (term.name == "prompt" && options.at("init") == "text") CompleteText(c, &term);
  }
}

}  // namespace graft
