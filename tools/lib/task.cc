#include "tools/lib/task.h"

#include <algorithm>
#include <chrono>
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

LoadedModel OpenTaskModel(const RunConfig& config) {
  CheckBase(config);
  LoadedModel model = LoadModel(config.model, config.arch, static_cast<uint64_t>(config.seed));
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

Preprocess ModelPreprocess(const std::string& text, const LoadedModel& model) {
  if (!text.empty()) return ParsePreprocess(text);
  if (const auto it = model.metadata.find("graft.preprocess"); it != model.metadata.end())
    return ParsePreprocess(it->second);
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

Evaluator::Evaluator(const Graph& graph, ParamStore& params, const Counts& capacity,
                     const std::vector<std::string>& disabled_passes)
    : session_(Optimised(graph, disabled_passes), params,
               {.capacity = capacity, .workers = Threads()}),
      classes_(graph.shape(graph.output("logits"))[1].constant) {}

// Logits [n, classes] and, unless null, losses [n] of the batch.
void Evaluator::Compute(const TaskData& data, float* logits, float* losses) {
  const std::vector<Counts> parts = data.Parts(session_.options().capacity);
  ForEachPart(session_, parts, [&](size_t i, int64_t first, int worker) {
    const int64_t count = parts[i].sequences;
    data.Fill(session_, first, count, worker);
    session_.Run(parts[i], worker);
    std::copy_n(session_.Output("logits", worker).f32(), count * classes_,
                logits + first * classes_);
    if (losses) std::copy_n(session_.Output("losses", worker).f32(), count, losses + first);
  });
}

std::vector<float> Evaluator::Logits(TaskData& data) {
  data.Start(InOrder(data));
  session_.ParamsChanged();
  const size_t most = static_cast<size_t>(session_.options().capacity.sequences * kPartsAtOnce);
  std::vector<float> logits(data.size() * static_cast<size_t>(classes_));
  for (size_t done = 0; done < data.size(); done += most) {
    data.Take(std::min(most, data.remaining()));
    Compute(data, &logits[done * static_cast<size_t>(classes_)], nullptr);
  }
  return logits;
}

Metrics Evaluator::Run(TaskData& data, std::vector<float>* all_logits) {
  const auto start = std::chrono::steady_clock::now();
  data.Start(InOrder(data));
  session_.ParamsChanged();
  ConfusionMatrix matrix(classes_);
  const size_t most = static_cast<size_t>(session_.options().capacity.sequences * kPartsAtOnce);
  std::vector<float> logits(most * static_cast<size_t>(classes_)), losses(most);
  Metrics m;
  for (size_t done = 0; done < data.size(); done += most) {
    const size_t count = std::min(most, data.remaining());
    data.Take(count);
    Compute(data, logits.data(), losses.data());
    for (size_t i = 0; i < count; ++i) {
      const float* row = &logits[i * static_cast<size_t>(classes_)];
      matrix.Add(data.label(done + i), std::max_element(row, row + classes_) - row);
      m.loss += losses[i];
    }
    if (all_logits)
      all_logits->insert(all_logits->end(), logits.begin(),
                         logits.begin() + static_cast<ptrdiff_t>(count) * classes_);
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
