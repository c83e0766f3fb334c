#include "peft/blocks.h"

#include <algorithm>
#include <charconv>
#include <set>

namespace graft {
namespace {

int64_t ParseBlock(std::string_view text, const std::string& whole) {
  int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size() || number < 0)
    FailUsage("option 'blocks' = '{}': expected numbers joined by '|', ranges such as 0-3, or *",
              whole);
  return number;
}

// Returns the numbers that the text names; none for *.
std::set<int64_t> ParseBlocks(const MethodArgs& a, int64_t depth) {
  std::set<int64_t> numbers;
  const std::string& whole = a.Text("blocks");
  for (const std::string& item : a.List("blocks")) {
    if (item == "*") {
      for (int64_t n = 0; n < depth; ++n) numbers.insert(n);
      continue;
    }
    const size_t dash = std::min(item.find('-'), item.size());
    const int64_t first = ParseBlock(std::string_view(item).substr(0, dash), whole);
    const int64_t last =
        dash == item.size() ? first : ParseBlock(std::string_view(item).substr(dash + 1), whole);
    if (first > last || last >= depth)
      FailUsage("option 'blocks' = '{}': expected blocks from 0 to {}, found '{}'", whole,
                depth - 1, item);
    for (int64_t n = first; n <= last; ++n) numbers.insert(n);
  }
  return numbers;
}

}  // namespace

std::vector<BlockSite> ChosenBlocks(const MethodArgs& a) {
  std::vector<BlockSite> blocks = FindBlocks(a.g);
  if (a.Text("blocks") == "*") return blocks;
  const std::set<int64_t> chosen = ParseBlocks(a, std::ssize(blocks));
  std::erase_if(blocks, [&](const BlockSite& block) { return !chosen.contains(block.number); });
  return blocks;
}

BlockFilter::BlockFilter(const MethodArgs& a) : all_(a.Text("blocks") == "*") {
  if (all_) return;
  const std::set<int64_t> chosen = ParseBlocks(a, std::ssize(FindBlocks(a.g)));
  numbers_.assign(chosen.begin(), chosen.end());
}

bool BlockFilter::operator()(std::string_view scope) const {
  return all_ || std::ranges::binary_search(numbers_, BlockOf(scope));
}

std::vector<MethodSite> SitesByBlock(const MethodArgs& a) {
  std::vector<MethodSite> sites;
  for (const BlockSite& block : ChosenBlocks(a))
    sites.push_back(
        {fmt::format("blocks.{}", block.number), "blocks", std::to_string(block.number)});
  return sites;
}

void CheckNotTwice(const Graph& g, const std::string& parameter, std::string_view method) {
  if (g.FindLeaf(parameter).valid())
    FailUsage("two terms '{}' would both branch off {}", method,
              parameter.substr(0, parameter.rfind('.')));
}

}  // namespace graft
