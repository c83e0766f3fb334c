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

// Parses "term(key=value, ...) + term". Throws Error with the nearest name for unknown names and
// options. Values are not looked at: in a search space they may be choices in braces.
Method ParseMethod(std::string_view text);
std::string ToString(const Method& method);  // every option given, ParseMethod reads it back

struct MethodOption {
  std::string_view name, value, help;  // `value` is the default
};

// Returns the options of a term: those that are given, the defaults of the others, and `head`.
std::map<std::string, std::string> CompleteOptions(const MethodTerm& term);

// What lies outside of the graph and only some methods need.
struct MethodContext {
  // The base's parameters with the run at `path` merged into them, under the names that they have
  // in `base`. The checkpoint must have this SHA-256, if one is given.
  std::function<ParamStore(const std::string& path, const std::string& sha256,
                           const ParamStore& base)>
      merged_run;
  // The tensors that the run at `path` has trained; the hash is as above.
  std::function<ParamStore(const std::string& path, const std::string& sha256)> run_weights;
  // Says that what trains is loaded afterwards, so that its first values do not matter.
  bool reopened = false;
  // For a path through a supernet: the shapes that parameters are stored with, by name. A method
  // gets their first rows and columns (NewParam). If null, parameters have their own shapes.
  const std::map<std::string, Extents>* storage = nullptr;
  // Set by ApplyMethod: the parameters that terms before this one have brought, with their names;
  // and the weights as they were before the first term edited them.
  const std::map<std::string, std::string_view>* brought = nullptr;
  const ParamStore* unedited = nullptr;
  std::string_view term;
};

struct MethodArgs {
  Graph& g;
  ParamStore& params;  // new parameters are initialised here unless they exist (resume)
  const std::map<std::string, std::string>& options;  // complete: defaults filled in
  uint64_t seed;
  const MethodContext& context = kNoContext;
  static const MethodContext kNoContext;
  // Typed access to options. Throws Error with the option's name for a text that is no number, flag
  // or list.
  int64_t Int(std::string_view option, int64_t min, int64_t max) const;
  double Number(std::string_view option, double min, double max) const;
  bool Flag(std::string_view option) const;
  std::vector<std::string> List(std::string_view option) const;
  const std::string& Text(std::string_view option) const;
  // Returns one of the words; throws Error with the nearest one for any other.
  std::string Choice(std::string_view option, const std::vector<std::string>& choices) const;
};

// A place where a term hangs, and which a term of its own could have to itself: option=value
// restricts the term to this one, and the values of several places, joined by '|', to these.
struct MethodSite {
  std::string name;           // "blocks.3.attn.q", "blocks.3"
  std::string option, value;  // "targets", "blocks.3.attn.q"; "blocks", "3"
};

// What merging leaves of a method. kYes: nothing. kPart: nodes that no plain model has, but fewer
// than before. kNo: all of them.
enum class Folds { kYes, kPart, kNo };

// The order in which terms are applied, however they are written: first what edits the values of
// weights, then what quantises them, then what changes the inputs of layers (a branch beside a
// layer reads the same input), then what changes layers and norms, then what hangs on their
// results, and last what adds tokens or keys, which copies the layers on their way.
enum class MethodPhase { kWeights, kQuantise, kInputs, kLayers, kBranches, kTokens };

// A gradient on its way to the optimizer, behind clipping. `rng` is i32 [2] = {step, 0}.
struct GradientSite {
  std::string name;  // of the parameter
  ValueId gradient, rng;
};

// Rates of AdamW where the user gives none, by what the model reads (bench/defaults_sweep.py).
struct LearningRates {
  double images, texts;
  constexpr LearningRates(double both) : images(both), texts(both) {}
  constexpr LearningRates(double for_images, double for_texts)
      : images(for_images), texts(for_texts) {}
  constexpr double Of(bool text) const { return text ? texts : images; }
};

