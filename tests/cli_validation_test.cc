// What training says of its validation examples is what `eval` says of them with the same weights:
// nothing that training alone does, such as dropout, takes part.
#include "peft/method.h"
#include "tests/cli_mistakes_testing.h"

namespace graft::cli::cli_validation_test {
namespace {

// Methods with each of the options that drop something, and what else differs between training and
// inference.
std::vector<std::string> Recipes() {
  std::vector<std::string> recipes{"lora(r=2)", "lora(r=2)+calibration",
                                   "lora(r=2,dropout=0.8)+bitfit", "full"};
  for (const MethodRecord* record : AllMethods())
    for (const MethodOption& option : record->options())
      if (option.name.ends_with("dropout"))
        recipes.push_back(fmt::format("{}({}=0.8)", record->name, option.name));
  return recipes;
}

class Validation : public ::testing::TestWithParam<std::string> {
 protected:
  static void SetUpTestSuite() {
    dir_ = new TempDir;
    MakeData(At("images"));
    MakeTexts(At("texts"), 24, 30);
  }
  static void TearDownTestSuite() { delete dir_; }
  static std::string At(const std::string& name) { return *dir_ / name; }
  static TempDir* dir_;

  // Whether the kind of model can have the method.
  static bool Check(const std::string& data, const std::string& split,
                    std::vector<std::string> args) {
    const std::string run = At("run_of_" + data);
    const std::string& method = GetParam();
    args.insert(args.begin(),
                {"train", "--method", method, "--data", At(data), "--epochs", "2", "--batch-size",
                 "8", "--lr", "0.01", "--label-smoothing", "0.1", "--out", run, "--force"});
    const Outcome trained = Graft(args);
    if (trained.code == 2) return false;
    EXPECT_EQ(trained.code, 0) << trained.err;
    const Outcome outcome = Graft({"eval", "--run", run, "--data", At(data), "--split", split,
                                   "--checkpoint", "last", "--json"});
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    nlohmann::json val;
    std::istringstream lines(Slurp(run + "/metrics.jsonl"));
    for (std::string line; std::getline(lines, line);)
      if (const nlohmann::json row = nlohmann::json::parse(line); row.contains("val_loss"))
        val = row;
    const nlohmann::json found = outcome.json();
    EXPECT_NEAR(val.at("val_loss"), found.at("loss"), 1e-6) << method << " of " << data;
    EXPECT_EQ(val.at("val_accuracy"), found.at("accuracy")) << method << " of " << data;
    return true;
  }
};
TempDir* Validation::dir_ = nullptr;

TEST_P(Validation, IsWhatEvalSays) {
  const bool images = Check("images", "val200", {"--model", kNano, "--drop-path", "0.3"});
  const bool texts = Check(
      "texts", "dev", {"--model", kNanoBert, "--tokenizer", kVocabulary, "--max-length", "16"});
  EXPECT_TRUE(images || texts);
}

// A calibrated model is measured, and the training goes on without the calibration.
TEST_P(Validation, ChangesNoTraining) {
  const auto weights = [](const char* validation) {
    const std::string run = At("run_with_" + std::string(validation));
    const Outcome o = Graft({"train", "--model", kNano, "--method", GetParam(), "--data",
                             At("images"), "--train-split", "train800", "--val-split", validation,
                             "--epochs", "2", "--batch-size", "8", "--out", run, "--force"});
    return o.code == 0 ? Slurp(run + "/last.safetensors") : o.err;
  };
  EXPECT_TRUE(weights("val200") == weights("none")) << GetParam();
}

INSTANTIATE_TEST_SUITE_P(Methods, Validation, ::testing::ValuesIn(Recipes()), [](const auto& info) {
  std::string name;
  for (char c : info.param)
    if (std::isalnum(static_cast<unsigned char>(c))) name += c;
  return name;
});

}  // namespace
}  // namespace graft::cli::cli_validation_test
