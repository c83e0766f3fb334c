// graft predict
#include <sys/stat.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "runtime/io/npy.h"
#include "tools/lib/open_model.h"
#include "tools/lib/report.h"

namespace graft {
namespace {

struct PredictOptions {
  ModelChoice choice;
  std::vector<std::string> inputs;
  int64_t top = 5;
  std::string logits;
};

// What one INPUT stands for: an image file, or the samples of an .npy file.
struct Source {
  std::string path;
  int64_t samples = 1;
  std::vector<float> values;  // of an .npy file, [samples, 3, H, W]; empty for an image
};

std::string ShapeText(const std::vector<int64_t>& shape) {
  return fmt::format("[{}]", fmt::join(shape, ","));
}

Source OpenSource(const std::string& path, const VitConfig& config) {
  struct stat s;
  if (stat(path.c_str(), &s) != 0) Fail("{}: no such file", path);
  if (S_ISDIR(s.st_mode))
    Fail(
        "{0}: a directory, expected images; hint: name the images ({0}/*.jpg), or graft eval "
        "--data {0} for a "
        "labelled data set",
        path);
  if (!path.ends_with(".npy")) return {path, 1, {}};
  NpyArray array = ReadNpy(path);
  const int64_t side = config.image_size;
  const std::vector<int64_t>& shape = array.shape;
  if (shape.size() != 4 || shape[0] < 1 || shape[1] != config.channels || shape[2] != side ||
      shape[3] != side)
    Fail("{}: expected normalised images of shape [n,{},{},{}], found {}", path, config.channels,
         side, side, ShapeText(shape));
  if (!std::all_of(array.values.begin(), array.values.end(),
                   [](float x) { return std::isfinite(x); }))
    Fail("{}: holds values that are not finite", path);
  return {path, shape[0], std::move(array.values)};
}

std::vector<Source> OpenSources(const PredictOptions& o, const VitConfig& config) {
  std::vector<Source> sources;
  for (const std::string& path : o.inputs) sources.push_back(OpenSource(path, config));
  return sources;
}

// Hands out the samples of all sources in order, images decoded ahead by a loader.
class Feed {
 public:
  Feed(const std::vector<Source>& sources, const Preprocess& preprocess, int64_t sample_size)
      : sources_(sources), size_(static_cast<size_t>(sample_size)) {
    std::vector<Example> images;
    for (const Source& s : sources)
      if (s.values.empty()) images.push_back({s.path, 0});
    if (images.empty()) return;
    loader_ = MakeLoader(images, preprocess);
    std::vector<size_t> order(images.size());
    std::iota(order.begin(), order.end(), size_t{0});
    loader_->Start(order);
  }
  void Next(float* out) {
    const Source& s = sources_[source_];
    if (s.values.empty())
      loader_->Next(1, out);
    else
      std::memcpy(out, &s.values[static_cast<size_t>(sample_) * size_], size_ * sizeof(float));
    if (++sample_ == s.samples) ++source_, sample_ = 0;
  }

