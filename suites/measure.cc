#include "suites/measure.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <set>

#include "adapters/method_graph.h"
#include "adapters/open_model.h"
#include "data/splits.h"
#include "data/text_labels.h"
#include "train/dataset.h"
#include "train/features.h"
#include "train/run_dir.h"
#include "train/worst_examples.h"

namespace graft {
namespace {

nlohmann::json JsonOf(const ConfusionMatrix& confusion, double loss, double seconds) {
  nlohmann::json json{{"n", confusion.total()},
                      {"accuracy", Accuracy(confusion)},
                      {"mean_class_accuracy", MeanClassAccuracy(confusion)},
                      {"macro_f1", MacroF1(confusion)},
                      {"matthews", MatthewsCorrelation(confusion)},
                      {"loss", loss},
                      {"seconds", seconds}};
  if (confusion.classes() == 2) json["f1"] = F1(confusion, 1);
  return json;
}

constexpr size_t kWorst = 6;  // examples that a unit keeps for reports

nlohmann::json WorstJson(const std::vector<JudgedExample>& worst,
                         const std::vector<std::string>& names,
                         const std::vector<std::string>& labels) {
  nlohmann::json list = nlohmann::json::array();
  for (const JudgedExample& j : worst)
    list.push_back({{"example", names.at(j.example)},
                    {"label", labels.at(j.label)},
                    {"predicted", labels.at(j.predicted)},
                    {"probability", j.probability},
                    {"label_probability", j.label_probability},
                    {"loss", j.loss}});
  return list;
}

// Counts predictions among the classes of a mask.
class Masked {
 public:
  Masked(const std::vector<int>& mask, int64_t classes)
      : mask_(mask), confusion_(std::ssize(mask)), inside_(static_cast<size_t>(classes), -1) {
    for (size_t i = 0; i < mask.size(); ++i) inside_[mask[i]] = int(i);
  }
  // Adds an example; `label` counts the classes of the mask.
  void Add(int label, std::span<const float> logits) {
    double most = -INFINITY, sum = 0;
    int predicted = 0;
    for (size_t i = 0; i < mask_.size(); ++i)
      if (const double logit = logits[mask_[i]]; logit > most)
        most = logit, predicted = static_cast<int>(i);
    for (const int c : mask_) sum += std::exp(logits[c] - most);
    loss_ += most + std::log(sum) - logits[mask_[label]];
    confusion_.Add(label, predicted);
  }
  // Adds an example whose label counts all classes, unless that class is not in the mask.
  void AddOfAll(int label, std::span<const float> logits) {
    if (const int own = inside_[label]; own >= 0) Add(own, logits);
  }
  nlohmann::json Json(double seconds) const {
    const int64_t n = std::max<int64_t>(confusion_.total(), 1);
    return JsonOf(confusion_, loss_ / static_cast<double>(n), seconds);
  }

 private:
  const std::vector<int>& mask_;
  ConfusionMatrix confusion_;
  std::vector<int> inside_;  // of the mask's classes, or -1
  double loss_ = 0;
};

void CheckMask(const Measurement& m, int64_t found, int64_t model) {
  if (found != std::ssize(m.mask))
    Fail("{}: has {} classes, its class mask {}", m.data, found, m.mask.size());
  for (const int c : m.mask)
    if (c >= model)
      Fail("{}: its class mask has class {}, but the model has {} classes", m.data, c, model);
}

// Whether everything before the part that trains is the base's, and so the same for all such units.
bool HasFrozenFeatures(const OpenedModel& opened) {
  if (opened.model.is_bert() || opened.model.vit().layer_scale) return false;
  return std::ranges::all_of(opened.method, [](const MethodTerm& term) {
    return term.name == "linear" || term.name == "last";
  });
}

class Measurer {
 public:
  Measurer(const std::string& run, const MeasureOptions& options)
      : config_(RunDir::Open(run).config()),
        opened_(OpenModel({.run = run, .checkpoint = "last"}, InputKind::kDataset)),
        o_(options) {
    config_.memory_budget = o_.memory_budget;
  }

