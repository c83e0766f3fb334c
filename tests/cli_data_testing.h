// Data sets as people have them, for the tests of the command.
#pragma once
#include "tests/cli_mistakes_testing.h"
#include "tests/image_test_util.h"

namespace graft::cli {

inline constexpr const char* kWords = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nb\n##b\nfilm\n";

// Files with their text; a name that ends in .png is a picture.
using Files = std::vector<std::pair<std::string, std::string>>;

inline void Fill(const TempDir& dir, const std::string& below, const Files& files) {
  uint32_t seed = 1;
  for (const auto& [name, text] : files) {
    const fs::path path = fs::path(dir / below) / name;
    fs::create_directories(path.parent_path());
    if (path.extension() == ".png" && text.empty())
      WritePng(path, NoiseImage(seed++, 40, 32));
    else
      Spill(path, text);
  }
}

inline std::string Rows(int n, const std::string& separator, const std::string& header = "") {
  std::string rows = header;
  for (int i = 0; i < n; ++i)
    rows += fmt::format("a film {}{}{}\n", std::string(static_cast<size_t>(1 + i), 'b'), separator,
                        i % 2 ? "pos" : "neg");
  return rows;
}

// Makes the directory of a tiny BERT with its vocabulary.
inline std::string MakeBert(const TempDir& dir) {
  fs::create_directories(dir / "bert");
  for (const char* name : {"model.safetensors", "config.json"})
    fs::copy(kFixtures + "tiny_bert_hf/" + name, fs::path(dir / "bert") / name);
  Spill(dir / "bert/vocab.txt", kWords);
  return dir / "bert";
}

inline nlohmann::json Config(const std::string& run) {
  return nlohmann::json::parse(Slurp(run + "/config.json"));
}

}  // namespace graft::cli
