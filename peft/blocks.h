// The option `blocks` of methods that hang one branch on every block: on which ones. Several terms
// with other blocks give blocks options of their own.
#pragma once
#include "peft/method.h"
#include "peft/sites.h"

namespace graft {

inline constexpr MethodOption kBlocksOption{
    "blocks", "*", "numbers of blocks joined by '|', also ranges such as 0-3; *: all"};

// The blocks that the option names, in order. Throws Error (kUsage) for text that is no number or
// range, and for blocks that the model does not have.
std::vector<BlockSite> ChosenBlocks(const MethodArgs& a);

// Whether the option names the block; for layers, whose blocks are told by their scopes. What lies
// outside of blocks is meant by * alone.
class BlockFilter {
 public:
  explicit BlockFilter(const MethodArgs& a);
  bool operator()(std::string_view scope) const;

 private:
  bool all_ = false;
  std::vector<int64_t> numbers_;
};

// MethodRecord::sites of such a method: a place for each chosen block.
std::vector<MethodSite> SitesByBlock(const MethodArgs& a);

// A place has one branch of a kind: two of them would share the name of their parameter. Throws
// Error (kUsage).
void CheckNotTwice(const Graph& g, const std::string& parameter, std::string_view method);

}  // namespace graft
