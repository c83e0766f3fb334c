#include "tools/profiles/numerics.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "tools/lib/against.h"
#include "tools/lib/report.h"
#include "tools/profiles/step_inputs.h"
#include "train/budget.h"
#include "train/evaluator.h"

namespace graft {
namespace {

constexpr int64_t kWarmUp = 3;  // steps
constexpr double kRate = 1e-3;
constexpr std::string_view kState = "acc.";

PassOptions PlainPasses(const CommonOptions& common) { return {common.disabled_passes, {}}; }

struct Gradients {
  double loss = 0;
  std::map<std::string, std::vector<float>> tensors;
};

// The gradients of a batch after so many steps of training.
Gradients GradientsOf(const ProfileWork& o, LoadedModel& model, const StepInputs& inputs,
                      const PassOptions& passes, int64_t train) {
  const Graph g = MethodGraph(model.config, {.loss = true}, ParseMethod(o.method), model.params, 0);
  TrainStep step(g, model.params, {}, inputs.Capacity(o.micro_batch, g, passes),
                 TrainingPasses(passes));
  Session& session = step.session();
  inputs.Fill(session);
  const std::vector<Counts> parts = inputs.Parts(inputs.MicroBatch(session.options().capacity));
  const auto filled = [](int64_t, int64_t, int) {};
  for (int64_t i = 0; i < train; ++i) step.Run(parts, i, kRate, filled);
  Gradients found;
  found.loss = step.Accumulate(parts, kWarmUp, filled).loss;
  for (const ValueId v : step.graph().Leaves(Role::kState)) {
    const std::string& name = step.graph().value(v).name;
    if (!name.starts_with(kState) || name == "acc.loss") continue;
    const Tensor t = session.State(name);
    found.tensors[name.substr(kState.size())].assign(t.f32(), t.f32() + t.shape.size());
  }
  return found;
}

struct Sums {
  double dot = 0, mine = 0, other = 0, apart = 0;
  void Add(const Sums& s) { dot += s.dot, mine += s.mine, other += s.other, apart += s.apart; }
  double Cosine() const {
    if (mine == 0 || other == 0) return mine == other ? 1 : 0;
    return dot / std::sqrt(mine * other);
  }
};

Sums SumsOf(const std::vector<float>& mine, const std::vector<float>& other) {
  Sums s;
  for (size_t i = 0; i < mine.size(); ++i) {
    const double x = mine[i], y = other[i];
    s.dot += x * y, s.mine += x * x, s.other += y * y, s.apart += (x - y) * (x - y);
  }
  return s;
}

double Ratio(double a, double b) { return b > 0 ? std::sqrt(a / b) : a > 0 ? HUGE_VAL : 0; }

GradientDistance DistanceOf(const std::string& name, const Sums& s, const Sums& all) {
  return {name, s.Cosine(), s.other > 0 ? Ratio(s.mine, s.other) : 1, Ratio(s.apart, s.other),
          all.other > 0 ? s.other / all.other : 0};
}

// Turns "blocks.3.attn.q.lora_a" into "blocks.3", and "head.weight" into "head".
std::string LayerOf(const std::string& tensor) {
  size_t end = tensor.find('.');
  if (tensor.starts_with("blocks.")) end = tensor.find('.', end + 1);
  return tensor.substr(0, end);
}

void AddGradients(const Gradients& mine, const Gradients& f32, Numerics* n) {
  std::map<std::string, Sums> tensors, layers;
  Sums all;
  for (const auto& [name, values] : f32.tensors) {
    const auto at = mine.tensors.find(name);
    if (at == mine.tensors.end() || at->second.size() != values.size()) continue;
    const Sums& sums = tensors[name] = SumsOf(at->second, values);
    layers[LayerOf(name)].Add(sums);
    all.Add(sums);
  }
  for (const auto& [name, sums] : tensors) n->gradients.push_back(DistanceOf(name, sums, all));
  for (const auto& [name, sums] : layers) n->layers.push_back(DistanceOf(name, sums, all));
  n->cosine = all.Cosine();
  n->loss = mine.loss, n->loss_f32 = f32.loss;
  // What has next to no share comes last: the true gradient of a key's bias is zero, and what is
  // computed of it is rounding.
  constexpr double kSome = 1e-9;
  for (std::vector<GradientDistance>* each : {&n->gradients, &n->layers})
    std::ranges::stable_sort(
        *each, {}, [](const GradientDistance& d) { return std::pair(d.share < kSome, d.cosine); });
}

// The logits [rows, classes] of a batch.
std::vector<float> LogitsOf(const ProfileWork& o, LoadedModel& model, const StepInputs& inputs,
                            const PassOptions& passes) {
  Graph g = o.method.empty() ? BuildModel(model.config)
                             : InferenceGraph(model.config, ParseMethod(o.method), model.params);
  g.EraseUnusedInputs();
  InferencePasses(passes).Run(g);
  Session session(g, model.params, {.capacity = inputs.Of(1)});
  inputs.Fill(session);
  std::vector<float> logits;
  // Runs one sequence after the other, each with inputs of its own.
  for (int64_t i = 0; i < inputs.batch; ++i) {
    FillWithNoise(session, inputs.length, inputs.model, 0);
    if (session.HasInput("image")) {
      const Tensor image = session.Input("image");
      std::rotate(image.f32(), image.f32() + i % image.shape.size(),
                  image.f32() + image.shape.size());
    }
    if (session.HasInput("ids")) {
      const Tensor ids = session.Input("ids");
      std::rotate(ids.i32(), ids.i32() + i % ids.shape.size(), ids.i32() + ids.shape.size());
    }
    session.Run(inputs.Of(1));
    const Tensor y = session.Output("logits");
    logits.insert(logits.end(), y.f32(), y.f32() + y.shape.size());
  }
  return logits;
}

}  // namespace

void CheckNumerics(const CommonOptions& common) {
  if (ChooseDtype(common.dtype).dtype == "f32")
    FailUsage(
        "--numerics compares with f32: give --dtype bf16 or int8, on a CPU that has it "
        "or with GRAFT_EMULATE=1");
}

Numerics MeasureNumerics(const ProfileWork& o, const CommonOptions& common, LoadedModel& model) {
  const PassOptions low = PassesOf(common), plain = PlainPasses(common);
  Numerics n;
  const StepInputs inputs{model.config, TextLength(o, model), o.batch};
  if (!o.method.empty()) {
    GradientsOf(o, model, inputs, plain, kWarmUp);
    const Gradients f32 = GradientsOf(o, model, inputs, plain, 0);
    AddGradients(GradientsOf(o, model, inputs, low, 0), f32, &n);
  }
  const std::vector<float> y0 = LogitsOf(o, model, inputs, plain);
  const std::vector<float> y = LogitsOf(o, model, inputs, low);
  const Agreement a = Compare(y, y0, static_cast<size_t>(o.batch));
  const Sums sums = SumsOf(y, y0);
  n.logits_relative = Ratio(sums.apart, sums.other);
  n.logits_worst = a.range > 0 ? a.difference / a.range : 0;
  n.same_class = a.same;
  return n;
}

std::string LogitsText(const Numerics& n) {
  return fmt::format(
      "logits differ by {:.2e} of their norm, at most by {} of their range; the same class for {} "
      "of the batch",
      n.logits_relative, Percent(n.logits_worst), Percent(n.same_class));
}

std::string LossText(const Numerics& n) {
  if (n.gradients.empty()) return "";
  return fmt::format("loss {:.6f} (f32 {:.6f}); cosine of all gradients {:.6f}", n.loss, n.loss_f32,
                     n.cosine);
}

std::string NumericsText(const Numerics& n, int64_t top) {
  std::string text = fmt::format("{} beside f32: {}", n.dtype, LogitsText(n));
  if (n.gradients.empty()) return text;
  text += "\n" + LossText(n) + "\n";
  TextTable table({0, 1, 2, 3});
  table.Add({"cosine", "|g|/|g f32|", "apart", "of |g|^2", "gradient"});
  const auto add = [&](const std::vector<GradientDistance>& all) {
    for (size_t i = 0; i < all.size() && i < static_cast<size_t>(top); ++i)
      table.Add({fmt::format("{:.6f}", all[i].cosine), fmt::format("{:.4f}", all[i].norm),
                 fmt::format("{:.2e}", all[i].relative), Percent(all[i].share), all[i].tensor});
  };
  add(n.layers);
  add(n.gradients);
  return text + table.Lines("");
}

namespace {

nlohmann::json DistancesJson(const std::vector<GradientDistance>& all, const char* what) {
  nlohmann::json json = nlohmann::json::array();
  for (const GradientDistance& d : all)
    json.push_back({{what, d.tensor},
                    {"cosine", d.cosine},
                    {"norm", d.norm},
                    {"relative", d.relative},
                    {"share", d.share}});
  return json;
}

}  // namespace

nlohmann::json NumericsJson(const Numerics& n) {
  return {{"dtype", n.dtype},
          {"cosine", n.cosine},
          {"loss", n.loss},
          {"loss_f32", n.loss_f32},
          {"logits_relative", n.logits_relative},
          {"logits_worst", n.logits_worst},
          {"same_class", n.same_class},
          {"layers", DistancesJson(n.layers, "layer")},
          {"gradients", DistancesJson(n.gradients, "tensor")}};
}

}  // namespace graft
