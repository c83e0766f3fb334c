#include "tools/lib/model_options.h"

namespace graft {

void AddModelOptions(CLI::App& command, ModelChoice& choice, std::vector<std::string>* adapters) {
  command.add_option("--run", choice.run, "run directory of graft train");
  command.add_option("--checkpoint", choice.checkpoint,
                     "last or best, of the run (default: best if it was validated, else last)");
  command.add_option("--model", choice.model,
                     "safetensors file, Hugging Face directory, fused file, or init:ARCH");
  const std::string adapter =
      "for --model: a directory of Hugging Face peft, a file of graft export, or a run on it";
  if (adapters)
    command.add_option("--adapter", *adapters, adapter + "; may be repeated")
        ->allow_extra_args(false);
  else
    command.add_option("--adapter", choice.adapter, adapter);
  command.add_option("--arch", choice.arch, "architecture, where the checkpoint does not tell");
  command.add_option("--preprocess", choice.preprocess,
                     "of images: preset or full text; 'list' shows the presets");
  command.add_option("--tokenizer", choice.tokenizer,
                     "of texts: vocab.txt or tokenizer.json (default: the model's)");
  command
      .add_option("--max-length", choice.max_length,
                  "of texts: most tokens of one (default: the run's, else 128 or, if fewer, the "
                  "model's positions or its tokenizer's model_max_length)")
      ->check(CLI::Range(kLeastMaxLength, kMostMaxLength));
}

std::string PreprocessText(const AdapterFacts& facts) {
  return fmt::format("preprocess: {} ({})", facts.preprocess, facts.preprocess_source);
}

void AddPreprocess(const AdapterFacts& facts, bool images, nlohmann::json* json) {
  const auto text = [&](const std::string& s) {
    return images ? nlohmann::json(s) : nlohmann::json();
  };
  (*json)["preprocess"] = text(facts.preprocess);
  (*json)["preprocess_source"] = text(facts.preprocess_source);
}

ModelChoice With(ModelChoice choice, const CommonOptions& common) {
  choice.seed = common.seed;
  return choice;
}

}  // namespace graft
