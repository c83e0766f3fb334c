#include "tools/lib/task.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <numeric>

#include "runtime/cpu.h"
#include "runtime/io/json.h"
#include "runtime/threads.h"
#include "tools/lib/base_hash.h"

namespace graft {

void CheckBase(const RunConfig& config) {
  if (config.base_sha256.empty()) return;  // init: weights come from the seed
  const std::string now = BaseHash(config.model);
  if (now != config.base_sha256)
    Fail(
        "{}: this is another base than the one trained on (SHA-256 {}..., then {}...); hint: put "
        "the "
        "original file back",
        config.model, now.substr(0, 12), config.base_sha256.substr(0, 12));
}

void CheckInputOptions(const LoadedModel& model, const std::string& preprocess,
                       const std::string& tokenizer, int64_t max_length) {
  if (model.is_bert()) {
    if (!preprocess.empty())
      FailUsage("--preprocess {}: {} is a BERT, which reads texts", preprocess, model.source);
    return;
  }
  constexpr const char* kReads = "is a vision transformer, which reads images";
  if (!tokenizer.empty()) FailUsage("--tokenizer {}: {} {}", tokenizer, model.source, kReads);
  if (max_length) FailUsage("--max-length {}: {} {}", max_length, model.source, kReads);
}

RunConfig CompleteRunConfig(RunConfig c) {
  const Method method = ParseMethod(c.method);
  c.method = ToString(method);
  if (c.lr == 0) c.lr = DefaultLearningRate(method);
  CheckRunConfig(c);
  // A run can be continued from any directory.
  if (!c.model.starts_with("init:"))
    c.model = std::filesystem::absolute(c.model).lexically_normal();
  c.data = std::filesystem::absolute(c.data).lexically_normal();
  if (!c.tokenizer.empty()) c.tokenizer = std::filesystem::absolute(c.tokenizer).lexically_normal();
  const TaskDataset data(c.data, c.columns);
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
  if (data.num_classes() < 2)
    Fail("{}: expected at least 2 classes, found {}", c.data, data.num_classes());
  if (!c.val_split.empty() && !c.allow_overlap)
    data.RefuseOverlap(c.val_split, c.train_split, static_cast<size_t>(c.limit));
  c.labels = data.labels();
  const LoadedModel model = LoadModel(c.model, c.arch, static_cast<uint64_t>(c.seed));
  CheckInputOptions(model, c.preprocess, c.tokenizer, c.max_length);
  data.CheckKind(model);
  c.max_length = MaxLength(c, model);
  if (!data.texts()) c.preprocess = ToString(DataPreprocess(c.preprocess, model.vit()));
  c.base_sha256 = KnownBaseHash(c.model).value_or("");
  return c;
}

LoadedModel OpenTaskModel(const RunConfig& config, const OpenBase& open) {
  CheckBase(config);
  LoadedModel model = open(config.model, config.arch, static_cast<uint64_t>(config.seed));
  const uint64_t seed = static_cast<uint64_t>(config.seed);
  if (!config.pool.empty()) {
    if (!model.is_bert()) Fail("--pool {}: {} is no BERT", config.pool, model.source);
    SetPooling(model, config.pool);
  }
  if (model.is_bert())
    AdaptClasses(model, config.labels, seed);
  else
    AdaptModel(model, ParsePreprocess(config.preprocess).size(), config.labels, seed);
  return model;
}

Preprocess DataPreprocess(const std::string& text, const VitConfig& model) {
  if (!text.empty()) return ParsePreprocess(text);
  return ForImageSize(ParsePreprocess("vtab"), static_cast<int>(model.image_size));
}

Preprocess PreprocessOfMetadata(const std::string& text, const std::string& file) {
  try {
    return ParsePreprocess(text);
  } catch (const Error& e) {
    Fail("{} (metadata graft.preprocess): {}", file, e.what());
  }
}

Preprocess ModelPreprocess(const std::string& text, const LoadedModel& model) {
  if (!text.empty()) return ParsePreprocess(text);
  if (const auto it = model.metadata.find("graft.preprocess"); it != model.metadata.end())
    return PreprocessOfMetadata(it->second, model.source);
  return ForImageSize(ParsePreprocess("imagenet"), static_cast<int>(model.vit().image_size));
}

namespace {

Graph Optimised(Graph g, const std::vector<std::string>& disabled) {
  InferencePasses(disabled).Run(g);
  return g;
}

// So many parts between two waits for the data, whatever the number of threads.
constexpr int64_t kPartsAtOnce = 32;

}  // namespace

std::vector<size_t> InOrder(const TaskData& data) {
  std::vector<size_t> order(data.size());
  std::iota(order.begin(), order.end(), size_t{0});
  return order;
}

void ForEachPart(Session& session, std::span<const Counts> parts,
                 const std::function<void(size_t i, int64_t first, int worker)>& run) {
  std::vector<int64_t> first{0};
  for (const Counts& part : parts) first.push_back(first.back() + part.sequences);
  ForEachRun(session, static_cast<int64_t>(parts.size()), [&](int64_t i, int worker) {
    run(static_cast<size_t>(i), first[static_cast<size_t>(i)], worker);
  });
}

Evaluator::Evaluator(const Graph& graph, ParamStore& params, const SessionOptions& options,
                     const std::vector<std::string>& disabled_passes)
    : session_(Optimised(graph, disabled_passes), params, options) {
  for (const GraphOutput& o : graph.outputs) {
    const Shape& shape = graph.shape(o.value);
    columns_[o.name] = shape.size() < 2 ? 1 : static_cast<size_t>(shape[1].constant);
  }
}

size_t Evaluator::AtOnce() const {
  return static_cast<size_t>(session_.options().capacity.sequences * kPartsAtOnce);
}

void Evaluator::Compute(const TaskData& data, std::span<const Target> targets) {
  const std::vector<Counts> parts = data.Parts(session_.options().capacity);
  ForEachPart(session_, parts, [&](size_t i, int64_t first, int worker) {
    const int64_t count = parts[i].sequences;
    data.Fill(session_, first, count, worker);
    session_.Run(parts[i], worker);
    for (const Target& target : targets) {
      const Tensor rows = session_.Output(target.output, worker);
      std::copy_n(rows.f32(), rows.shape.size(),
                  target.rows + static_cast<size_t>(first) * columns_.at(target.output));
    }
  });
}

std::vector<std::vector<float>> Evaluator::Outputs(TaskData& data,
                                                   std::span<const std::string> names) {
  data.Start(InOrder(data));
  session_.ParamsChanged();
  std::vector<std::vector<float>> all;
  for (const std::string& name : names) all.emplace_back(data.size() * columns_.at(name));
  for (size_t done = 0; done < data.size(); done += AtOnce()) {
    data.Take(std::min(AtOnce(), data.remaining()));
    std::vector<Target> targets;
    for (size_t i = 0; i < names.size(); ++i)
      targets.push_back({names[i], &all[i][done * columns_.at(names[i])]});
    Compute(data, targets);
  }
  return all;
}

std::vector<float> Evaluator::Logits(TaskData& data) {
  const std::string logits[] = {"logits"};
  return std::move(Outputs(data, logits)[0]);
}

Metrics Evaluator::Run(TaskData& data, std::vector<float>* all_logits) {
  const auto start = std::chrono::steady_clock::now();
  data.Start(InOrder(data));
  session_.ParamsChanged();
  const size_t most = AtOnce(), classes = columns_.at("logits");
  ConfusionMatrix matrix(static_cast<int64_t>(classes));
  std::vector<float> logits(most * classes), losses(most);
  const Target targets[] = {{"logits", logits.data()}, {"losses", losses.data()}};
  Metrics m;
  for (size_t done = 0; done < data.size(); done += most) {
    const size_t count = std::min(most, data.remaining());
    data.Take(count);
    Compute(data, targets);
    for (size_t i = 0; i < count; ++i) {
      const float* row = &logits[i * classes];
      matrix.Add(data.label(done + i), std::max_element(row, row + classes) - row);
      m.loss += losses[i];
    }
    if (all_logits)
      all_logits->insert(all_logits->end(), logits.begin(),
                         logits.begin() + static_cast<ptrdiff_t>(count * classes));
  }
  m.n = matrix.total();
  m.accuracy = Accuracy(matrix), m.mean_class_accuracy = MeanClassAccuracy(matrix);
  m.macro_f1 = MacroF1(matrix), m.matthews = MatthewsCorrelation(matrix);
  m.confusion = std::move(matrix);
  m.loss /= static_cast<double>(std::max<int64_t>(m.n, 1));
  m.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return m;
}

StringMap ModelMetadata(const LoadedModel& model, const RunConfig& config) {
  nlohmann::json recipe = nlohmann::json::array();
  const Method method = config.method.empty() ? Method() : ParseMethod(config.method);
  for (const MethodTerm& term : method)
    recipe.push_back({{"method", term.name}, {"options", term.options}});
  StringMap metadata = ModelFacts(model);
  metadata["graft.recipe"] = DumpJson(recipe);
  metadata["graft.base_sha256"] =
      config.base_sha256.empty() ? BaseHash(config.model) : config.base_sha256;
  metadata["graft.labels"] = DumpJson(nlohmann::json(config.labels));
  metadata["graft.preprocess"] = config.preprocess;
  if (model.is_bert()) metadata["graft.max_length"] = std::to_string(config.max_length);
  return metadata;
}

}  // namespace graft