  // `masks` are those of other measurements, which are counted among the examples of this one.
  nlohmann::json Run(const Measurement& m, std::vector<Masked*> masks) {
    Dataset data(m.data, {m.columns, "", o_.skip_bad});
    data.CheckKind(opened_.model);
    std::optional<Masked> own;
    if (m.mask.empty()) {
      CheckClasses(opened_, &data);
    } else {
      CheckMask(m, data.num_classes(), classes());
      own.emplace(m.mask, classes());
    }
    std::unique_ptr<BatchSource> examples =
        data.Load(m.split, m.limit, opened_.model, opened_.facts);
    examples->KeepDecoded();
    const Graph graph = GraphFor(&examples);
    Evaluator evaluator(graph, opened_.model.params,
                        InferenceOptions(graph, opened_.model.params, opened_.model.config,
                                         *examples, o_.memory_budget, o_.passes),
                        o_.passes);
    evaluator.OnProgress("test",
                         [&](const char* what, size_t done, size_t total, const char* unit) {
                           StopIfAsked();
                           if (o_.on_work) o_.on_work(what, done, total, unit);
                         });
    WorstExamples worst(kWorst);
    evaluator.OnExample([&](size_t example, std::span<const float> logits) {
      if (!own) worst.Add(JudgeExample(kClassify, example, *examples, logits));
      if (own) own->Add(examples->label(example), logits);
      for (Masked* mask : masks) mask->AddOfAll(examples->label(example), logits);
    });
    const Metrics metrics = evaluator.Run(*examples);
    if (!std::isfinite(metrics.loss))
      throw Error(fmt::format("{} gives logits that are not finite", opened_.description),
                  ErrorKind::kNonFinite);
    if (own) return own->Json(metrics.seconds);
    nlohmann::json json = JsonOf(metrics.confusion, metrics.loss, metrics.seconds);
    json["worst"] = WorstJson(worst.all(), data.ExampleNames(m.split, m.limit), data.labels());
    return json;
  }
  int64_t classes() const { return Classes(opened_.model.config); }

 private:
  void StopIfAsked() const {
    if (o_.stop && o_.stop()) throw Error("interrupted", ErrorKind::kInterrupted);
  }

  // The graph to evaluate. Where the first layers are the base's, the examples are replaced by
  // their features, which another unit may have computed (train/feature_cache.h); the graph then is
  // the rest.
  Graph GraphFor(std::unique_ptr<BatchSource>* examples) {
    if (o_.memory_budget.empty() && HasFrozenFeatures(opened_)) {
      const Graph whole = MethodGraph(opened_.model.config, {.loss = true}, opened_.method,
                                      opened_.model.params, opened_.seed, nullptr, true);
      if (std::optional<FeatureCut> cut = CutFeatures(whole, config_, **examples)) {
        Features features =
            ComputeFeatures(*cut, opened_.model, config_, **examples, 0, o_.stop, o_.on_work);
        if (features.interrupted) StopIfAsked();
        *examples = MakeFeatureData(std::move(features), **examples);
        return std::move(cut->rest);
      }
    }
    return opened_.ToRun(true);
  }

  RunConfig config_;
  OpenedModel opened_;
  const MeasureOptions& o_;
};

void AddDrop(const nlohmann::json& source, nlohmann::json* target) {
  const double from = source["accuracy"], to = (*target)["accuracy"];
  (*target)["drop"] = from - to;
  (*target)["relative_drop"] = from > 0 ? nlohmann::json((from - to) / from) : nlohmann::json();
}

}  // namespace

std::vector<int> ReadClassMask(const std::string& path) {
  const std::string text = ReadTextFile(path, kMaxNamesBytes);
  std::vector<int> mask;
  std::set<int> seen;
  size_t line = 0;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    std::string_view word = std::string_view(text).substr(begin, end - begin);
    begin = end + 1, ++line;
    if (word.ends_with('\r')) word.remove_suffix(1);
    word = TrimBlanks(word);
    if (word.empty()) continue;
    int number = 0;
    const auto [stop, error] = std::from_chars(word.data(), word.data() + word.size(), number);
    if (error != std::errc() || stop != word.data() + word.size() || number < 0 ||
        number >= kMaxClasses)
      Fail("{}:{}: expected the number of a class, 0 to {}, found '{}'", path, line,
           kMaxClasses - 1, word);
    if (!seen.insert(number).second) Fail("{}:{}: class {} is there twice", path, line, number);
    mask.push_back(number);
  }
  if (mask.size() < 2)
    Fail("{}: expected the numbers of at least 2 classes, one a line, found {}", path, mask.size());
  return mask;
}

std::vector<nlohmann::json> Measure(const std::string& run,
                                    const std::vector<Measurement>& measurements,
                                    const MeasureOptions& options) {
  Measurer measurer(run, options);
  // The classes of all masks are counted among the examples of the first measurement in one pass.
  std::vector<std::optional<Masked>> inside(measurements.size());
  std::vector<Masked*> masks;
  for (size_t i = 1; i < measurements.size(); ++i)
    if (const Measurement& m = measurements[i]; !m.mask.empty()) {
      for (const int c : m.mask)
        if (c >= measurer.classes()) CheckMask(m, std::ssize(m.mask), measurer.classes());
      masks.push_back(&inside[i].emplace(m.mask, measurer.classes()));
    }
  std::vector<nlohmann::json> results;
  for (size_t i = 0; i < measurements.size(); ++i) {
    nlohmann::json json = measurer.Run(measurements[i], i == 0 ? masks : std::vector<Masked*>());
    if (i > 0) {
      nlohmann::json source = results[0];
      if (inside[i]) {
        const nlohmann::json own = inside[i]->Json(0);
        if (own["n"] > 0) {
          source = own;
        }
      }
      json["source_accuracy"] = source["accuracy"], json["source_n"] = source["n"];
      AddDrop(source, &json);
    }
    results.push_back(std::move(json));
  }
  return results;
}

}  // namespace graft
