// The spaces that papers give names to, as METHODs with braces.
#include <charconv>

#include "search/space.h"

namespace graft {
namespace {

std::vector<int64_t> ParseRanks(const std::string& text) {
  std::vector<int64_t> ranks;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    int64_t rank = 0;
    const auto [stop, error] = std::from_chars(text.data() + begin, text.data() + end, rank);
    if (error != std::errc() || stop != text.data() + end || rank < 1 || rank > 65536)
      FailUsage("--ranks '{}': expected whole numbers from 1 on, joined by ','", text);
    ranks.push_back(rank);
    begin = end + 1;
  }
  return ranks;
}

// Chavan et al. 2023: 4 x 4 x 3 x 3 x 3 = 432 for each layer with one rank, as in their code; their
// text has several.
std::string Glora(const std::string& ranks) {
  std::string lora;
  for (const int64_t rank : ParseRanks(ranks.empty() ? "4" : ranks))
    lora += fmt::format("lora_{}|", rank);
  return fmt::format(
      "glora(a={{{0}vector|constant|none}},b={{{0}vector|constant|none}},c={{{0}vector|none}},"
      "d={{vector|constant|none}},e={{vector|constant|none}})",
      lora);
}

}  // namespace

std::string WrittenOut(const std::string& space, const std::string& ranks) {
  if (space == "glora") return Glora(ranks);
  if (!ranks.empty())
    FailUsage("--ranks: of the space glora; expected the choices in '{}' itself", space);
  return space;
}

}  // namespace graft
