// Plans few examples of each class, of images and of texts; and texts with all examples.
#include <algorithm>
#include <charconv>
#include <filesystem>

#include "data/dataset.h"
#include "data/splits.h"
#include "data/text.h"
#include "data/text_columns.h"
#include "runtime/io/near_path.h"
#include "suites/plan.h"
#include "suites/shots.h"

namespace graft {
namespace {

namespace fs = std::filesystem;

constexpr size_t kAll = 0;  // shots
constexpr double kHeldOut = 0.2;

std::vector<size_t> ParseShots(const std::vector<std::string>& words) {
  std::vector<size_t> shots;
  for (const std::string& word : words) {
    size_t number = kAll;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), number);
    const bool is =
        error == std::errc() && end == word.data() + word.size() && number > 0 && number <= 100'000;
    if (word != "all" && !is)
      FailUsage("--shots: expected numbers from 1, or all, joined by commas; found '{}'", word);
    if (std::ranges::find(shots, number) != shots.end())
      FailUsage("--shots: '{}' is there twice", word);
    shots.push_back(number);
  }
  return shots;
}

nlohmann::json ShotsJson(size_t shots) {
  return shots == kAll ? nlohmann::json("all") : nlohmann::json(shots);
}

std::string Words(size_t shots) { return shots == kAll ? "all" : fmt::format("{} a class", shots); }

// The lists of one data set: drawn from it or, where it has the published layout, those.
class ShotsTask {
 public:
  ShotsTask(const SuiteRequest& r, const std::string& directory, bool texts)
      : r_(r), store_(r.lists), directory_(directory), texts_(texts) {
    name_ = BaseName(directory);
    if (!texts) published_ = PublishedShots::Find(directory);
  }
  const std::string& name() const { return name_; }

  // The side for choosing is there only if something is to be chosen.
  TaskData Of(size_t shots, int64_t seed, SuitePlan* plan) {
    TaskData data;
    data.name = name_;
    if (texts_) data.metric = TextMetric(name_);
    if (!r_.shots.empty()) data.options["shots"] = ShotsJson(shots);
    if (published_)
      OfPublished(shots, seed, &data);
    else if (texts_)
      OfTexts(TextDataset(directory_, ParseTextColumns(r_.config.columns), r_.config.skip_bad),
              shots, seed, plan, &data);
    else
      OfImages(ImageDataset(directory_), shots, seed, plan, &data);
    return data;
  }

 private:
  bool Chooses() const { return !r_.select.empty() && !r_.select_on_test; }

  void OfPublished(size_t shots, int64_t seed, TaskData* data) {
    if (shots == kAll)
      Fail("--shots all: {} has lists of single numbers of shots only", directory_);
    const Split train = published_->Train(static_cast<int64_t>(shots), seed, r_.images);
    const Split test = published_->Test(r_.images);
    std::vector<Split> all{train, test};
    std::optional<Split> val;
    if (Chooses()) all.push_back(*(val = published_->Validation(r_.images)));
    int classes = 0;
    for (const Split& split : all)
      for (const Example& e : split.examples) classes = std::max(classes, e.label + 1);
    const std::string list = fmt::format("num_shot_{}.seed_{}", shots, seed);
    SetSides(store_.Images(fmt::format("{}-{}", name_, list), {}, classes, {train}), "train",
             store_.Images(name_ + "-test", {}, classes, {test}), "test", list + " > test_meta",
             data);
    if (!val) return;
    data->choice_side = data->final_side;
    data->choice_side->measure = {
        Of("val", store_.Images(name_ + "-val", {}, classes, {*val}), "val", "")};
    data->choice_side->protocol = list + " > val_meta";
  }

  Measurement Of(const std::string& name, const std::string& data, const std::string& split,
                 const std::string& columns) const {
    return {.name = name, .data = data, .split = split, .columns = columns};
  }

