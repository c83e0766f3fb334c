#include "tools/lib/task.h"

#include <algorithm>
#include <chrono>
#include <numeric>

#include "ops/fusion.h"
#include "peft/merge.h"
#include "runtime/cpu.h"
#include "runtime/io/json.h"
#include "runtime/threads.h"
#include "tools/lib/base_hash.h"

namespace graft {

std::vector<std::string> LabelsOf(const ImageDataset& data) {
  std::vector<std::string> labels = data.class_names();
  for (int i = static_cast<int>(labels.size()); i < data.num_classes(); ++i)
    labels.push_back(std::to_string(i));
  return labels;
}

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
  const Preprocess preprocess = ParsePreprocess(config.preprocess);
  AdaptModel(model, preprocess.size(), config.labels, static_cast<uint64_t>(config.seed));
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

Graph MethodGraph(const VitConfig& config, const VitBuild& build, const Method& method,
                  ParamStore& params, uint64_t seed, std::vector<PassReport>* reports) {
  Graph g = BuildVit(config, build);
  std::vector<PassReport> made = ApplyMethod(g, params, method, seed);
  if (reports) *reports = std::move(made);
  return g;
}

Graph InferenceGraph(const VitConfig& config, const Method& method, ParamStore& params,
                     uint64_t seed, bool loss) {
  Graph g = MethodGraph(config, {.loss = loss}, method, params, seed);
  for (ValueId v : g.Trainable()) g.SetTrainable(v, false);
  RemoveDropout(g);
  g.EraseUnusedInputs();
  return g;
}

namespace {

PassManager MakePasses(std::vector<Pass> passes, const std::vector<std::string>& disabled) {
  PassManager::Options options;
  // A name of another group is no mistake; CheckPassNames has seen all of them.
  for (const Pass& pass : passes)
    if (std::find(disabled.begin(), disabled.end(), pass.name) != disabled.end())
      options.disabled.insert(pass.name);
  PassManager manager(options);
  for (Pass& pass : passes) manager.Add(std::move(pass));
  return manager;
}

void CheckPassNames(const std::vector<std::string>& disabled) {
  const std::vector<std::string> known = PassNames();
  for (const std::string& name : disabled)
    if (std::find(known.begin(), known.end(), name) == known.end())
      throw Error(fmt::format("--disable-pass: no pass '{}'{}", name, DidYouMean(name, known)),
                  ErrorKind::kUsage);
}

}  // namespace

std::vector<std::string> PassNames() {
  std::vector<std::string> names;
  for (const auto& group : {ForwardPasses(), StepPasses()})
    for (const Pass& pass : group) names.push_back(pass.name);
  return names;
}

PassManager InferencePasses(const std::vector<std::string>& disabled) {
  CheckPassNames(disabled);
  std::vector<Pass> passes = ForwardPasses();
  for (Pass& pass : StepPasses()) passes.push_back(std::move(pass));
  return MakePasses(std::move(passes), disabled);
}

TrainStep::Passes TrainingPasses(const std::vector<std::string>& disabled) {
  CheckPassNames(disabled);
  return {MakePasses(ForwardPasses(), disabled), MakePasses(StepPasses(), disabled)};
}

int64_t ChooseMicroBatch(const VitConfig& config, int64_t batch) {
  // One thread computes a micro-batch: a few hundred rows are enough for its GEMM to be fast, and
  // few enough that activations stay near its cache (docs/measuring.md has the sweep). There should
  // be several micro-batches for each thread.
  constexpr int64_t kRows = 400, kMicroBatches = 8;
  const int64_t tokens = config.rows();
  return std::max<int64_t>(1, std::min(kRows / tokens, batch / kMicroBatches));
}

namespace {

Graph Optimised(Graph g, const std::vector<std::string>& disabled) {
  InferencePasses(disabled).Run(g);
  return g;
}

}  // namespace

Evaluator::Evaluator(const Graph& graph, ParamStore& params, int64_t micro_batch,
                     const std::vector<std::string>& disabled_passes)
    : session_(Optimised(graph, disabled_passes), params,
               {.capacity = {micro_batch, 0}, .workers = Threads()}),
      micro_batch_(micro_batch),
      classes_(graph.shape(graph.output("logits"))[1].constant) {}

// Logits [n, classes] and losses [n] of samples whose labels are examples[0..n).
void Evaluator::Compute(const ImageLoader& loader, std::span<const Pixels> samples,
                        std::span<const Example> examples, float* logits, float* losses) {
  const int64_t n = static_cast<int64_t>(samples.size());
  const int64_t pixels = session_.Input("image").shape.size() / micro_batch_;
  ForEachRun(session_, (n + micro_batch_ - 1) / micro_batch_, [&](int64_t i, int worker) {
    const int64_t first = i * micro_batch_, count = std::min(micro_batch_, n - first);
    float* image = session_.Input("image", worker).f32();
    int32_t* labels = session_.Input("labels", worker).i32();
    for (int64_t k = 0; k < count; ++k) {
      loader.Normalize(samples[static_cast<size_t>(first + k)], image + k * pixels);
      labels[k] = examples[static_cast<size_t>(first + k)].label;
    }
    session_.Run({count, 0}, worker);
    std::copy_n(session_.Output("logits", worker).f32(), count * classes_,
                logits + first * classes_);
    std::copy_n(session_.Output("losses", worker).f32(), count, losses + first);
  });
}

Metrics Evaluator::Run(ImageLoader& loader, std::span<const Example> examples,
                       std::vector<float>* all_logits) {
  const auto start = std::chrono::steady_clock::now();
  std::vector<size_t> order(examples.size());
  std::iota(order.begin(), order.end(), size_t{0});
  loader.Start(order);
  session_.ParamsChanged();
  std::vector<int64_t> right(static_cast<size_t>(classes_)), seen(right);
  // Several micro-batches for each thread between two waits for the loader.
  const size_t most = static_cast<size_t>(micro_batch_ * 4 * Threads());
  std::vector<float> logits(most * static_cast<size_t>(classes_)), losses(most);
  std::vector<Pixels> samples;
  Metrics m;
  while (loader.remaining() > 0) {
    const size_t count = std::min(most, loader.remaining());
    const std::span<const Example> now = examples.subspan(static_cast<size_t>(m.n), count);
    samples.clear();
    loader.Take(count, samples);
    Compute(loader, samples, now, logits.data(), losses.data());
    for (size_t i = 0; i < count; ++i) {
      const float* row = &logits[i * static_cast<size_t>(classes_)];
      const size_t label = static_cast<size_t>(now[i].label);
      const bool hit = std::max_element(row, row + classes_) - row == now[i].label;
      ++seen[label];
      right[label] += hit;
      m.accuracy += hit;
      m.loss += losses[i];
    }
    if (all_logits)
      all_logits->insert(all_logits->end(), logits.begin(),
                         logits.begin() + static_cast<ptrdiff_t>(count) * classes_);
    m.n += static_cast<int64_t>(count);
  }
  int64_t classes_seen = 0;
  for (size_t k = 0; k < seen.size(); ++k) {
    if (seen[k] == 0) continue;
    ++classes_seen;
    m.mean_class_accuracy += static_cast<double>(right[k]) / static_cast<double>(seen[k]);
  }
  const double n = static_cast<double>(std::max<int64_t>(m.n, 1));
  m.accuracy /= n;
  m.loss /= n;
  m.mean_class_accuracy /= static_cast<double>(std::max<int64_t>(classes_seen, 1));
  m.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return m;
}

std::unique_ptr<ImageLoader> MakeLoader(std::span<const Example> examples,
                                        const Preprocess& preprocess) {
  std::vector<std::string> paths;
  for (const Example& e : examples) paths.push_back(e.path);
  return std::make_unique<ImageLoader>(std::move(paths), preprocess,
                                       LoaderOptions{.threads = Threads()});
}

StringMap ModelMetadata(const LoadedModel& model, const RunConfig& config) {
  nlohmann::json architecture = {{"architecture", model.is_bert() ? "bert" : "vit"}};
  std::visit(
      [&](const auto& c) {
        c.Visit(c, [&](const char* name, const auto& field) { architecture[name] = field; });
      },
      model.config);
  nlohmann::json recipe = nlohmann::json::array();
  const Method method = config.method.empty() ? Method() : ParseMethod(config.method);
  for (const MethodTerm& term : method)
    recipe.push_back({{"method", term.name}, {"options", term.options}});
  return {{"format", "pt"},
          {"graft.config", DumpJson(architecture)},
          {"graft.recipe", DumpJson(recipe)},
          {"graft.base_sha256",
           config.base_sha256.empty() ? BaseHash(config.model) : config.base_sha256},
          {"graft.labels", DumpJson(nlohmann::json(config.labels))},
          {"graft.preprocess", config.preprocess}};
}

}  // namespace graft
