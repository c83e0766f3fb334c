// graft predict
#include <algorithm>
#include <cmath>

#include "adapters/joint_model.h"
#include "data/splits.h"
#include "runtime/io/atomic_file.h"
#include "runtime/io/files_read.h"
#include "runtime/io/json.h"
#include "tools/commands.h"
#include "tools/lib/calibrate_options.h"
#include "tools/lib/data_report.h"
#include "tools/lib/imagenet_names.h"
#include "tools/lib/model_options.h"
#include "tools/lib/output.h"
#include "tools/lib/predict_output.h"
#include "tools/lib/progress.h"
#include "tools/lib/report.h"
#include "train/evaluator.h"
#include "train/run_dir.h"

namespace graft {
namespace {

struct PredictOptions {
  ModelChoice choice;
  std::vector<std::string> adapters, inputs, texts;
  int64_t top = 0;       // 0 = kTop, or 1 in a table
  double threshold = 0;  // 0 = not given: kThreshold
  std::string logits, out, columns, labels;
  bool skip_bad = false;
  CalibrateOptions calibrate;

  bool csv() const { return out.ends_with(".csv"); }
};

constexpr int64_t kTop = 5;
constexpr double kThreshold = 0.5;

// The memory of the logits, which are there twice while they are put in order. Without a budget
// they have a bound of their own.
size_t LogitBytes(const JointModel& joint, const PredictInputs& inputs,
                  const CommonOptions& common) {
  constexpr size_t kMost = size_t{1} << 30;
  const size_t n = inputs.examples.size();
  size_t classes = 0;
  for (const JointModel::Member& m : joint.members)
    classes += static_cast<size_t>(Classes(m.opened.model.config));
  const size_t bytes = 2 * sizeof(float) * n * classes;
  if (common.memory_budget.empty() && bytes > kMost)
    Fail("{} inputs, of {} logits each: expected at most {} at once; hint: several calls", n,
         classes, kMost / (2 * sizeof(float) * classes));
  return bytes;
}

// The examples of a group by their number in it.
std::vector<size_t> ExamplesOf(const PredictInputs& inputs, size_t group) {
  std::vector<size_t> examples;
  for (size_t i = 0; i < inputs.group.size(); ++i)
    if (inputs.group[i] == group) examples.push_back(i);
  return examples;
}

// Those that turn out to be bad get their error, without what it says to a command that it ends.
Logits ComputeLogits(JointModel& joint, PredictInputs& inputs, const CommonOptions& common) {
  const size_t held = LogitBytes(joint, inputs, common);
  std::vector<std::string> outputs;
  for (const JointModel::Member& m : joint.members) outputs.push_back(m.output);
  std::vector<Logits> of_group;
  for (size_t group = 0; group < inputs.data.size(); ++group) {
    of_group.emplace_back(outputs.size());
    if (!inputs.data[group]) continue;
    BatchSource& data = *inputs.data[group];
    const SessionOptions options =
        InferenceOptions(joint.graph, joint.params, joint.first().model.config, data,
                         common.memory_budget, PassNames(), held);
    Evaluator evaluator(joint.graph, joint.params, options, PassNames());
    evaluator.OnProgress("predict", ProgressOf(common));
    const std::vector<size_t> examples = ExamplesOf(inputs, group);
    evaluator.OnBad([&](size_t example, const std::string& why) {
      std::string& error = inputs.examples[examples[example]].error;
      error = why;
      if (error.ends_with(kSkipBadHint))
        error.resize(error.size() - std::string_view(kSkipBadHint).size());
    });
    of_group.back() = evaluator.Outputs(data, outputs);
  }
  Logits logits(outputs.size());
  for (size_t m = 0; m < outputs.size(); ++m) {
    const int64_t classes = Classes(joint.members[m].opened.model.config);
    std::vector<int64_t> taken(of_group.size());
    for (size_t i = 0; i < inputs.examples.size(); ++i) {
      if (!inputs.examples[i].error.empty()) continue;
      const size_t group = inputs.group[i];
      const auto row = of_group[group][m].begin() + classes * taken[group]++;
      logits[m].insert(logits[m].end(), row, row + classes);
    }
    if (!std::all_of(logits[m].begin(), logits[m].end(), [](float x) { return std::isfinite(x); }))
      Fail(
          "{} gives logits that are not finite; the input's values are too large, or the weights "
          "are damaged",
          joint.members[m].opened.description);
  }
  return logits;
}

// What the adapters share and what is each one's own.
nlohmann::json DescribeSharing(const JointModel& joint, const CommonOptions& common) {
  nlohmann::json adapters = nlohmann::json::array();
  TextTable table({1});
  for (const JointModel::Member& m : joint.members) {
    adapters.push_back({{"adapter", m.name},
                        {"method", m.opened.facts.method},
                        {"classes", Classes(m.opened.model.config)},
                        {"own_nodes", m.own.nodes},
                        {"own_parameters", m.own.values}});
    table.Add({m.name, fmt::format("{} nodes", m.own.nodes),
               fmt::format("and {} parameters of its own", Grouped(m.own.values))});
  }
  Say(common, fmt::format("{} adapters, {} nodes of {} shared\n{}", joint.members.size(),
                          joint.shared_nodes, joint.graph.live_nodes(), table.Lines("  ")));
  return adapters;
}

// Names of --labels, or of ImageNet where 1,000 classes have none.
void NameClasses(const PredictOptions& o, JointModel* joint, const CommonOptions& common) {
  std::vector<std::string> names;
  if (!o.labels.empty()) names = ReadClassNames(o.labels);
  for (JointModel::Member& m : joint->members) {
    LoadedModel& model = m.opened.model;
    const int64_t classes = Classes(model.config);
    if (!names.empty() && std::ssize(names) != classes)
      Fail("--labels {}: {} names, but {} has {} classes", o.labels, names.size(),
           m.opened.description, classes);
    const bool of_file = !m.opened.facts.model.starts_with("init:") && !model.is_bert();
    if (!names.empty()) {
      model.labels = names;
    } else if (model.labels.empty() && of_file && classes == std::ssize(ImageNetNames())) {
      model.labels = ImageNetNames();
      Say(common,
          "note: names are those of ImageNet-1k, as the model has 1,000 classes and no "
          "names; --labels FILE gives others");
    }
  }
}

// Takes those inputs away that could not be read, so that no row of any output is theirs.
nlohmann::json LeaveOutBad(PredictInputs* inputs, const CommonOptions& common) {
  std::vector<Skipped> skipped;
  PredictInputs good;
  for (size_t i = 0; i < inputs->examples.size(); ++i) {
    const PredictInput& e = inputs->examples[i];
    if (e.error.empty())
      good.Add(e, inputs->group[i]);
    else
      skipped.push_back({e.input, e.error});
  }
  inputs->examples = std::move(good.examples), inputs->group = std::move(good.group);
  SaySkipped(common, skipped);
  return SkippedJson(skipped);
}

void CheckOptions(const PredictOptions& o) {
  if (o.inputs.empty() && o.texts.empty())
    FailUsage("predict needs images or .npy files, or texts; example: graft predict --help");
  if (o.adapters.size() > 1 && !o.logits.empty() && !o.logits.ends_with(".npz"))
    FailUsage(
        "--logits {}: the logits of several adapters are several arrays; hint: name an "
        ".npz, which has them as logits_0, logits_1, ... in the order of --adapter",
        o.logits);
  if (!o.out.empty() && !o.csv() && !o.out.ends_with(".jsonl"))
    FailUsage("--out {}: expected a name that ends in .csv or .jsonl", o.out);
}

// Options that say nothing of what the model predicts.
void CheckTasks(const PredictOptions& o, const JointModel& joint) {
  const auto any = [&](const char* task) {
    return std::ranges::any_of(joint.members, [&](const JointModel::Member& m) {
      return TaskOf(m.opened.model.config) == task;
    });
  };
  const OpenedModel& opened = joint.first();
  if (o.threshold > 0 && !any(kMultiLabel))
    FailUsage("--threshold {}: of several labels at once; {} gives {}", o.threshold,
              opened.description, any(kRegression) ? "numbers" : "one class");
  if (o.top > 0 && !any(kClassify) && !any(kMultiLabel))
    FailUsage("--top {}: of classes; {} gives numbers", o.top, opened.description);
  if (o.top > 0 && o.csv() && any(kMultiLabel))
    FailUsage("--top {}: a .csv has a column for each of the labels; hint: .jsonl", o.top);
  if (o.csv() && joint.members.size() > 1 && (any(kRegression) || any(kMultiLabel)))
    FailUsage(
        "--out {}: several adapters that do not choose one class have no common columns; "
        "hint: .jsonl",
        o.out);
}

PredictInputs OpenInputs(const PredictOptions& o, const OpenedModel& opened,
                         const CommonOptions& common) {
  const bool texts = opened.model.is_bert();
  if (!o.texts.empty() && !texts)
    FailUsage("--text: {} is a vision transformer, which reads images", opened.description);
  std::vector<std::string> notes;
  const std::vector<std::string> files = ExpandInputs(o.inputs, !texts, &notes);
  if (!o.columns.empty() && !texts && !std::ranges::any_of(files, NamesTable))
    FailUsage("--columns {}: of tables (.csv, .tsv, .jsonl), none of which is given", o.columns);
  const std::optional<RunConfig> run = RunOf(o.choice);
  const std::string usual = !run ? "" : run->columns.empty() ? run->read_columns : run->columns;
  PredictInputs inputs = texts ? OpenTexts(o.texts, files, o.columns, usual, opened, &notes)
                               : OpenImages(files, o.columns, usual, opened, &notes);
  SayNotices(common, notes);
  return inputs;
}

// Shows the predictions, or writes them to --out, and returns them if they are wanted as JSON.
nlohmann::json Tell(const PredictOptions& o, const JointModel& joint, const PredictInputs& inputs,
                    const Logits& logits, const CommonOptions& common) {
  const bool several = joint.members.size() > 1;
  const bool classes = joint.first().facts.task == kClassify;
  const int64_t top = o.top > 0 ? o.top : !classes ? 0 : o.csv() ? 1 : kTop;
  nlohmann::json predictions = nlohmann::json::array();
  std::string text;
  if (o.csv()) text = classes ? CsvHeader(several, top) : TargetCsvHeader(joint.first());
  const auto line = [&](const nlohmann::json& p) {
    if (!o.csv()) return ShowJson(p) + "\n";
    return classes ? CsvLines(p, several, top) : TargetCsvLine(p, joint.first());
  };
  const bool texts = joint.first().model.is_bert();
  const size_t columns = texts ? ShownColumns(common) : 0;  // of a path the end is wanted
  const ShownOutputs shown{top, o.threshold > 0 ? o.threshold : kThreshold};
  ForEachPrediction(joint, inputs, logits, shown, [&](const nlohmann::json& prediction) {
    if (common.json) predictions.push_back(prediction);
    if (o.out.empty()) return Say(common, PredictionText(prediction, columns));
    text += line(prediction);
  });
  if (!o.out.empty()) WriteFileAtomically(o.out, text);
  return predictions;
}

// The scales of one model are found before it is compiled.
JointModel OpenModels(const PredictOptions& o, const CommonOptions& common) {
  ModelChoice choice = With(o.choice, common);
  if (o.calibrate.data.empty())
    return OpenJointModel(choice, o.adapters, InputKind::kImages, PassesOf(common));
  if (o.adapters.size() > 1)
    FailUsage("--calibrate {}: of one model; found {} adapters", o.calibrate.data,
              o.adapters.size());
  if (!o.adapters.empty()) choice.adapter = o.adapters[0];
  OpenedModel opened = OpenModel(choice, InputKind::kImages);
  const std::optional<RunConfig> run = RunOf(o.choice);
  const PassOptions passes =
      CalibratedPasses(o.calibrate, run ? run->columns : o.columns, opened, common);
  JointModel joint = OpenJointModel(choice, o.adapters, InputKind::kImages, passes);
  if (passes.precision.calibration) AddSeen(*passes.precision.calibration, joint.params);
  return joint;
}

void Run(const PredictOptions& o, const CommonOptions& common) {
  if (o.choice.preprocess == "list") return PrintPreprocessPresets(common);
  CheckOptions(o);
  CheckCalibrateOptions(o.calibrate, common);
  ApplyCommonOptions(common);
  SayDtype(common);
  JointModel joint = OpenModels(o, common);
  for (const JointModel::Member& m : joint.members) CheckProblem(m.opened);
  const std::string none = NoneIsIn(ChooseDtype(common.dtype).dtype, DtypeOfProducts(joint.graph));
  if (!none.empty()) Say(common, "note: " + none);
  CheckTasks(o, joint);
  const OpenedModel& opened = joint.first();
  SayNotices(common, opened.model.notices);
  NameClasses(o, &joint, common);
  PredictInputs inputs = OpenInputs(o, opened, common);
  if (inputs.examples.size() == 1 && inputs.failed() == 1) Fail("{}", inputs.first());
  const bool images = !opened.model.is_bert() && inputs.data[0];
  if (images) Say(common, PreprocessText(opened.facts));
  CheckOutputFiles({{"--logits", o.logits}, {"--out", o.out}});  // before the work
  const Logits logits = ComputeLogits(joint, inputs, common);
  if (inputs.examples.size() == 1 && inputs.failed() == 1) Fail("{}", inputs.first());
  if (images)
    if (const std::string notice = inputs.data[0]->notice(); !notice.empty())
      Say(common, "note: " + notice);
  const auto all = std::ssize(inputs.examples), failed = static_cast<int64_t>(inputs.failed());
  const std::string first = failed > 0 ? inputs.first() : "";
  nlohmann::json json = nlohmann::json::object();
  if (o.skip_bad) json["skipped"] = LeaveOutBad(&inputs, common);
  if (!o.logits.empty()) WriteLogits(o.logits, joint, inputs, logits);
  if (joint.members.size() > 1) {
    json["adapters"] = DescribeSharing(joint, common);
    json["nodes"] = joint.graph.live_nodes(), json["shared_nodes"] = joint.shared_nodes;
  }
  json["predictions"] = Tell(o, joint, inputs, logits, common);
  json["n"] = all, json["failed"] = failed;
  json["dtype"] = DtypeOfProducts(joint.graph);
  if (!o.out.empty()) json["out"] = o.out;
  AddPreprocess(opened.facts, images, &json);
  PrintJson(common, json);
  if (!o.out.empty())
    Say(common, fmt::format("{}: {}", o.out, Counted(all - failed, "prediction")));
  if (!o.logits.empty()) Say(common, fmt::format("logits of all classes: {}", o.logits));
  if (failed > 0 && (!o.skip_bad || failed == all))
    Fail("{} of {} inputs could not be read; the first: {}{}", failed, all, first,
         o.skip_bad || first.find("hint: ") != first.npos ? "" : kSkipBadHint);
}

}  // namespace

void AddPredictCommand(CLI::App& app, CommonOptions& common) {
  CLI::App* command = app.add_subcommand("predict", "classes, or numbers, of images or texts");
  auto o = std::make_shared<PredictOptions>();
  AddModelOptions(*command, o->choice, &o->adapters);
  command->add_option("inputs", o->inputs,
                      "images, .npy of normalised [n,3,H,W] float32, or tables of paths of "
                      "images; for a BERT .csv, .tsv, .jsonl, or files with a text in each line; "
                      "folders with such files, and patterns in quotes, \"photos/*.jpg\"");
  command->add_option("--text", o->texts, "a text; a tab separates the two of a pair")
      ->allow_extra_args(false);
  command->add_option("--columns", o->columns,
                      "of tables: TEXT, TEXT,LABEL or TEXT,SECOND,LABEL (default: the "
                      "run's, else the usual names); a label is not read");
  command
      ->add_option("--threshold", o->threshold,
                   "of several labels at once: the probability above which one is given (default: "
                   "0.5)")
      ->check(CLI::Range(1e-9, 1.0));
  command->add_option("--labels", o->labels, "file with a class name in each line");
  command->add_option("--top", o->top, "classes to show (default: 5, in a .csv 1)")
      ->check(CLI::Range(1, 1 << 20));
  command->add_option("--out", o->out,
                      "write the predictions to this .csv or .jsonl, a line for each input");
  command->add_option("--logits", o->logits,
                      "also write all logits, [n, classes] float32, to this .npy (.npz for several "
                      "adapters)");
  command->add_flag("--skip-bad", o->skip_bad,
                    "inputs that cannot be read are told, and are no failure");
  AddCalibrateOptions(*command, o->calibrate);
  AddForceOption(*command);
  AddCommonOptions(*command, common);
  command->footer(
      "Example:\n  graft predict --run runs/a photo.jpg --top 3\n"
      "  graft predict --run runs/a photos/ --out predictions.csv\n"
      "  graft predict --model deit_tiny_patch16_224.safetensors a.jpg b.png --logits out.npy\n"
      "  graft predict --run runs/s --text \"a moving and funny film\"\n"
      "  graft predict --run runs/s reviews.csv --columns review --out predictions.csv\n"
      "  graft predict --model deit.safetensors --adapter cats/ --adapter dogs/ photo.jpg");
  command->callback([o, &common] { Run(*o, common); });
}

}  // namespace graft
