// Measures MB/s of the tokenizer on one core: English text, and text with accents and Chinese.
//   tokenizer_bench TOKENIZER FILE... [flags of Google Benchmark]
// TOKENIZER is a directory or vocab.txt; every FILE is read as one text a line. Figures are bytes
// of UTF-8 in; one call a line, as a loader makes them.
#include <benchmark/benchmark.h>

#include <fstream>

#include "models/text/tokenizer.h"
#include "runtime/error.h"

namespace graft {
namespace {

std::vector<std::string> ReadTexts(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) Fail("{}: cannot open the file", path);
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(std::move(line));
  return lines;
}

// Returns the same letters with accents, and a Chinese character for every blank.
std::vector<std::string> Decorated(std::vector<std::string> lines) {
  for (std::string& line : lines) {
    std::string out;
    for (char c : line)
      out += c == 'e' ? "é" : c == 'o' ? "ö" : c == ' ' ? "中" : std::string(1, c);
    line = std::move(out);
  }
  return lines;
}

void Register(const std::string& name, const Tokenizer& tokenizer, std::vector<std::string> texts) {
  benchmark::RegisterBenchmark(name.c_str(), [&tokenizer, texts](benchmark::State& state) {
    size_t bytes = 0, tokens = 0;
    for (const std::string& text : texts) {
      bytes += text.size();
      tokens += tokenizer.Encode(text).ids.size();
    }
    for (auto _ : state)
      for (const std::string& text : texts) benchmark::DoNotOptimize(tokenizer.Encode(text));
    const auto rate = [](double amount) {
      return benchmark::Counter(amount, benchmark::Counter::kIsIterationInvariantRate);
    };
    state.counters["MB/s"] = rate(static_cast<double>(bytes) * 1e-6);
    state.counters["tokens/s"] = rate(static_cast<double>(tokens));
  })->Unit(benchmark::kMillisecond);
}

int Main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (argc < 3) Fail("usage: tokenizer_bench TOKENIZER FILE...");
  const Tokenizer tokenizer = Tokenizer::Open(argv[1]);
  for (int i = 2; i < argc; ++i) {
    const std::vector<std::string> texts = ReadTexts(argv[i]);
    Register(argv[i], tokenizer, texts);
    Register(std::string(argv[i]) + ", decorated", tokenizer, Decorated(texts));
  }
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}

}  // namespace
}  // namespace graft

int main(int argc, char** argv) {
  try {
    return graft::Main(argc, argv);
  } catch (const std::exception& e) {
    fmt::print(stderr, "tokenizer_bench: {}\n", e.what());
    return 1;
  }
}
