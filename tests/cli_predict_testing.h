// What the tests of graft predict share: a run of images, two of texts, and files to predict.
#pragma once
#include "runtime/io/npy.h"
#include "tests/cli_mistakes_testing.h"

namespace graft::cli {

// Records of a CSV file: fields in quotes may hold commas, quotes and line breaks.
inline std::vector<Words> ParseCsv(const std::string& text) {
  std::vector<Words> records{{""}};
  bool quoted = false;
  for (size_t i = 0; i < text.size(); ++i) {
    std::string& field = records.back().back();
    if (quoted && text[i] == '"' && i + 1 < text.size() && text[i + 1] == '"')
      field += text[i++];
    else if (text[i] == '"')
      quoted = !quoted;
    else if (!quoted && text[i] == ',')
      records.back().emplace_back();
    else if (!quoted && text[i] == '\n')
      records.push_back({""});
    else
      field += text[i];
  }
  records.pop_back();
  return records;
}

class Predict : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    dir_ = new TempDir;
    MakeData(At("data"));
    ASSERT_EQ(Graft(TrainArgs(At("data"), At("run"))).code, 0);
    const auto image = [](int i) { return At(fmt::format("data/images/test/{:06}.png", i)); };
    fs::create_directories(At("photos/deep/er"));
    fs::create_directories(At("photos/.hidden"));
    fs::copy_file(image(0), At("photos/b.png"));
    fs::copy_file(image(1), At("photos/a.PNG"));
    fs::copy_file(image(2), At("photos/deep/er/c.png"));
    fs::copy_file(image(3), At("photos/.hidden/d.png"));
    fs::copy_file(image(3), At("photos/._b.png"));
    Spill(At("photos/notes.txt"), "no image");
    fs::create_directories(At("mixed"));
    for (int i = 0; i < 20; ++i) fs::copy_file(image(i), At(fmt::format("mixed/{:02}.png", i)));
    for (const char* bad : {"mixed/00.png", "mixed/07.png", "mixed/19.png"})
      Spill(At(bad), "no image");
    fs::create_directories(At("none"));
    fs::create_directories(At("texts"));
    Spill(At("texts/labels.txt"), "odd\neven\n");
    Spill(At("texts/train.csv"), "review,stars\na b,odd\nc d,even\ne f,odd\ng h,even\n");
    Spill(At("texts/dev.csv"), "review,stars\ni j,odd\nk l,even\n");
    Spill(At("pairs.csv"), "text,second,label\na,b,odd\nc,d,even\ne,f,odd\ng,h,even\n");
    for (const auto& [data, columns, run] : {std::tuple("texts", "review,stars", "text_run"),
                                             {"pairs.csv", "text,second,label", "pair_run"}})
      ASSERT_EQ(
          Graft({"train", "--model", kNanoBert, "--tokenizer", kVocabulary, "--data", At(data),
                 "--columns", columns, "--method", "lora(r=2)", "--epochs", "1", "--out", At(run)})
              .code,
          0);
    fs::remove(At("pairs.csv"));
  }
  static void TearDownTestSuite() { delete dir_; }
  static std::string At(const std::string& name) { return *dir_ / name; }
  static nlohmann::json Images(Words inputs) {
    inputs.insert(inputs.begin(), {"predict", "--run", At("run")});
    return GraftJson(inputs)["predictions"];
  }
  static nlohmann::json Texts(Words inputs, const char* run = "text_run") {
    inputs.insert(inputs.begin(), {"predict", "--run", At(run)});
    return GraftJson(inputs)["predictions"];
  }
  static Words Inputs(const nlohmann::json& predictions) {
    Words inputs;
    for (const nlohmann::json& p : predictions) inputs.push_back(p["input"]);
    return inputs;
  }
  static inline TempDir* dir_ = nullptr;
};

}  // namespace graft::cli