struct MethodRecord {
  std::string_view name, summary, equation, formula, source;  // for `graft inspect --methods`
  std::vector<MethodOption> (*options)();
  PassReport (*apply)(const MethodArgs&);
  // How many numbers the method adds or lets train, without the head, as a formula over the plain
  // model `g`. A test compares it with the graph.
  int64_t (*count)(const MethodArgs&);
  Folds folds = Folds::kNo;
  std::string_view why;  // how it folds, or why not
  LearningRates learning_rate;
  // The term that is left once everything that depends on parameters only is computed and stands in
  // the parameters' place, under the names that the method gave it; null if it is the same term.
  MethodTerm (*reduced)(const MethodTerm&) = nullptr;
  MethodPhase phase = MethodPhase::kLayers;
  bool repeats = false;  // whether a recipe may hold it more than once
  // Builds what the optimizer gets instead of a gradient, in the update phase. Null leaves the
  // gradient.
  ValueId (*gradient)(const MethodArgs&, const GradientSite&) = nullptr;
  // What the names of those of its parameters begin with that do not train and yet belong to the
  // run and the adapter; "" if there are none.
  std::string_view owns = "";
  // How many of a text model's positions it takes from the texts; null means none.
  int64_t (*positions)(const MethodArgs&) = nullptr;
  // Whether what trains is searched by the loss alone, without gradients (train/black_box.h).
  bool searched = false;
  bool trains_nothing = false;  // and hangs beside any other term
  // The places where the term hangs in the plain model `g`, in order, which a search decides one by
  // one. If null, the whole model is one place.
  std::vector<MethodSite> (*sites)(const MethodArgs&) = nullptr;
  // The type of Hugging Face peft's adapters that such a term is written as and read from
  // (adapters/hf), and with which options; "" if peft has no such method.
  std::string_view peft = "";
};
std::span<const MethodRecord* const> AllMethods();
const MethodRecord& FindMethod(std::string_view name);

// Freezes everything, applies the terms in order, then lets the head train (unless a term says
// head=frozen). Returns one report per term. Throws Error if a term finds no site.
std::vector<PassReport> ApplyMethod(Graph& g, ParamStore& params, const Method& method,
                                    uint64_t seed, const MethodContext& context = {});

// The method that is left after training: each term in its reduced form (MethodRecord::reduced).
Method ReducedMethod(Method method);

// The gradient transforms of all terms in order, for OptimizerConfig; empty if no term has one.
using GradientTransform = std::function<ValueId(Graph&, ParamStore&, const std::string& name,
                                                ValueId gradient, ValueId rng)>;
GradientTransform GradientTransformOf(const Method& method, uint64_t seed);

// The term that is searched; null if the method trains by gradients. Throws Error (kUsage) if
// another term trains beside it.
const MethodTerm* SearchedTerm(const Method& method);

// How many positions of a text model this method takes from the tokens.
int64_t PositionsTaken(const Method& method);

// The parameters of the graph that a term owns without training them.
std::vector<std::string> OwnedNames(const Graph& g, const Method& method);

// Returns true once for each name and store, when the weight edit of that name is still to be made;
// copies of the store count as having it, too.
bool EditOnce(ParamStore& params, const std::string& name);

// Names of parameters that training computes without a gradient.
inline constexpr const char* kCalibrationShift = "calibration.shift";  // [K]
inline constexpr const char* kChildMask = "childtuning.mask.";         // + a parameter's name

// Whether a parameter belongs to the head: "head.*" of a classifier; of a masked-LM head its
// transform and bias, "mlm.*". (Its decoder is the word embeddings, which belong to the encoder.)
bool OfHead(std::string_view parameter);

// How many numbers of the graph train.
int64_t TrainableCount(const Graph& g);

// Begins and ends the report of one term, which counts its sites in `rewrites`. FinishReport erases
// what the term has left without a reader, and verifies the graph. Throws Error for a term without
// a site.
PassReport StartReport(const MethodArgs& a, std::string name);
PassReport FinishReport(const MethodArgs& a, PassReport report);

// Makes the parameters that pass `which` trainable, and returns how many they are.
int SetTrainable(Graph& g, const std::function<bool(const Graph&, ValueId)>& which);

}  // namespace graft
