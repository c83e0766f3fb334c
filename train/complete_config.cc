#include "train/complete_config.h"

#include <filesystem>

#include "adapters/base_hash.h"
#include "adapters/base_model.h"
#include "adapters/merged_run.h"
#include "models/files/class_names.h"
#include "models/files/hf_config.h"
#include "models/text/prompt.h"
#include "train/dataset.h"

namespace graft {

namespace {

// Why the head of a base is not that of these classes, or "".
std::string WhyFresh(const LoadedModel& model, const RunConfig& c,
                     const std::optional<ClassMatch>& match) {
  const std::string problem = ProblemType(model);
  const int64_t classes = Classes(model.config);
  if (!HasTrainedHead(model))
    return problem.empty() ? fmt::format("{} has a head with one output", model.source)
                           : fmt::format("{} has problem_type {}", model.source, problem);
  if (classes != std::ssize(c.labels))
    return fmt::format("{} has a head for {} classes", model.source, classes);
  if (!c.pool.empty() && model.is_bert() && c.pool != model.bert().pool)
    return fmt::format("the head of {} was trained on --pool {}", model.source, model.bert().pool);
  if (!match) return fmt::format("{} has a head for other classes", model.source);
  return "";
}

// Whether the base's head goes on, for which names, and a fresh one otherwise.
void ChooseHead(const LoadedModel& model, RunConfig* c, std::vector<std::string>* notes) {
  std::string why;
  const bool none = !model.params.Has("head.weight") || model.source.starts_with("init:");
  if (none || c->new_head) {
    c->new_head = true;
  } else {
    const std::optional<ClassMatch> match = MatchClasses(c->labels, model.labels);
    why = WhyFresh(model, *c, match);
    c->new_head = !why.empty();
    if (c->new_head) {
      notes->push_back(fmt::format("a fresh head for {} classes: {}", c->labels.size(), why));
    } else {
      std::string note = fmt::format("training goes on from the head of {}", model.source);
      for (int64_t i = 0; i < std::ssize(c->labels) && !match->by_name; ++i) {
        const int64_t j = match->number[i];
        if (c->labels[i] == (model.labels.empty() ? std::to_string(j) : model.labels[j])) continue;
        note += fmt::format("; its class {} is '{}' of the data", j, c->labels[i]);
        break;
      }
      if (!match->SameOrder()) note += "; classes are numbered as there";
      notes->push_back(note + "; --new-head begins with a fresh one");
      c->labels = match->labels;
    }
  }
  if (!c->new_head) return;
  for (const MethodTerm& term : ParseMethod(c->method))
    if (CompleteOptions(term).at("head") == "frozen")
      FailUsage("--method {}: head=frozen, but the head is fresh and would never learn{}",
                c->method, why.empty() ? "" : ": " + why);
}

// The run that a term begins with: where it is, of which base and with which weights.
void CompleteForget(const std::string& model, MethodTerm* term) {
  std::string& run = term->options["run"];
  if (run.empty()) return;  // the method says so
  run = std::filesystem::absolute(run).lexically_normal();
  const std::string hash = HashOfLastWeights(run);
  const AdapterFacts facts = ReadRunFacts(run);
  const bool same =
      facts.base_sha256.empty() ? facts.model == model : facts.base_sha256 == BaseHash(model);
  if (!same)
    FailUsage("method 'forget': {} was trained on another base, {}, than {}", run, facts.model,
              model);
  std::string& known = term->options["sha256"];
  if (!known.empty() && known != hash)
    FailUsage("method 'forget': {} has other weights than those of sha256={}", run, known);
  known = hash;
}

// Whether the model, the tokenizer, the template and the words fit each other.
void ChoosePrompt(LoadedModel model, const RunConfig& c, std::vector<std::string>* notes) {
  if (c.new_head) FailUsage("--new-head: of a classifier; --head mlm has none");
  TakeHead(c, &model);
  PromptEncoder(OpenTokenizer(c), ParsePrompt(c.prompt), static_cast<size_t>(c.max_length));
  std::string words = c.words;
  std::string note = "label words:";
  for (size_t i = 0; i < c.labels.size(); ++i) {
    const size_t bar = words.find('|');
    note += fmt::format("{} {} for class {}", i ? "," : "", words.substr(0, bar), c.labels[i]);
    words.erase(0, bar == words.npos ? bar : bar + 1);
  }
  notes->push_back(note);
}

// Whether the model can learn from plain texts.
void CheckObjective(LoadedModel model, const RunConfig& c) {
  if (c.new_head) FailUsage("--new-head: of a classifier; --objective {} has none", c.objective);
  if (!c.trace.empty()) FailUsage("--trace: not supported with --objective {}", c.objective);
  TakeHead(c, &model);
  MaskToken(OpenTokenizer(c));
}

// Options that mean something only where there is a validation split, or classes.
void CheckValidationOptions(const RunConfig& c) {
  if (c.val_split.empty() && c.early_stopping > 0)
    FailUsage("--early-stopping {}: there is no validation split; hint: --val-split",
              c.early_stopping);
  if (c.val_split.empty() && c.best_metric != "accuracy")
    FailUsage("--best-metric {}: there is no validation split; hint: --val-split", c.best_metric);
  if (c.objective.empty()) return;
  if (c.best_metric != "accuracy" && c.best_metric != "loss")
    FailUsage("--best-metric {}: of classes; --objective {} knows accuracy and loss", c.best_metric,
              c.objective);
  if (!c.class_weights.empty())
    FailUsage("--class-weights {}: of classes; --objective {} has none", c.class_weights,
              c.objective);
}

}  // namespace

RunConfig CompleteRunConfig(RunConfig c, std::vector<std::string>* notes) {
  Method method = ParseMethod(c.method);
  if (c.lr == 0) c.lr = DefaultLearningRate(method);
  CheckRunConfig(c);
  // A run can be continued from any directory.
  if (!c.model.starts_with("init:"))
    c.model = std::filesystem::absolute(c.model).lexically_normal();
  for (MethodTerm& term : method)
    if (term.name == "forget") CompleteForget(c.model, &term);
  c.method = ToString(method);
  c.data = std::filesystem::absolute(c.data).lexically_normal();
  if (!c.tokenizer.empty()) c.tokenizer = std::filesystem::absolute(c.tokenizer).lexically_normal();
  const bool labelled = c.objective.empty();
  const Dataset data(c.data, c.columns, c.objective);
  if (c.train_split.empty()) c.train_split = data.DefaultTrainSplit();
  if (c.train_split.empty())
    Fail("{}: no usual training split; name one with --train-split{}", c.data,
         DidYouMean("train", data.split_names()));
  // The final VTAB protocol trains on all 1,000 images: then nothing is left to validate on.
  if (c.val_split.empty() && c.train_split != "train800val200" &&
      c.train_split != data.DefaultValidationSplit())
    c.val_split = data.DefaultValidationSplit();
  if (c.val_split == "none") c.val_split.clear();
  for (const std::string& split : {c.train_split, c.val_split}) data.CheckSplit(split);
  if (labelled && data.num_classes() < 2)
    Fail("{}: expected at least 2 classes, found {}", c.data, data.num_classes());
  if (!c.val_split.empty() && !c.allow_overlap)
    data.RefuseOverlap(c.val_split, c.train_split, static_cast<size_t>(c.limit));
  CheckValidationOptions(c);
  c.labels = data.labels();
  const LoadedModel model = LoadModel(c.model, c.arch, static_cast<uint64_t>(c.seed));
  CheckInputOptions(model, c.preprocess, c.tokenizer, c.max_length);
  data.CheckKind(model);
  c.max_length = MaxLength(c, model);
  if (!labelled)
    CheckObjective(model, c);
  else if (!c.head.empty())
    ChoosePrompt(model, c, notes);
  else
    ChooseHead(model, &c, notes);
  if (!data.texts()) {
    const ChosenPreprocess chosen = ChoosePreprocess(c.preprocess, model, InputKind::kDataset);
    c.preprocess = ToString(chosen.value), c.preprocess_source = chosen.source;
  }
  c.base_sha256 = KnownBaseHash(c.model).value_or("");
  return c;
}

}  // namespace graft
