// Search spaces that papers have given names to, written as METHODs with braces.
#include <charconv>

#include "runtime/words.h"
#include "search/space.h"

namespace graft {
namespace {

std::vector<int64_t> ParseRanks(const std::string& text) {
  std::vector<int64_t> ranks;
  for (const std::string& word : SplitAt(text, ',')) {
    int64_t rank = 0;
    const char* end = word.data() + word.size();
    const auto [stop, error] = std::from_chars(word.data(), end, rank);
    if (error != std::errc() || stop != end || rank < 1 || rank > 65536)
      FailUsage("--ranks '{}': expected whole numbers from 1 on, joined by ','", text);
    ranks.push_back(rank);
  }
  return ranks;
}

// GLoRA (Chavan et al. 2023): 4 x 4 x 3 x 3 x 3 = 432 choices for each layer, with one rank as in
// their code; their text has several.
std::string Glora(const std::string& ranks) {
  std::string lora;
  for (const int64_t rank : ParseRanks(ranks.empty() ? "4" : ranks))
    lora += fmt::format("lora_{}|", rank);
  return fmt::format(
      "glora(a={{{0}vector|constant|none}},b={{{0}vector|constant|none}},c={{{0}vector|none}},"
      "d={{vector|constant|none}},e={{vector|constant|none}})",
      lora);
}

// NOAH (Zhang et al. 2022): each of three components has a depth, in quarters of the model's. In
// the first blocks up to its depth, these are LoRA on q, k and v together, a bottleneck behind the
// MLP, and prompts.
std::string Noah(const std::string& ranks, int64_t depth) {
  std::string sizes, depths;
  for (const int64_t size : ParseRanks(ranks.empty() ? "1,5,10" : ranks))
    sizes += fmt::format("{}{}", sizes.empty() ? "" : "|", size);
  for (int64_t quarter = 1; quarter <= 4; ++quarter) {
    const int64_t blocks = depth * quarter / 4;
    if (blocks == 0 || blocks == depth * (quarter - 1) / 4) continue;
    depths += fmt::format("{}0-{}", depths.empty() ? "" : "|", blocks - 1);
  }
  return fmt::format(
      "lora(r={{{0}}},fused=true,targets=attn.q|attn.k|attn.v,blocks={{{1}}})+"
      "houlsby(r={{{0}}},site=mlp,act=quick_gelu,blocks={{{1}}})+"
      "vpt-deep(tokens={{{0}}},blocks={{{1}}})",
      sizes, depths);
}

}  // namespace

std::string WrittenOut(const std::string& space, const std::string& ranks, int64_t depth) {
  if (space == "noah") return Noah(ranks, depth);
  if (space == "glora") return Glora(ranks);
  if (!ranks.empty())
    FailUsage("--ranks: of the spaces glora and noah; expected the choices in '{}' itself", space);
  return space;
}

}  // namespace graft
