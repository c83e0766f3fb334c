#include "tools/lib/fuser.h"

#include <sys/stat.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "peft/merge.h"
#include "runtime/rng.h"
#include "runtime/session.h"
#include "runtime/text.h"

namespace graft {
namespace {

constexpr size_t kProofImages = 64;

// Normalised inputs for the proof: images of a data set, or normal noise.
std::vector<float> ProofInputs(const RunConfig& c, const VitConfig& model,
                               const std::string& data_path, int64_t* n) {
  const std::string path = data_path.empty() ? c.data : data_path;
  const size_t size = static_cast<size_t>(model.channels * model.image_size * model.image_size);
  struct stat s;
  if (!data_path.empty() || stat(path.c_str(), &s) == 0) {
    const ImageDataset data(path);
    std::string split = data.DefaultTestSplit();
    if (split.empty()) split = data.splits().front().name;
    const Split examples = data.Load(split, kProofImages);
    const std::unique_ptr<ImageLoader> loader =
        MakeLoader(examples.examples, ParsePreprocess(c.preprocess));
    std::vector<size_t> order(examples.examples.size());
    std::iota(order.begin(), order.end(), size_t{0});
    loader->Start(order);
    std::vector<float> inputs(order.size() * size);
    loader->Next(order.size(), inputs.data());
    *n = static_cast<int64_t>(order.size());
    return inputs;
  }
  *n = 16;
  std::vector<float> inputs(static_cast<size_t>(*n) * size);
  FillNormal(inputs, {MakeKey(static_cast<uint64_t>(c.seed), Purpose::kData, "fuse proof")}, 0, 1);
  return inputs;
}

std::vector<float> Logits(const Graph& g, ParamStore& params, const std::vector<float>& inputs,
                          int64_t n, int64_t micro) {
  Session session(g, params, {.capacity = {micro, 0}});
  const Tensor image = session.Input("image");
  const int64_t size = image.shape.size() / micro;
  std::vector<float> logits;
  for (int64_t first = 0; first < n; first += micro) {
    const int64_t count = std::min(micro, n - first);
    std::copy_n(inputs.begin() + first * size, count * size, image.f32());
    session.Run({count, 0});
    const Tensor out = session.Output("logits");
    logits.insert(logits.end(), out.f32(), out.f32() + out.shape.size());
  }
  return logits;
}

FuseProof Compare(const std::vector<float>& before, const std::vector<float>& after,
                  int64_t classes) {
  FuseProof proof;
  double largest = 0;
  for (size_t i = 0; i < before.size(); ++i) {
    const double difference = std::fabs(static_cast<double>(before[i]) - after[i]);
    // NaN must not pass: it compares false with everything.
    if (!(difference <= proof.max_abs_logit_difference))
      proof.max_abs_logit_difference = difference;
    largest = std::max(largest, static_cast<double>(std::fabs(before[i])));
  }
  proof.relative_error = proof.max_abs_logit_difference / std::max(largest, 1e-30);
  proof.n = static_cast<int64_t>(before.size()) / classes;
  for (int64_t i = 0; i < proof.n; ++i) {
    const auto top = [&](const std::vector<float>& l) {
      return std::max_element(l.begin() + i * classes, l.begin() + (i + 1) * classes) -
             (l.begin() + i * classes);
    };
    proof.top1_agreement += top(before) == top(after);
  }
  proof.top1_agreement /= static_cast<double>(std::max<int64_t>(proof.n, 1));
  return proof;
}

}  // namespace

FusedModel Fuse(OpenedModel opened, const std::string& data) {
  const RunConfig& c = opened.config;
  if (opened.method.empty())
    throw Error(fmt::format("{}: a plain model, nothing to merge", opened.description),
                ErrorKind::kUsage);
  const VitConfig& config = opened.model.vit();
  const Graph canonical = opened.Inference(false);
  ParamStore& unmerged = opened.model.params;
  const Graph plain = BuildVit(config);

  Graph graph = canonical;
  FusedModel fused;
  fused.params = unmerged;
  const MergeResult merged = Merge(graph, fused.params, plain.ParamNames());
  if (!merged.left.empty())
    throw Error(fmt::format("method '{}' cannot be folded: '{}' and {} others stay", c.method,
                            merged.left[0], merged.left.size() - 1),
                ErrorKind::kNotFoldable);
  if (ToText(graph) != ToText(plain))
    throw Error(
        fmt::format("the fused graph is not that of the plain model; nothing was written:\n{}",
                    DiffText(plain, graph)),
        ErrorKind::kProof);

  int64_t n = 0;
  const std::vector<float> inputs = ProofInputs(c, config, data, &n);
  const int64_t micro = ChooseMicroBatch(config, n);
  fused.proof = Compare(Logits(canonical, unmerged, inputs, n, micro),
                        Logits(graph, fused.params, inputs, n, micro), config.classes);
  fused.proof.nodes_before = merged.nodes_before;
  fused.proof.nodes_after = merged.nodes_after;
  if (!(fused.proof.relative_error <= kFuseTolerance))
    throw Error(
        fmt::format(
            "the merge is not proved: logits differ by {:.3g} relative (bound {:g}) on {} inputs; "
            "nothing was written",
            fused.proof.relative_error, kFuseTolerance, n),
        ErrorKind::kProof);
  fused.config = std::move(opened.config), fused.model = std::move(opened.model);
  return fused;
}

void SaveFused(const FusedModel& fused, const std::string& path) {
  SaveModel(fused.model, fused.params, path, ModelMetadata(fused.model, fused.config));
}

}  // namespace graft