  void SetSides(const std::string& train, const std::string& train_split, const std::string& test,
                const std::string& test_split, const std::string& protocol, TaskData* data) const {
    const auto columns = [&](const std::string& of) {
      return of == directory_ ? r_.config.columns : "";
    };
    Measurement tested = Of("test", test, test_split, columns(test));
    tested.limit = r_.test_limit;
    data->final_side = {train, columns(train), train_split, {tested}, protocol};
  }

  std::string Write(const std::string& name, const ImageDataset& data,
                    const std::vector<Split>& splits) {
    return store_.Images(name, data.class_names(), data.num_classes(), splits);
  }
  std::string Write(const std::string& name, const TextDataset& data,
                    const std::vector<TextSplit>& splits) {
    return store_.Texts(name, data.class_names(), splits);
  }

  void OfImages(const ImageDataset& data, size_t shots, int64_t seed, SuitePlan* plan,
                TaskData* task) {
    Draw(data, shots, seed, plan, task);
  }
  void OfTexts(const TextDataset& data, size_t shots, int64_t seed, SuitePlan* plan,
               TaskData* task) {
    Draw(data, shots, seed, plan, task);
  }

  template <class Data>
  void Draw(Data data, size_t shots, int64_t seed, SuitePlan* plan, TaskData* task) {
    const std::string from = data.DefaultTrainSplit(), test = data.DefaultEvalSplit();
    if (from.empty() || test.empty() || test == from)
      Fail("{}: expected a split to train on and one to test on; it has {}", directory_,
           fmt::join(data.split_names(), ", "));
    const std::string val = data.DefaultValidationSplit();
    const auto whole = data.Load(from);
    auto part = whole;
    part.name = "train";
    if (shots != kAll) part.examples = Take(whole, shots, seed, 0, plan);
    const std::string name = fmt::format("{}-{}-seed-{}", name_, shots, seed);
    const std::string train = shots == kAll ? directory_ : Write(name, data, {part});
    const std::string split = shots == kAll ? from : "train";
    SetSides(train, split, directory_, test, fmt::format("{} ({}) > {}", from, Words(shots), test),
             task);
    if (!Chooses()) return;
    TaskData::Side& side = task->choice_side.emplace(task->final_side);
    if (!val.empty() && val != test) {
      side.measure = {Of("val", directory_, val, r_.config.columns)};
      side.protocol = fmt::format("{} ({}) > {}", from, Words(shots), val);
      return;
    }
    // If there is nothing but the test split to measure on, other examples of the training split
    // take its place.
    auto held = part;
    held.name = "val";
    if (shots != kAll) {
      held.examples = Take(whole, shots, seed, shots, plan);
    } else {
      data.HoldOut(from, kHeldOut, static_cast<uint64_t>(seed));
      held.examples = data.Load(kHoldout).examples, part.examples = data.Load(from).examples;
    }
    if (held.examples.empty())
      Fail(
          "{}: --select: '{}' has no examples beside the {} that are trained on, and there is no "
          "validation split",
          directory_, from, Words(shots));
    side.data = Write(name + "-choice", data, {part, held});
    side.split = "train", side.columns = "";
    side.measure = {Of("val", side.data, "val", "")};
    side.protocol = fmt::format("{} ({}) > others of it", from, Words(shots));
  }

  template <class AnySplit>
  auto Take(const AnySplit& whole, size_t shots, int64_t seed, size_t skip, SuitePlan* plan) {
    std::vector<int> labels;
    for (const auto& e : whole.examples) labels.push_back(e.label);
    std::map<int, size_t> counts;
    decltype(whole.examples) taken;
    for (const size_t i : DrawShots(labels, shots, static_cast<uint64_t>(seed), skip)) {
      taken.push_back(whole.examples[i]);
      ++counts[taken.back().label];
    }
    const auto few = std::ranges::count_if(counts, [&](const auto& c) { return c.second < shots; });
    if (few > 0 && skip == 0 && seed == r_.config.seed)
      plan->notes.push_back(fmt::format("{}: {} classes of '{}' have fewer than {} examples", name_,
                                        few, whole.name, shots));
    return taken;
  }

