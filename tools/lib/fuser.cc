#include "tools/lib/fuser.h"

#include <sys/stat.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "peft/merge.h"
#include "runtime/io/atomic_file.h"
#include "runtime/text.h"

namespace graft {
namespace {

constexpr size_t kMostTokenizerBytes = size_t{1} << 30;
constexpr size_t kProofExamples = 64, kRandomExamples = 16;

// Inputs for the proof: of a data set if there is one, else random.
std::unique_ptr<TaskData> ProofData(const OpenedModel& opened, const std::string& data_path) {
  const RunConfig& c = opened.config;
  const std::string path = data_path.empty() ? c.data : data_path;
  struct stat s;
  if (data_path.empty() && stat(path.c_str(), &s) != 0)
    return MakeRandomData(kRandomExamples, opened.model, static_cast<uint64_t>(c.seed));
  const TaskDataset data(path, c.columns);
  std::string split = data.DefaultTestSplit();
  if (split.empty()) split = data.split_names().front();
  return data.Load(split, kProofExamples, opened.model, c);
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
  const ModelConfig& config = opened.model.config;
  const Graph canonical = opened.Inference(false);
  ParamStore& unmerged = opened.model.params;
  const Graph plain = BuildModel(config);

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

  const std::unique_ptr<TaskData> inputs = ProofData(opened, data);
  const Counts capacity =
      ChooseCapacity(config, inputs->longest(), static_cast<int64_t>(inputs->size()));
  // Without passes: the graphs as they are.
  const auto logits = [&](const Graph& g, ParamStore& params) {
    return Evaluator(g, params, capacity, PassNames()).Logits(*inputs);
  };
  fused.proof = Compare(logits(canonical, unmerged), logits(graph, fused.params), Classes(config));
  fused.proof.nodes_before = merged.nodes_before;
  fused.proof.nodes_after = merged.nodes_after;
  if (!(fused.proof.relative_error <= kFuseTolerance))
    throw Error(
        fmt::format(
            "the merge is not proved: logits differ by {:.3g} relative (bound {:g}) on {} inputs; "
            "nothing was written",
            fused.proof.relative_error, kFuseTolerance, fused.proof.n),
        ErrorKind::kProof);
  fused.config = std::move(opened.config), fused.model = std::move(opened.model);
  return fused;
}

namespace {

// A BERT without its vocabulary could not read texts.
void CopyTokenizer(const RunConfig& c, const std::string& out) {
  namespace fs = std::filesystem;
  const fs::path from = c.tokenizer.empty() ? c.model : c.tokenizer;
  const fs::path dir = fs::is_directory(from) ? from : from.parent_path();
  for (const char* name :
       {"tokenizer.json", "vocab.txt", "tokenizer_config.json", "special_tokens_map.json"}) {
    const bool named = fs::is_directory(from) || from.filename() == name;
    if (named && fs::is_regular_file(dir / name))
      WriteFileAtomically(out + "/" + name, ReadFile(dir / name, kMostTokenizerBytes));
  }
}

}  // namespace

void SaveFused(const FusedModel& fused, const std::string& path) {
  SaveModel(fused.model, fused.params, path, ModelMetadata(fused.model, fused.config));
  if (fused.model.is_bert()) CopyTokenizer(fused.config, path);
}

}  // namespace graft
