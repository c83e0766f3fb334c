#include "train/complete_config.h"

#include <filesystem>

#include "adapters/base_hash.h"
#include "adapters/base_model.h"
#include "train/dataset.h"

namespace graft {

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
  const Dataset data(c.data, c.columns);
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
  if (!data.texts()) {
    const ChosenPreprocess chosen = ChoosePreprocess(c.preprocess, model, InputKind::kDataset);
    c.preprocess = ToString(chosen.value), c.preprocess_source = chosen.source;
  }
  c.base_sha256 = KnownBaseHash(c.model).value_or("");
  return c;
}

}  // namespace graft