 private:
  const std::vector<Source>& sources_;
  size_t size_, source_ = 0;
  int64_t sample_ = 0;
  std::unique_ptr<ImageLoader> loader_;
};

// [samples, classes] of all sources.
std::vector<float> Logits(OpenedModel& opened, const std::vector<Source>& sources,
                          const CommonOptions& common) {
  int64_t total = 0;
  for (const Source& s : sources) total += s.samples;
  Graph graph = opened.Inference(false);
  const int64_t batch = InferenceBatch(graph, opened, total, common);
  InferencePasses(common.disabled_passes).Run(graph);
  Session session(graph, opened.model.params, {.capacity = {batch, 0}});
  const VitConfig& c = opened.model.vit();
  const int64_t size = c.channels * c.image_size * c.image_size;
  Feed feed(sources, opened.preprocess, size);
  float* image = session.Input("image").f32();
  std::vector<float> logits;
  for (int64_t done = 0; done < total;) {
    const int64_t count = std::min(batch, total - done);
    for (int64_t i = 0; i < count; ++i) feed.Next(image + i * size);
    session.Run({count, 0});
    const float* out = session.Output("logits").f32();
    logits.insert(logits.end(), out, out + count * c.classes);
    done += count;
  }
  if (!std::all_of(logits.begin(), logits.end(), [](float x) { return std::isfinite(x); }))
    Fail("{} gives logits that are not finite; its weights are damaged", opened.description);
  return logits;
}

struct Choice {
  int64_t index;
  double probability;
  float logit;
};

// The k largest, ties by index; softmax in double over all of them.
std::vector<Choice> TopOf(std::span<const float> logits, int64_t k) {
  const double most = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (float x : logits) sum += std::exp(static_cast<double>(x) - most);
  std::vector<Choice> all;
  for (size_t i = 0; i < logits.size(); ++i)
    all.push_back({static_cast<int64_t>(i), std::exp(static_cast<double>(logits[i]) - most) / sum,
                   logits[i]});
  const auto better = [](const Choice& a, const Choice& b) {
    return a.logit != b.logit ? a.logit > b.logit : a.index < b.index;
  };
  std::stable_sort(all.begin(), all.end(), better);
  all.resize(static_cast<size_t>(std::min<int64_t>(k, static_cast<int64_t>(all.size()))));
  return all;
}

void PrintPredictions(const OpenedModel& opened, const std::vector<Source>& sources,
                      std::span<const float> logits, int64_t top, const CommonOptions& common) {
  const size_t classes = static_cast<size_t>(opened.model.vit().classes);
  const std::vector<std::string>& labels = opened.labels();
  nlohmann::json predictions = nlohmann::json::array();
  size_t row = 0;
  for (const Source& s : sources)
    for (int64_t i = 0; i < s.samples; ++i, ++row) {
      const std::string input = s.samples > 1 ? fmt::format("{}[{}]", s.path, i) : s.path;
      nlohmann::json choices = nlohmann::json::array();
      TextTable table({0, 1, 2});
      for (const Choice& c : TopOf(logits.subspan(row * classes, classes), top)) {
        const bool named = !labels.empty();
        const nlohmann::json name =
            named ? nlohmann::json(labels[static_cast<size_t>(c.index)]) : nullptr;
        choices.push_back({{"class", c.index},
                           {"name", name},
                           {"probability", c.probability},
                           {"logit", c.logit}});
        table.Add({fmt::format("{:.2f} %", 100 * c.probability), fmt::format("{:.3f}", c.logit),
                   fmt::format("class {}", c.index),
                   named ? labels[static_cast<size_t>(c.index)] : ""});
      }
      predictions.push_back({{"input", input}, {"top", choices}});
      Say(common, input + "\n" + table.Lines("  "));
    }
  PrintJson(common, {{"predictions", predictions}});
}

void Run(const PredictOptions& o, const CommonOptions& common) {
  if (o.choice.preprocess == "list") return Say(common, ListPreprocess());
  if (o.inputs.empty())
    throw Error("predict needs images or .npy files; example: graft predict --help",
                ErrorKind::kUsage);
  ApplyCommonOptions(common);
  OpenedModel opened = OpenModel(o.choice, common, InputKind::kImages);
  const std::vector<Source> sources = OpenSources(o, opened.model.vit());
  const std::vector<float> logits = Logits(opened, sources, common);
  const int64_t classes = opened.model.vit().classes;
  if (!o.logits.empty())
    WriteNpy(
        o.logits,
        ToWrite<float>("logits", {static_cast<int64_t>(logits.size()) / classes, classes}, logits));
  PrintPredictions(opened, sources, logits, o.top, common);
  if (!o.logits.empty()) Say(common, fmt::format("logits of all classes: {}", o.logits));
}

}  // namespace

void AddPredictCommand(CLI::App& app, CommonOptions& common) {
  CLI::App* command = app.add_subcommand("predict", "classify images");
  auto o = std::make_shared<PredictOptions>();
  AddModelOptions(*command, o->choice);
  command->add_option("inputs", o->inputs,
                      "images (JPEG, PNG, PNM) or .npy of normalised [n,3,H,W] float32");
  command->add_option("--top", o->top, "classes to show")
      ->capture_default_str()
      ->check(CLI::Range(1, 1 << 20));
  command->add_option("--logits", o->logits,
                      "also write all logits, [n, classes] float32, to this .npy");
  AddCommonOptions(*command, common);
  command->footer(
      "Example:\n  graft predict --run runs/a photo.jpg --top 3\n"
      "  graft predict --model deit_tiny_patch16_224.safetensors a.jpg b.png --logits out.npy");
  command->callback([o, &common] { Run(*o, common); });
}

}  // namespace graft
