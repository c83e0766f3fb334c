// graft eval
#include <optional>

#include "tools/lib/open_model.h"
#include "tools/lib/report.h"

namespace graft {
namespace {

struct EvalOptions {
  ModelChoice choice;
  std::string data, split;
  size_t limit = 0;
};

std::string ChooseSplit(const ImageDataset& data, const std::string& split) {
  const std::string chosen = split.empty() ? data.DefaultTestSplit() : split;
  if (chosen.empty())
    Fail("{}: no test split; name one with --split{}", data.directory(),
         DidYouMean("test", data.split_names()));
  return chosen;
}

// Equal numbers of classes may still be different classes.
void CompareLabels(const OpenedModel& opened, const ImageDataset& data,
                   const CommonOptions& common) {
  const std::vector<std::string> labels = LabelsOf(data);
  for (size_t i = 0; i < labels.size() && !opened.labels().empty(); ++i)
    if (labels[i] != opened.labels()[i])
      return Say(common, fmt::format("note: class {} is '{}' in the model and '{}' in {}", i,
                                     opened.labels()[i], labels[i], data.directory()));
}

void Run(const EvalOptions& o, const CommonOptions& common) {
  if (o.choice.preprocess == "list") return Say(common, ListPreprocess());
  if (o.data.empty()) throw Error("eval needs --data, the data set's directory", ErrorKind::kUsage);
  ApplyCommonOptions(common);
  OpenedModel opened = OpenModel(o.choice, common, InputKind::kDataset);
  const ImageDataset data(o.data);
  CheckClasses(opened, data);
  CompareLabels(opened, data, common);
  const Split split = data.Load(ChooseSplit(data, o.split), o.limit);
  const Graph graph = opened.Inference(true);
  const int64_t n = static_cast<int64_t>(split.examples.size());
  Evaluator evaluator(graph, opened.model.params, InferenceBatch(graph, opened, n, common),
                      common.disabled_passes);
  const Metrics m = evaluator.Run(*MakeLoader(split.examples, opened.preprocess), split.examples);
  PrintJson(common, {{"model", opened.description},
                     {"data", o.data},
                     {"split", split.name},
                     {"n", m.n},
                     {"accuracy", m.accuracy},
                     {"mean_class_accuracy", m.mean_class_accuracy},
                     {"loss", m.loss},
                     {"seconds", m.seconds}});
  Say(common, fmt::format("{} on {}, split {} ({} images)", opened.description, o.data, split.name,
                          Grouped(m.n)));
  TextTable table({1});
  table.Add({"accuracy", Percent(m.accuracy)});
  table.Add({"mean class accuracy", Percent(m.mean_class_accuracy)});
  table.Add({"loss", fmt::format("{:.4f}", m.loss)});
  table.Add(
      {"images/s", fmt::format("{:.1f}", static_cast<double>(m.n) / std::max(m.seconds, 1e-9))});
  Say(common, table.Lines("  "));
}

}  // namespace

void AddEvalCommand(CLI::App& app, CommonOptions& common) {
  CLI::App* command = app.add_subcommand("eval", "measure accuracy on labelled images");
  auto o = std::make_shared<EvalOptions>();
  AddModelOptions(*command, o->choice);
  command->add_option("--data", o->data, "VTAB-1k directory, or one folder per class");
  command->add_option("--split", o->split,
                      "list to evaluate on (default: test, else val200 or val)");
  command->add_option("--limit", o->limit, "the first N images only");
  AddCommonOptions(*command, common);
  command->footer(
      "Example:\n  graft eval --run runs/a --data vtab-1k/eurosat --split test\n"
      "  graft eval --model fused.safetensors --data vtab-1k/eurosat --limit 1000 --json");
  command->callback([o, &common] { Run(*o, common); });
}

}  // namespace graft
