#include "train/proof.h"

#include <filesystem>

#include "adapters/method_graph.h"
#include "train/budget.h"
#include "train/capacity.h"
#include "train/evaluator.h"

namespace graft {

ProofInputs OpenProofInputs(const OpenedModel& opened, const std::string& data,
                            const std::optional<RunConfig>& run) {
  constexpr size_t kExamples = 64, kRandom = 16;
  const RunConfig settings = run.value_or(RunConfig());
  const std::string path = data.empty() ? settings.data : data;
  const bool plain_texts = MasksWords(opened.facts);
  if (plain_texts && !data.empty())
    FailUsage("--data {}: a model trained with --objective {} is proved on random inputs", data,
              opened.facts.objective);
  if (plain_texts || (data.empty() && !std::filesystem::exists(path)))
    return {MakeRandomData(kRandom, opened.model, static_cast<uint64_t>(opened.facts.seed)), true};
  const std::string& task = opened.facts.task;
  const bool named = task == kMultiLabel;  // of which the data need not have every label
  Dataset dataset(path, {settings.columns, "", settings.skip_bad, task,
                         named ? opened.labels() : std::vector<std::string>()});
  std::string split = dataset.DefaultEvalSplit();
  if (split.empty()) split = dataset.split_names().front();
  return {dataset.Load(split, kExamples, opened.model, opened.facts), false};
}

LogitsOf LogitsOn(ProofInputs& inputs, const OpenedModel& opened, const std::string& memory_budget,
                  const WorkHook& progress) {
  BatchSource& examples = *inputs.examples;
  const Counts capacity =
      ChooseCapacity(opened.model.config, examples.longest(), std::ssize(examples));
  if (!memory_budget.empty()) examples.UseSpare({.bytes = 0, .budget = ParseBytes(memory_budget)});
  // The graphs run without passes: the proof is about them as they are.
  return [&examples, capacity, memory_budget, progress](const Graph& g, ParamStore& params) {
    const InferencePlan plan = OptionsWithinBudget(
        g, params, capacity, examples.longest(), memory_budget, InferenceBytes(examples, capacity));
    Evaluator evaluator(g, params, plan.options, PassNames());
    evaluator.OnProgress("proof of the merge", progress);
    return evaluator.Logits(examples);
  };
}

FusedModel FuseOn(ProofInputs& inputs, OpenedModel opened, const std::string& memory_budget,
                  FileDType weights, const WorkHook& progress) {
  const LogitsOf logits = LogitsOn(inputs, opened, memory_budget, progress);
  return Fuse(std::move(opened), logits, weights);
}

}  // namespace graft
