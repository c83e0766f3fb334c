// Methods of parameter-efficient fine-tuning as records: each is a named graph rewrite with typed
// options. Sites are found by scope pattern and graph shape, never by model class.
#pragma once
#include "runtime/params.h"
#include "runtime/rewrite.h"

namespace graft {

// One term of METHOD: lora(r=8, targets=attn.q|attn.v).
struct MethodTerm {
  std::string name;
  std::map<std::string, std::string> options;  // as given; lists are joined by '|'
  bool operator==(const MethodTerm&) const = default;
};
using Method = std::vector<MethodTerm>;  // applied in order

// Parses "term(key=value, ...) + term". Unknown names and options are errors with the nearest one.
Method ParseMethod(std::string_view text);
std::string ToString(const Method& method);  // every option given, ParseMethod reads it back

struct MethodOption {
  std::string_view name, value, help;  // `value` is the default
};

// Returns the options of a term, those given and the defaults of the others, and `head`.
std::map<std::string, std::string> CompleteOptions(const MethodTerm& term);

struct MethodArgs {
  Graph& g;
  ParamStore& params;  // new parameters are initialised here unless they exist (resume)
  const std::map<std::string, std::string>& options;  // complete: defaults filled in
  uint64_t seed;
  // Typed access. Throws Error with the option's name for text that is no number, flag or list.
  int64_t Int(std::string_view option, int64_t min, int64_t max) const;
  double Number(std::string_view option, double min, double max) const;
  bool Flag(std::string_view option) const;
  std::vector<std::string> List(std::string_view option) const;
  const std::string& Text(std::string_view option) const;
  // One of the words; Error with the nearest one for another.
  std::string Choice(std::string_view option, const std::vector<std::string>& choices) const;
};

// What merging leaves of a method: nothing (kYes), nodes that no plain model has (kPart: fewer than
// it had; kNo).
enum class Folds { kYes, kPart, kNo };

// The order in which terms are applied, whatever the order in which they are written: what changes
// layers and norms comes before what hangs on their results, and that before what adds tokens or
// keys, which copies the layers that lie on their way.
enum class MethodPhase { kLayers, kBranches, kTokens };

struct MethodRecord {
  std::string_view name, summary, equation, formula, source;  // for `graft inspect --methods`
  std::vector<MethodOption> (*options)();
  PassReport (*apply)(const MethodArgs&);
  // How many numbers it adds or lets train, without the head: the formula, as a function of the
  // plain model `g`. A test compares it with the graph.
  int64_t (*count)(const MethodArgs&);
  Folds folds = Folds::kNo;
  std::string_view why;  // how it folds, or why not
  double learning_rate;  // of AdamW, where the user gives none
  // The term that is left when what depends on parameters only has been computed and has taken the
  // parameters' place, under the names that the method gave it; null if it is the same.
  MethodTerm (*reduced)(const MethodTerm&) = nullptr;
  MethodPhase phase = MethodPhase::kLayers;
  bool repeats = false;  // whether a recipe may hold it more than once
};
std::span<const MethodRecord* const> AllMethods();
const MethodRecord& FindMethod(std::string_view name);

// Freezes everything, applies the terms in order, then lets the head train (unless a term says
// head=frozen). Returns one report per term. Throws Error if a term finds no site.
std::vector<PassReport> ApplyMethod(Graph& g, ParamStore& params, const Method& method,
                                    uint64_t seed);

// How many numbers train.
int64_t TrainableCount(const Graph& g);

// The report of one term: count its sites in `rewrites`. FinishReport erases what the term left
// without a reader and verifies the graph; a term without a site is an Error.
PassReport StartReport(const MethodArgs& a, std::string name);
PassReport FinishReport(const MethodArgs& a, PassReport report);

// Makes the parameters that pass `which` trainable, and returns how many they are.
int SetTrainable(Graph& g, const std::function<bool(const Graph&, ValueId)>& which);

}  // namespace graft
