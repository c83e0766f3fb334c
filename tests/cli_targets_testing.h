// Texts with numbers and with several labels at once, and a run of each, for tests of the command.
#pragma once
#include "tests/cli_data_testing.h"

namespace graft::cli {

using nlohmann::json;

// Texts of eight words, no two equal; the score counts the words `b`, the names say which there
// are.
struct Row {
  std::string text, names;
  double score;
};
inline std::vector<Row> MakeRows(int first, int count) {
  std::vector<Row> rows;
  for (int i = first; i < first + count; ++i) {
    Row row{"", "", 0};
    const int bits = i * 37 % 256;
    for (int k = 0; k < 8; ++k) {
      const std::string word = i % 3 == 0 ? "b" : i % 3 == 1 ? "a" : k % 2 ? "b" : "a";
      row.text += (k ? " " : "") + (bits >> k & 1 ? word : "film");
      row.score += (bits >> k & 1) && word == "b";
    }
    for (const char* word : {"a", "b"})
      if (row.text.find(word) != std::string::npos)
        row.names += (row.names.empty() ? "" : "|") + std::string(word);
    row.score = row.score / 4 - 0.25;
    rows.push_back(row);
  }
  return rows;
}

class Targets : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    dir_ = new TempDir;
    model_ = new std::string(MakeBert(*dir_));
    for (const auto& [split, first, count] :
         {std::tuple("train", 0, 64), {"dev", 64, 24}, {"test", 88, 32}}) {
      std::string numbers = "text,score,half\n", names = "text,labels\n", arrays;
      for (const Row& r : MakeRows(first, count)) {
        numbers += fmt::format("{},{},{}\n", r.text, r.score, r.score / 2);
        names += fmt::format("{},{}\n", r.text, r.names);
        json labels = json::array();
        for (const char* word : {"a", "b"})
          if (r.names.find(word) != std::string::npos) labels.push_back(word);
        arrays += json{{"text", r.text}, {"label", labels}}.dump() + "\n";
      }
      const std::string file = fmt::format("/{}.csv", split);
      for (const char* folder : {"numbers", "names", "arrays"}) fs::create_directories(At(folder));
      Spill(At("numbers") + file, numbers), Spill(At("names") + file, names);
      Spill(At("arrays") + fmt::format("/{}.jsonl", split), arrays);
    }
    numbers_ = new json(GraftJson(Args("regression", "numbers", "run")));
    names_ = new json(GraftJson(Args("multi-label", "names", "several")));
  }
  static void TearDownTestSuite() { delete dir_, delete model_, delete numbers_, delete names_; }

  static std::string At(const std::string& name) { return *dir_ / name; }
  static Words Args(const std::string& task, const std::string& data, const std::string& out,
                    const Words& more = {}) {
    Words args{"train", "--model",      *model_,    "--data",     At(data),  "--method", "full",
               "--out", At(out),        "--epochs", "20",         "--lr",    "1e-2",     "--task",
               task,    "--batch-size", "16",       "--schedule", "constant"};
    if (task == "regression") args.insert(args.end(), {"--columns", "text,score"});
    return WithOptions(args, more);
  }
  static std::vector<json> Metrics(const std::string& run) {
    std::vector<json> lines;
    std::istringstream text(Slurp(At(run) + "/metrics.jsonl"));
    for (std::string line; std::getline(text, line);) lines.push_back(json::parse(line));
    return lines;
  }
  static std::vector<std::vector<std::string>> Csv(const std::string& path) {
    std::vector<std::vector<std::string>> rows;
    std::istringstream text(Slurp(path));
    for (std::string line; std::getline(text, line);) {
      rows.emplace_back();
      std::istringstream cells(line + ",");
      for (std::string cell; std::getline(cells, cell, ',');) rows.back().push_back(cell);
    }
    return rows;
  }

  static inline TempDir* dir_ = nullptr;
  static inline std::string* model_ = nullptr;
  static inline json *numbers_ = nullptr, *names_ = nullptr;
};

}  // namespace graft::cli
