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
};

struct MethodRecord {
  std::string_view name, summary, equation, count, source;  // for `graft inspect --methods`
  std::vector<MethodOption> (*options)();
  PassReport (*apply)(const MethodArgs&);
  bool foldable;         // leaves nothing behind after merging
  double learning_rate;  // of AdamW, where the user gives none
};
std::span<const MethodRecord* const> AllMethods();
const MethodRecord& FindMethod(std::string_view name);

// Freezes everything, applies the terms in order, then lets the head train (unless a term says
// head=frozen). Returns one report per term. Throws Error if a term finds no site.
std::vector<PassReport> ApplyMethod(Graph& g, ParamStore& params, const Method& method,
                                    uint64_t seed);

// Whether a parameter is the head's: of a classifier "head.*", of a masked-LM head its transform
// and bias, "mlm.*". (Its decoder is the word embeddings, which are the encoder's.)
bool OfHead(std::string_view parameter);

// How many numbers train.
int64_t TrainableCount(const Graph& g);

// --- what methods are made of ---

// Whether v is a dense layer: a matmul with a parameter as transposed right operand.
bool IsSite(const Graph& g, ValueId v);
// Whether a scope is meant by a target: "attn.q" means blocks.N.attn.q for every N,
// "blocks.3.attn.q" that one, "attn.*" all of attention; '*' matches anything.
bool ScopeMatches(const std::string& scope, const std::vector<std::string>& targets);
// Throws Error with the nearest site names for a target that matches no dense layer.
void CheckTargets(const Graph& g, const std::vector<std::string>& targets);

// Makes the parameters that pass `which` trainable, and returns how many they are.
int SetTrainable(Graph& g, const std::function<bool(const Graph&, ValueId)>& which);

// Whether a node of `op` reads the parameter as its operand `index`.
bool ReadAs(const Graph& g, ValueId param, const OpDef& op, size_t index);

// Whether the parameter is a bias: of a dense layer or a convolution, or of a layer norm.
bool IsBias(const Graph& g, ValueId param);

}  // namespace graft
