// What the commands share: a model made ready for a data set, its graphs, and evaluation.
#pragma once
#include "data/dataset.h"
#include "data/loader.h"
#include "models/checkpoint.h"
#include "runtime/passes.h"
#include "tools/lib/run_config.h"

namespace graft {

// Class names of a data set, or "0", "1", ... if it names none.
std::vector<std::string> LabelsOf(const ImageDataset& data);

// A run or adapter means nothing on other weights than those it was trained on: throws Error if the
// SHA-256 of config.model is not config.base_sha256. Nothing is checked where that is empty
// (init:).
void CheckBase(const RunConfig& config);

// The model of a run, adapted to its task (image size, head); `params` of the model then hold the
// base weights and the fresh head. Deterministic: eval and fuse make the same model again. Throws
// Error if the model's file is not the one that the run started from, by hash.
LoadedModel OpenTaskModel(const RunConfig& config);

// The transform that a run uses: `text` if given, else the default for data sets (VTAB) at the
// model's image size.
Preprocess DataPreprocess(const std::string& text, const VitConfig& model);
// The transform of a model that is used alone: its metadata's, else its own (shorter side 256, crop
// 224).
Preprocess ModelPreprocess(const std::string& text, const LoadedModel& model);

// Model + method, frozen and trainable set; new parameters are initialised in `params`.
Graph MethodGraph(const VitConfig& config, const VitBuild& build, const Method& method,
                  ParamStore& params, uint64_t seed, std::vector<PassReport>* reports = nullptr);

// The same for inference: no dropout, nothing trainable (so kernels may keep packed weights),
// outputs "logits" and, with labels, "losses". This is the canonical graph that merging starts
// from.
Graph InferenceGraph(const VitConfig& config, const Method& method, ParamStore& params,
                     uint64_t seed, bool loss);

// Optimising passes of an inference graph, on a copy; `disabled` as --disable-pass.
PassManager InferencePasses(const std::vector<std::string>& disabled);
TrainStep::Passes TrainingPasses(const std::vector<std::string>& disabled);
// All pass names, for messages and `graft inspect`.
std::vector<std::string> PassNames();

// Sequences that one Run handles. A pure function of the model and the batch: the order of sums,
// and so the bits of the results, depend on it.
int64_t ChooseMicroBatch(const VitConfig& config, int64_t batch);

struct Metrics {
  int64_t n = 0;
  double accuracy = 0, mean_class_accuracy = 0, loss = 0, seconds = 0;
};

// A compiled inference graph that is fed from a loader.
class Evaluator {
 public:
  // `graph` has outputs logits and losses. Trainable parameters may change between runs.
  Evaluator(const Graph& graph, ParamStore& params, int64_t micro_batch,
            const std::vector<std::string>& disabled_passes = {});
  // Accuracy over the examples; `logits`, if given, receives [n, classes].
  Metrics Run(ImageLoader& loader, std::span<const Example> examples,
              std::vector<float>* logits = nullptr);
  Session& session() { return session_; }

 private:
  void Compute(const ImageLoader& loader, std::span<const Pixels> samples,
               std::span<const Example> examples, float* logits, float* losses);

  Session session_;
  int64_t micro_batch_, classes_;
};

// A loader over the examples' files.
std::unique_ptr<ImageLoader> MakeLoader(std::span<const Example> examples,
                                        const Preprocess& preprocess);

// Metadata of fused files: graft.config, graft.recipe, graft.base_sha256, graft.labels,
// graft.preprocess.
StringMap ModelMetadata(const LoadedModel& model, const RunConfig& config);

}  // namespace graft
