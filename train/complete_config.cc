#include "train/complete_config.h"

#include <filesystem>

#include "adapters/base_hash.h"
#include "adapters/base_model.h"
#include "adapters/method_graph.h"
#include "data/splits.h"
#include "models/files/class_names.h"
#include "models/text/prompt.h"
#include "models/text/tokenizer_identity.h"
#include "train/black_box.h"
#include "train/complete_method.h"
#include "train/dataset.h"
#include "train/task_metrics.h"

namespace graft {

namespace {

// Says why the head of the base cannot be that of these classes; "" if it can.
std::string WhyFresh(const LoadedModel& model, const RunConfig& c,
                     const std::optional<ClassMatch>& match) {
  const std::string& task = TaskOf(model.config);
  const int64_t classes = Classes(model.config);
  if (task != c.task)
    return task == kClassify ? fmt::format("{} has a head for classes", model.source)
                             : fmt::format("{} has a head for --task {}", model.source, task);
  if (!HasTrainedHead(model, task))
    return fmt::format("{} has a head with one output", model.source);
  if (classes != std::ssize(c.labels))
    return fmt::format("{} has a head for {} {}", model.source, classes,
                       task == kRegression ? "numbers" : "classes");
  if (!c.pool.empty() && model.is_bert() && c.pool != model.bert().pool)
    return fmt::format("the head of {} was trained on --pool {}", model.source, model.bert().pool);
  if (!match) return fmt::format("{} has a head for other classes", model.source);
  return "";
}

// Decides whether the base's head goes on, with which class names, or a fresh one begins.
void ChooseHead(const LoadedModel& model, RunConfig* c, std::vector<std::string>* notes) {
  std::string why;
  const bool none = !model.params.Has("head.weight") || model.source.starts_with("init:");
  if (none || c->new_head) {
    c->new_head = true;
  } else {
    const bool numbers = c->task == kRegression;  // told apart by their order
    const std::optional<ClassMatch> match =
        MatchClasses(c->labels, numbers ? std::vector<std::string>() : model.labels);
    why = WhyFresh(model, *c, match);
    c->new_head = !why.empty();
    if (c->new_head) {
      notes->push_back(fmt::format("a fresh head for {} {}: {}", c->labels.size(),
                                   numbers ? "numbers" : "classes", why));
    } else {
      std::string note = fmt::format("training goes on from the head of {}", model.source);
      for (int64_t i = 0; i < std::ssize(c->labels) && !match->by_name && !numbers; ++i) {
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

// Checks that the model, the tokenizer, the template and the words fit each other.
void ChoosePrompt(LoadedModel model, const RunConfig& c, std::vector<std::string>* notes) {
  if (c.new_head) FailUsage("--new-head: of a classifier; --head mlm has none");
  TakeHead(c, &model);
  PromptEncoder(OpenTokenizer(c), ParsePrompt(c.prompt), c.max_length);
  std::string words = c.words;
  std::string note = "label words:";
  for (size_t i = 0; i < c.labels.size(); ++i) {
    const size_t bar = words.find('|');
    note += fmt::format("{} {} for class {}", i ? "," : "", words.substr(0, bar), c.labels[i]);
    words.erase(0, bar == words.npos ? bar : bar + 1);
  }
  notes->push_back(note);
}

// Checks that the model can learn from plain texts.
void CheckObjective(LoadedModel model, const RunConfig& c) {
  if (c.new_head) FailUsage("--new-head: of a classifier; --objective {} has none", c.objective);
  if (!c.trace.empty()) FailUsage("--trace: not supported with --objective {}", c.objective);
  for (const MethodTerm& term : ParseMethod(c.method))
    if (term.name.starts_with("calibration"))
      FailUsage("--method {}: calibration is of classes, and --objective {} has none", c.method,
                c.objective);
  TakeHead(c, &model);
  MaskToken(OpenTokenizer(c));
}

// Fills in the head, template and words of an objective of sentences.
void TakeSentencePrompt(RunConfig* c) {
  if (c->objective != "nsp" && c->objective != "nss") return;
  const SentencePrompt usual =
      PromptOf(c->objective == "nsp" ? SentenceTaskKind::kPairs : SentenceTaskKind::kChoice);
  if (c->head.empty()) c->head = "mlm";
  if (c->prompt.empty()) c->prompt = usual.prompt;
  if (c->words.empty()) c->words = usual.words;
}

// Refuses options of gradients for a method that is searched and has none; its epochs are its
// validations.
void TakeSearch(const Method& method, RunConfig* config) {
  const MethodTerm* term = SearchedTerm(method);
  if (!term) return;
  const SearchLimits limits = LimitsOf(*term);
  const RunConfig usual, &c = *config;
  const auto refuse = [&](const char* flag, bool given, const char* why) {
    if (given) FailUsage("--{}: method '{}' is found without gradients{}", flag, term->name, why);
  };
  refuse("epochs", c.epochs != usual.epochs, "; its 'budget' says how long");
  refuse("batch-size", c.batch_size != kBatchByKind && c.batch_size != usual.batch_size,
         " from all examples; --limit takes fewer");
  refuse("micro-batch", c.micro_batch != usual.micro_batch, "");
  refuse("lanes", c.lanes != usual.lanes, "");
  refuse("optimizer", c.optimizer != usual.optimizer, "");
  refuse("clip", c.clip != usual.clip, "");
  refuse("schedule", c.schedule != usual.schedule, "");
  refuse("warmup", c.warmup != usual.warmup, "");
  refuse("momentum", c.momentum != usual.momentum, "");
  refuse("weight-decay", c.weight_decay != usual.weight_decay, "");
  refuse("no-decay", !c.no_decay.empty(), "");
  refuse("lr-scale", !c.lr_scale.empty(), "");
  refuse("trace", !c.trace.empty(), "");
  refuse("class-weights", !c.class_weights.empty(), ", by the mean loss of all examples");
  refuse("objective", MasksWords(c), "; mlm has other losses in every epoch");
  config->epochs = (limits.generations + limits.round - 1) / limits.round;
}

// Chooses the splits to train and to validate on. Of a data set without a validation split a part
// of the examples is held out, unless the caller wants none.
void ChooseSplits(Dataset& data, RunConfig* c, std::vector<std::string>* notes) {
  const bool chosen = c->holdout >= 0, labelled = !MasksWords(*c);
  const bool classes = labelled && c->task == kClassify;
  if (c->train_split.empty()) c->train_split = data.DefaultTrainSplit();
  if (c->train_split.empty())
    Fail("{}: no usual training split; name one with --train-split{}", c->data,
         DidYouMean("train", data.split_names()));
  data.CheckSplit(c->train_split);
  // The final VTAB protocol trains on all 1,000 images: then nothing is left to validate on.
  const bool all = c->train_split == "train800val200";
  if (c->val_split.empty() && !all && c->holdout <= 0 &&
      c->train_split != data.DefaultValidationSplit())
    c->val_split = data.DefaultValidationSplit();
  if (classes && data.num_classes() < 2)
    Fail("{}: expected at least 2 classes, found {}", c->data, data.num_classes());
  if (labelled) data.RefuseOneClass(c->train_split);
  if (!chosen) c->holdout = labelled && c->val_split.empty() && !all ? kDefaultHoldout : 0;
  if (c->holdout > 0) {
    try {
      data.HoldOut(c->train_split, c->holdout, c->seed);
    } catch (const Error& e) {
      if (chosen) throw;
      c->holdout = 0;
      notes->push_back(fmt::format("nothing is validated: {}", e.what()));
    }
  }
  if (c->holdout > 0) {
    c->val_split = kHoldout;
    const size_t held = data.Size(kHoldout), rest = data.Size(c->train_split);
    notes->push_back(fmt::format(
        "{}{} of the {} examples of '{}' are held out to validate on (split '{}'){}",
        chosen ? "" : "there is no validation split: ", held, held + rest, c->train_split, kHoldout,
        chosen ? "" : "; --holdout says how many, --val-split none trains on all"));
  }
  if (c->val_split == "none") c->val_split.clear();
  data.CheckSplit(c->val_split);
}

// Refuses options that mean something only with a validation split or with classes.
void CheckValidationOptions(const RunConfig& c) {
  if (c.val_split.empty() && c.early_stopping > 0)
    FailUsage("--early-stopping {}: there is no validation split; hint: --val-split",
              c.early_stopping);
  if (c.val_split.empty() && c.best_metric != DefaultMetric(c.task))
    FailUsage("--best-metric {}: there is no validation split; hint: --val-split", c.best_metric);
  if (!MasksWords(c)) return;
  if (c.best_metric != "accuracy" && c.best_metric != "loss")
    FailUsage("--best-metric {}: of classes; --objective {} knows accuracy and loss", c.best_metric,
              c.objective);
  if (!c.class_weights.empty())
    FailUsage("--class-weights {}: of classes; --objective {} has none", c.class_weights,
              c.objective);
}

// The task that the data tell by their tables; where these say nothing, an example has one class.
std::string TellTask(const RunConfig& c) {
  if (!c.head.empty() || !c.objective.empty()) return kClassify;
  const LabelKind kind = TellLabelKind(ClassesOf(c.data), ParseTextColumns(c.columns));
  return kind == LabelKind::kNumbers   ? kRegression
         : kind == LabelKind::kClasses ? kMultiLabel
                                       : kClassify;
}

}  // namespace

namespace {

// Notes weights that no precision is for.
void CheckPrecision(const LoadedModel& model, const RunConfig& c, std::vector<std::string>* notes) {
  const Precision precision = PassesOf(c).precision;
  CheckKeep(BuildModel(model.config), precision);
  if (precision.cell == CellType::kF32) return;
  for (const MethodTerm& term : ParseMethod(c.method))
    if (FindMethod(term.name).phase == MethodPhase::kQuantise)
      notes->push_back(
          fmt::format("--dtype {}: weights that '{}' holds in 4 bits are multiplied in f32",
                      c.dtype, term.name));
}

}  // namespace

RunConfig CompleteRunConfig(RunConfig c, std::vector<std::string>* notes) {
  Method method = ParseMethod(c.method);
  if (c.task == kTaskByData) {
    c.task = TellTask(c);
    if (c.task != kClassify)
      notes->push_back(fmt::format("--task {}, as the labels are arrays", c.task));
  }
  if (c.best_metric.empty() && std::ranges::find(TaskNames(), c.task) != TaskNames().end())
    c.best_metric = DefaultMetric(c.task);
  c.scale_targets = c.task == kRegression;
  if (c.lr != 0 && SearchedTerm(method))
    FailUsage("--lr: method '{}' is found without gradients; its 'sigma' is the first step size",
              SearchedTerm(method)->name);
  TakeSentencePrompt(&c);
  RunConfig checked = c;  // with values for what is chosen below
  if (c.lr == 0) checked.lr = DefaultLearningRate(method, false);
  if (c.holdout == kHoldoutByDefault) checked.holdout = 0;
  if (c.batch_size == kBatchByKind) checked.batch_size = kImageBatch;
  CheckRunConfig(checked);
  if (c.holdout > 0 && !c.val_split.empty())
    FailUsage("--holdout {}: with --val-split {}; expected one of them", c.holdout, c.val_split);
  TakeSearch(method, &c);
  // An absolute path lets the run be continued from any directory.
  if (!c.model.starts_with("init:"))
    c.model = std::filesystem::absolute(c.model).lexically_normal();
  c.data = std::filesystem::absolute(c.data).lexically_normal();
  if (!c.tokenizer.empty()) c.tokenizer = std::filesystem::absolute(c.tokenizer).lexically_normal();
  CompleteMethod(c, &method, notes);
  c.method = ToString(method);
  const bool labelled = !MasksWords(c);
  Dataset data(c.data, {c.columns, c.objective, c.skip_bad, c.task});
  ChooseSplits(data, &c, notes);
  if (c.lr == 0) c.lr = DefaultLearningRate(method, data.texts());
  if (c.batch_size == kBatchByKind)
    c.batch_size = std::max(c.micro_batch, data.texts() && labelled ? kTextBatch : kImageBatch);
  if (!c.val_split.empty() && !c.allow_overlap)
    data.RefuseOverlap(c.val_split, c.train_split, c.limit);
  CheckValidationOptions(c);
  c.labels = data.labels(), c.read_columns = data.ReadColumns(), c.texts = data.TextForm();
  const LoadedModel model = LoadModel(c.model, c.arch, static_cast<uint64_t>(c.seed));
  CheckInputOptions(model, c.preprocess, c.tokenizer, c.max_length);
  data.CheckKind(model);
  if (!c.augment.empty() && data.texts())
    FailUsage("--augment: changes images, {} holds texts", c.data);
  if (ParseAugment(c.augment).mixes() && !c.class_weights.empty())
    FailUsage("--class-weights: not with mixup or cutmix of --augment, which mix classes");
  if (!c.augment.empty() && !c.trace.empty())
    FailUsage("--trace: not supported with --augment, of which it has no images");
  c.max_length = MaxLength(c, model);
  if (!labelled)
    CheckObjective(model, c);
  else if (!c.head.empty())
    ChoosePrompt(model, c, notes);
  else
    ChooseHead(model, &c, notes);
  CheckPrecision(model, c, notes);
  c.tokenizer_sha256 = data.texts() ? TokenizerIdentity(OpenTokenizer(c).spec()) : "";
  if (!data.texts()) {
    const ChosenPreprocess chosen = ChoosePreprocess(c.preprocess, model, InputKind::kDataset);
    c.preprocess = ToString(chosen.value), c.preprocess_source = chosen.source;
  }
  c.base_sha256 = KnownBaseHash(c.model).value_or("");
  return c;
}

}  // namespace graft
