#include "tools/reports/run_quality.h"

#include <algorithm>

#include "data/splits.h"
#include "tools/lib/measure.h"
#include "train/dataset.h"
#include "train/run_dir.h"

namespace graft {
namespace {

constexpr size_t kWorst = 24, kMostPoints = 500;

Dataset OpenData(const RunConfig& c, const OpenedModel& opened) {
  // With several labels at once the data need not have every one of them.
  const bool named = opened.facts.task == kMultiLabel;
  Dataset data(c.data, {c.columns, c.objective, c.skip_bad, c.task,
                        named ? opened.labels() : std::vector<std::string>()});
  if (c.holdout > 0) data.HoldOut(c.train_split, c.holdout, c.seed);
  return data;
}

std::string ChooseSplit(const Dataset& data, const RunConfig& c, const std::string& named) {
  const std::vector<std::string> splits = data.split_names();
  if (!named.empty() && std::ranges::find(splits, named) == splits.end())
    FailUsage("--split {}: {} has no such split{}", named, c.data, DidYouMean(named, splits));
  const std::string chosen = !named.empty()         ? named
                             : !c.val_split.empty() ? c.val_split
                                                    : data.DefaultEvalSplit();
  if (chosen.empty()) Fail("{}: no validation and no test split", c.data);
  return chosen;
}

}  // namespace

RunQuality MeasureRun(const std::string& run, const std::string& split, size_t limit,
                      const CommonOptions& common) {
  const RunConfig config = RunDir::Open(run).config();
  OpenedModel opened = OpenModel({.run = run}, InputKind::kDataset);
  Dataset data = OpenData(config, opened);
  data.CheckKind(opened.model);
  RunQuality q;
  q.task = opened.facts.task, q.checkpoint = opened.checkpoint;
  q.masked_words = MasksWords(opened.facts);
  if (!q.masked_words) CheckClasses(opened, &data);
  q.split = ChooseSplit(data, config, split);
  const std::unique_ptr<BatchSource> examples =
      data.Load(q.split, limit, opened.model, opened.facts);
  if (q.masked_words) opened.model.bert().mask_rows = examples->mask_rows();
  q.texts = data.texts(), q.upright = opened.preprocess.exif, q.unit = examples->unit();
  q.examples = examples->size(), q.size = std::max(q.examples, data.Size(q.split));
  WorstExamples worst(kWorst);
  const size_t stride = (q.examples + kMostPoints - 1) / kMostPoints;
  const Evaluator::Each judge = [&](size_t i, std::span<const float> logits) {
    JudgedExample j = JudgeExample(q.task, i, *examples, logits);
    if (q.task == kRegression && i % stride == 0) q.sample.push_back(j);
    worst.Add(std::move(j));
  };
  q.metrics = Measure(opened, *examples, common, PassesOf(common), judge);
  q.worst = worst.all();
  if (q.masked_words) return q;
  q.labels = data.labels();
  const std::vector<std::string> names = data.ExampleNames(q.split, limit);
  for (const auto* list : {&q.worst, &q.sample})
    for (const JudgedExample& j : *list) q.names[j.example] = names.at(j.example);
  return q;
}

}  // namespace graft