  const SuiteRequest& r_;
  ListStore store_;
  std::string directory_, name_;
  bool texts_ = false;
  std::optional<PublishedShots> published_;
};

bool HoldsImages(const std::string& directory) {
  if (PublishedShots::Find(directory)) return true;
  try {
    const ImageDataset data(directory);
    return !data.DefaultTrainSplit().empty() && !data.DefaultEvalSplit().empty() &&
           data.DefaultTrainSplit() != data.DefaultEvalSplit();
  } catch (const Error&) {
    return false;
  }
}

// The directory itself if it holds data, else those in it that do.
std::vector<std::string> Tasks(const SuiteRequest& r, bool texts, SuitePlan* plan) {
  const std::string& root = r.config.data;
  const auto holds = [&](const std::string& d) { return texts ? HoldsTexts(d) : HoldsImages(d); };
  if (holds(root)) return {root};
  std::vector<std::string> tasks;
  std::error_code none;
  if (!fs::is_directory(root, none))
    Fail("{}: the data sets' directory does not exist{}", root, DidYouMeanPath(root));
  for (const std::string& folder : FoldersIn(root)) {
    if (holds(root + "/" + folder))
      tasks.push_back(root + "/" + folder);
    else
      plan->notes.push_back(fmt::format("{}/{}: left out, it holds no task", root, folder));
  }
  if (tasks.empty())
    Fail("{}: holds no {} to train and to test on", root,
         texts ? "labelled texts" : "lists of few shots, nor images");
  return tasks;
}

SuitePlan PlanShots(const SuiteRequest& r, bool texts, const std::string& protocol) {
  SuitePlan plan = StartPlan(r, protocol);
  const std::vector<GridAxis> grid = ParseGrid(r.select, "--select");
  std::vector<size_t> shots = ParseShots(r.shots);
  if (shots.empty()) shots.push_back(kAll);
  const std::vector<std::string> directories = Tasks(r, texts, &plan);
  std::vector<std::string> names;
  for (const std::string& directory : directories) names.push_back(BaseName(directory));
  CheckWanted(r, names);
  for (const std::string& directory : directories) {
    ShotsTask task(r, directory, texts);
    if (!Wanted(r, task.name())) continue;
    plan.info.tasks.push_back({{"name", task.name()},
                               {"group", ""},
                               {"column", task.name()},
                               {"classes", nullptr},
                               {"metric", texts ? TextMetric(task.name()) : "accuracy"},
                               {"directory", directory}});
    for (const size_t n : shots) {
      std::vector<TaskData> by_seed;
      for (int64_t i = 0; i < r.seeds; ++i) by_seed.push_back(task.Of(n, r.config.seed + i, &plan));
      AddTask(r, grid, by_seed, &plan);
    }
  }
  FinishPlan(r, &plan);
  return plan;
}

}  // namespace

std::string TextMetric(const std::string& task) {
  constexpr std::string_view kF1[] = {"mrpc", "qqp", "sms_spam"};
  if (task == "cola") return "matthews";
  return std::ranges::find(kF1, task) != std::end(kF1) ? "f1" : "accuracy";
}

SuitePlan PlanFewShot(const SuiteRequest& r) {
  if (r.shots.empty()) FailUsage("bench few-shot: needs --shots, e.g. 1,2,4,8,16");
  return PlanShots(r, false,
                   "few-shot: trained on K examples of every class, of the published list of the "
                   "seed or drawn by it; tested once on the whole test split after the last epoch; "
                   "options are chosen on the validation split after training on the K examples of "
                   "the first seed");
}

SuitePlan PlanText(const SuiteRequest& r) {
  return PlanShots(r, true,
                   "texts: trained on all examples or on K of every class, drawn by the seed; "
                   "tested once after the last epoch on the test split or, where its labels are "
                   "not given, on dev; options are chosen on dev, or where that is the test on "
                   "others of the training split; accuracy, but Matthews' correlation of CoLA, F1 "
                   "of MRPC, QQP and SMS Spam");
}

}  // namespace graft
