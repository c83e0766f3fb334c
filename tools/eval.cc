// graft eval
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <optional>

#include "data/splits.h"
#include "runtime/io/atomic_file.h"
#include "runtime/io/files_read.h"
#include "tools/commands.h"
#include "tools/lib/against.h"
#include "tools/lib/calibrate_options.h"
#include "tools/lib/data_report.h"
#include "tools/lib/eval_tables.h"
#include "tools/lib/measure.h"
#include "tools/lib/model_options.h"
#include "tools/lib/output.h"
#include "tools/lib/progress.h"
#include "tools/lib/report.h"
#include "tools/lib/target_tables.h"
#include "train/dataset.h"
#include "train/evaluator.h"
#include "train/run_dir.h"

namespace graft {
namespace {

struct EvalOptions {
  ModelChoice choice;
  std::string data, split, columns, errors, against;
  size_t limit = 0;
  double holdout = 0;
  bool skip_bad = false;
  CalibrateOptions calibrate;
};

bool SamePath(const std::string& a, const std::string& b) {
  std::error_code ignored;
  return std::filesystem::weakly_canonical(a, ignored) ==
         std::filesystem::weakly_canonical(b, ignored);
}

// Opens the data, with the part held out that --holdout asks for or, of its own data, the run has.
Dataset OpenData(const EvalOptions& o, const std::optional<RunConfig>& run,
                 const OpenedModel& opened, const CommonOptions& common) {
  const std::string columns = o.columns.empty() && run ? run->columns : o.columns;
  const AdapterFacts& facts = opened.facts;
  const auto open = [&](const std::vector<std::string>& classes) {
    return Dataset(o.data, {columns, facts.objective, o.skip_bad || (run && run->skip_bad),
                            facts.task, classes});
  };
  // With several labels at once the data need not have every one of them, nor all numbers of a
  // class.
  const std::vector<std::string> labels = opened.labels();
  Dataset data = open(facts.task == kMultiLabel ? labels : std::vector<std::string>());
  const bool numbers = !labels.empty() && std::ranges::all_of(labels, [](const std::string& label) {
    return label.find_first_not_of("0123456789") == label.npos;
  });
  if (facts.task == kClassify && numbers && data.num_classes() != std::ssize(labels))
    data = open(labels);
  double share = o.holdout;
  if (share == 0 && run && (o.split == kHoldout || SamePath(o.data, run->data)))
    share = run->holdout;
  if (share > 0) {
    const std::string split = run ? run->train_split : data.DefaultTrainSplit();
    data.HoldOut(split, share, run ? run->seed : common.seed);
  } else if (o.split == kHoldout) {
    data.CheckSplit(o.split);  // it may have one of this name
  }
  return data;
}

std::string ChooseSplit(const Dataset& data, const EvalOptions& o) {
  const std::string chosen = !o.split.empty() ? o.split
                             : o.holdout > 0  ? kHoldout
                                              : data.DefaultEvalSplit();
  if (!chosen.empty()) return chosen;
  const std::vector<std::string> all = data.split_names();
  if (all.size() == 1)  // somebody's labelled photos, or what a model was trained on
    Fail(
        "{}: no test split; hint: --split {} measures all of it, --holdout {} what graft train "
        "holds out of it",
        data.directory(), all[0], kDefaultHoldout);
  Fail("{}: no test split; name one with --split{}", data.directory(), DidYouMean("test", all));
}

// Warns that classes which are only numbers, in the model or in the data, may still be others.
void CompareLabels(const OpenedModel& opened, const Dataset& data, const CommonOptions& common) {
  const std::vector<std::string> labels = data.labels();
  if (opened.facts.task == kClassify && data.num_classes() < std::ssize(labels))
    Say(common, fmt::format("note: {} of the {} classes occur in {}", data.num_classes(),
                            labels.size(), data.directory()));
  for (size_t i = 0; i < labels.size() && !opened.labels().empty(); ++i)
    if (labels[i] != opened.labels()[i])
      return Say(common, fmt::format("note: {} {} is '{}' in the model and '{}' in {}",
                                     opened.facts.task == kRegression ? "column" : "class", i,
                                     opened.labels()[i], labels[i], data.directory()));
}

nlohmann::json MetricsJson(const Metrics& m) {
  nlohmann::json cells = nlohmann::json::array();
  for (const auto& [cell, count] : m.confusion.cells())
    cells.push_back({cell.first, cell.second, count});
  nlohmann::json json{{"n", m.n},
                      {"accuracy", m.accuracy},
                      {"mean_class_accuracy", m.mean_class_accuracy},
                      {"macro_f1", m.macro_f1},
                      {"matthews_correlation", m.matthews},
                      {"confusion", cells},
                      {"loss", m.loss},
                      {"seconds", m.seconds}};
  if (m.confusion.classes() == 2) json["f1"] = F1(m.confusion, 1);
  return json;
}

nlohmann::json CheckpointJson(const OpenedModel& opened) {
  return opened.checkpoint.empty() ? nlohmann::json() : nlohmann::json(opened.checkpoint);
}

// What was evaluated, on what, and how if not in f32.
std::string Heading(const OpenedModel& opened, const EvalOptions& o, const std::string& split,
                    size_t n, const std::string& unit, const CommonOptions& common) {
  const std::string dtype = ChooseDtype(common.dtype).dtype;
  return fmt::format("{} on {}, split {} ({} {}){}", opened.description, o.data, split, Grouped(n),
                     unit, dtype == "f32" ? "" : ", in " + dtype);
}

// The evaluation of the same examples in another precision.
struct Other {
  Metrics metrics;
  Agreement agreement;
};
Other MeasureAgainst(const std::string& dtype, OpenedModel& opened, BatchSource& examples,
                     const CommonOptions& common, std::span<const float> logits) {
  CommonOptions other = common;
  other.dtype = dtype;
  std::vector<float> others;
  const Metrics m = Measure(opened, examples, other, PassesOf(other), {}, &others);
  return {m, Compare(logits, others, examples.size())};
}

// What the products of a model are in, of which --keep may leave none in what was asked for.
std::string DtypeTaken(OpenedModel& opened, const PassOptions& passes) {
  if (passes.precision.cell == CellType::kF32) return "f32";  // nothing to compile for
  Graph g = opened.ToRun(true);
  InferencePasses(passes).Run(g);
  return DtypeOfProducts(g);
}

// `common` with the precision that is taken, told if it is not the one that was asked for; likewise
// `against`, if there is any.
CommonOptions WithTaken(OpenedModel& opened, const CommonOptions& common, const PassOptions& passes,
                        std::string* against = nullptr) {
  CommonOptions taken = common;
  taken.dtype = DtypeTaken(opened, passes);
  const std::string none = NoneIsIn(ChooseDtype(common.dtype).dtype, taken.dtype);
  if (against && !against->empty()) {
    CommonOptions other = common;
    other.dtype = *against;
    const std::string asked = *against;
    *against = DtypeTaken(opened, PassesOf(other));
    if (*against == taken.dtype && CalibratedProducts(passes) == 0)
      FailUsage("--against {}: both are {}, so nothing would be compared{}", asked, taken.dtype,
                none.empty() ? "" : " (" + none + ")");
    const ChosenDtype chosen = ChooseDtype(asked);
    for (const std::string& why : {chosen.why, NoneIsIn(chosen.dtype, *against)})
      if (!why.empty()) Say(common, "note: --against: " + why);
  }
  if (!none.empty()) Say(common, "note: " + none);
  return taken;
}

// Measures how well masked words of plain texts are guessed.
void RunMasked(const EvalOptions& o, OpenedModel& opened, Dataset& data,
               const CommonOptions& common, const PassOptions& passes) {
  if (!o.errors.empty())
    FailUsage("--errors {}: of classes; {} guesses words", o.errors, opened.description);
  const std::string split = ChooseSplit(data, o);
  const std::unique_ptr<BatchSource> examples =
      data.Load(split, o.limit, opened.model, opened.facts);
  opened.model.bert().mask_rows = examples->mask_rows();
  const CommonOptions taken = WithTaken(opened, common, passes);
  const Metrics m = Measure(opened, *examples, common, passes);
  const double perplexity = std::exp(m.loss);
  PrintJson(common, {{"model", opened.description},
                     {"checkpoint", CheckpointJson(opened)},
                     {"data", o.data},
                     {"split", split},
                     {"n", m.n},
                     {"dtype", taken.dtype},
                     {"accuracy", m.accuracy},
                     {"perplexity", perplexity},
                     {"loss", m.loss},
                     {"seconds", m.seconds}});
  Say(common, fmt::format("{} on {}, split {} ({} masked words in {} texts)", opened.description,
                          o.data, split, Grouped(m.n), Grouped(examples->size())));
  TextTable table({1});
  table.Add({"masked words guessed", Percent(m.accuracy)});
  table.Add({"loss", fmt::format("{:.4f}", m.loss)});
  table.Add({"perplexity", fmt::format("{:.2f}", perplexity)});
  Say(common, table.Lines("  "));
}

// Evaluates a regression, or several labels at once.
void RunTargets(const EvalOptions& o, OpenedModel& opened, Dataset& data, const std::string& split,
                BatchSource& examples, const CommonOptions& common, const PassOptions& passes) {
  const std::string& task = opened.facts.task;
  TargetErrors wrong(task, examples);
  Evaluator::Each judge;
  if (!o.errors.empty())
    judge = [&](size_t example, std::span<const float> logits) { wrong.Add(example, logits); };
  const Metrics m = Measure(opened, examples, common, passes, judge);
  const std::vector<std::string> labels = data.labels();
  if (!o.errors.empty())
    WriteFileAtomically(o.errors, wrong.Csv(data.ExampleNames(split, o.limit), labels));
  if (const std::string notice = examples.notice(); !notice.empty()) Say(common, "note: " + notice);
  nlohmann::json json = TargetsJson(task, m, labels);
  json["checkpoint"] = CheckpointJson(opened);
  if (!o.errors.empty()) json["errors"] = o.errors;
  if (!o.errors.empty() && task == kMultiLabel) json["wrong"] = wrong.count();
  json["dtype"] = ChooseDtype(common.dtype).dtype;
  json["calibrated_products"] = CalibratedProducts(passes);
  json["model"] = opened.description, json["data"] = o.data, json["split"] = split;
  if (o.skip_bad) json["skipped"] = SkippedJson(data.skipped());
  AddPreprocess(opened.facts, !data.texts(), &json);
  PrintJson(common, json);
  Say(common, Heading(opened, o, split, m.n, examples.unit(), common));
  Say(common, MeasuresText(task, m, examples.unit()));
  Say(common, "\n" + TargetsTable(task, m, labels, "  "));
  if (!o.errors.empty())
    Say(common, fmt::format("\n{}: {} examples{}", o.errors, wrong.count(),
                            task == kMultiLabel ? " that are predicted wrongly"
                                                : ", the largest error first"));
}

// Measures how often the right class of several is named, and what that costs in another precision.
void RunClasses(const EvalOptions& o, OpenedModel& opened, Dataset& data, const std::string& split,
                BatchSource& examples, const CommonOptions& common, const PassOptions& passes) {
  std::vector<WrongExample> wrong;
  Evaluator::Each judge;
  if (!o.errors.empty())
    judge = [&](size_t example, std::span<const float> logits) {
      const WrongExample w = Judge(example, examples.label(example), logits);
      if (w.predicted != w.label) wrong.push_back(w);
    };
  std::vector<float> logits;
  const Metrics m =
      Measure(opened, examples, common, passes, judge, o.against.empty() ? nullptr : &logits);
  std::optional<Other> other;
  if (!o.against.empty()) other = MeasureAgainst(o.against, opened, examples, common, logits);
  const std::vector<std::string> labels = data.labels();
  if (!o.errors.empty())
    WriteFileAtomically(o.errors, ErrorsCsv(wrong, data.ExampleNames(split, o.limit), labels));
  if (const std::string notice = examples.notice(); !notice.empty()) Say(common, "note: " + notice);
  nlohmann::json json = MetricsJson(m);
  json["per_class"] = ClassesJson(m.confusion, labels);
  json["checkpoint"] = CheckpointJson(opened);
  if (!o.errors.empty()) json["errors"] = o.errors, json["wrong"] = wrong.size();
  json["dtype"] = ChooseDtype(common.dtype).dtype;
  json["calibrated_products"] = CalibratedProducts(passes);
  if (other)
    json["against"] = AgainstJson(ChooseDtype(o.against).dtype, other->metrics, other->agreement);
  json["model"] = opened.description, json["data"] = o.data, json["split"] = split;
  if (o.skip_bad) json["skipped"] = SkippedJson(data.skipped());
  AddPreprocess(opened.facts, !data.texts(), &json);
  PrintJson(common, json);
  Say(common, Heading(opened, o, split, m.n, examples.unit(), common));
  TextTable table({1});
  table.Add({"accuracy", Percent(m.accuracy)});
  table.Add({"mean class accuracy", Percent(m.mean_class_accuracy)});
  if (m.confusion.classes() == 2)
    table.Add({fmt::format("F1 of {}", labels[1]), Percent(F1(m.confusion, 1))});
  table.Add({"macro F1", Percent(m.macro_f1)});
  table.Add({"Matthews correlation", fmt::format("{:.4f}", m.matthews)});
  table.Add({"loss", fmt::format("{:.4f}", m.loss)});
  const double per_second = static_cast<double>(m.n) / std::max(m.seconds, 1e-9);
  table.Add({fmt::format("{}/s", examples.unit()), fmt::format("{:.1f}", per_second)});
  Say(common, table.Lines("  "));
  if (other)
    Say(common, "  " + AgainstText(ChooseDtype(common.dtype).dtype, ChooseDtype(o.against).dtype, m,
                                   other->metrics, other->agreement));
  Say(common, "\n" + ClassTable(m.confusion, labels, "  "));
  if (const std::string confused = ConfusionText(m.confusion, labels, "  "); !confused.empty())
    Say(common, "\n" + confused);
  if (!o.errors.empty())
    Say(common,
        fmt::format("\n{}: {} predicted wrongly", o.errors, Counted(std::ssize(wrong), "example")));
}

// Refuses a comparison of a precision with itself, which says that nothing is lost.
void CheckAgainst(const EvalOptions& o, const CommonOptions& common) {
  if (o.against.empty()) return;
  const ChosenDtype mine = ChooseDtype(common.dtype), other = ChooseDtype(o.against);
  const bool calibrated = mine.dtype == "int8" && !o.calibrate.data.empty();  // rows are not
  if (mine.dtype != other.dtype || calibrated) return;
  const std::string& why = mine.why.empty() ? other.why : mine.why;
  FailUsage("--against {}: both are {}, so nothing would be compared{}", o.against, mine.dtype,
            why.empty() ? "" : " (" + why + ")");
}

void Run(EvalOptions o, const CommonOptions& common) {
  if (o.choice.preprocess == "list") return PrintPreprocessPresets(common);
  if (!o.against.empty()) CheckDtype(o.against, "--against");
  CheckCalibrateOptions(o.calibrate, common);
  if (o.data.empty() && o.choice.run.empty())
    FailUsage("eval needs --data, the data set's directory");
  ApplyCommonOptions(common);
  CheckAgainst(o, common);
  SayDtype(common);
  OpenedModel opened = OpenModel(With(o.choice, common), InputKind::kDataset);
  SayNotices(common, opened.model.notices);
  const std::optional<RunConfig> run = RunOf(o.choice);
  if (o.data.empty()) {
    o.data = run->data;
    Say(common, "note: --data of the run, " + o.data);
  }
  Dataset data = OpenData(o, run, opened, common);
  SayNotices(common, data.notices());
  data.CheckKind(opened.model);
  if (MasksWords(opened.facts) && !o.against.empty())
    FailUsage("--against {}: of classes; {} guesses words", o.against, opened.description);
  if (opened.facts.task != kClassify && !o.against.empty())
    FailUsage("--against {}: of one class among several; {} was trained with --task {}", o.against,
              opened.description, opened.facts.task);
  const PassOptions passes =
      CalibratedPasses(o.calibrate, run ? run->columns : o.columns, opened, common);
  if (MasksWords(opened.facts)) return RunMasked(o, opened, data, common, passes);
  CheckClasses(opened, &data);
  CompareLabels(opened, data, common);
  const std::string split = ChooseSplit(data, o);
  data.OnProgress([show = ProgressOf(common)](size_t done, size_t total) {
    if (show) show("looking at", done, total, "images");
  });
  const std::unique_ptr<BatchSource> examples =
      data.Load(split, o.limit, opened.model, opened.facts);
  SaySkipped(common, data.skipped());
  if (!data.texts()) Say(common, PreprocessText(opened.facts));
  if (run && split == run->train_split && SamePath(o.data, run->data))
    Say(common,
        fmt::format("note: the run was trained on the split '{}', which it is measured on", split));
  if (!o.errors.empty()) CheckOutputFile(o.errors);  // before the work
  const CommonOptions taken = WithTaken(opened, common, passes, &o.against);
  const auto measure = opened.facts.task == kClassify ? RunClasses : RunTargets;
  measure(o, opened, data, split, *examples, taken, passes);
}

}  // namespace

void AddEvalCommand(CLI::App& app, CommonOptions& common) {
  CLI::App* command = app.add_subcommand("eval", "measure accuracy on labelled images or texts");
  auto o = std::make_shared<EvalOptions>();
  AddModelOptions(*command, o->choice);
  command->add_option(
      "--data", o->data,
      "VTAB-1k lists, one folder per class, or labelled texts (default: the run's own data)");
  command->add_option("--columns", o->columns,
                      "of tables: TEXT,LABEL or TEXT,SECOND,LABEL, names or numbers from 1; "
                      "several columns of labels joined by | (default: the run's)");
  command
      ->add_option("--holdout", o->holdout,
                   "share of the training examples that was held out, as in graft train: split "
                   "'holdout' (default: the run's, of its own data)")
      ->check(CLI::Range(0.001, 0.9));
  command->add_flag("--skip-bad", o->skip_bad, "leave out files and rows that cannot be read");
  command->add_option("--split", o->split,
                      "list to evaluate on (default: test, else a validation split)");
  command
      ->add_option("--limit", o->limit,
                   "N examples only: the first, or evenly spaced ones of folders")
      ->check(CLI::Range(int64_t{0}, int64_t{1'000'000'000'000}));
  command->add_option("--errors", o->errors,
                      "write the examples that are predicted wrongly to this .csv; of a "
                      "regression all, the largest error first");
  command->add_option("--against", o->against,
                      "evaluate in this --dtype too, and say how far both agree");
  AddCalibrateOptions(*command, o->calibrate);
  AddForceOption(*command);
  AddCommonOptions(*command, common);
  command->footer(
      "Example:\n  graft eval --run runs/a --data vtab-1k/eurosat --split test\n"
      "  graft eval --model fused.safetensors --data vtab-1k/eurosat --limit 1000 --json\n"
      "  graft eval --run runs/s --data text/sst2 --split dev --errors errors.csv");
  command->callback([o, &common] { Run(*o, common); });
}

}  // namespace graft
