// The option `blocks` of methods that hang one branch on every block: it names the blocks. Several
// terms with different blocks give blocks options of their own.
#pragma once
#include "peft/method.h"
#include "peft/sites.h"

namespace graft {

inline constexpr MethodOption kBlocksOption{
    "blocks", "*", "numbers of blocks joined by '|', also ranges such as 0-3; *: all"};

// The blocks that the option names, in order. Throws Error (kUsage) for a text that is no number or
// range, and for blocks that the model does not have.
std::vector<BlockSite> ChosenBlocks(const MethodArgs& a);

// Tells whether the option names the block of a layer, which its scope says. Layers outside of
// blocks are meant by * alone.
class BlockFilter {
 public:
  explicit BlockFilter(const MethodArgs& a);
  bool operator()(std::string_view scope) const;

 private:
  bool all_ = false;
  std::vector<int64_t> numbers_;
};

// MethodRecord::sites of such a method: one place for each chosen block.
std::vector<MethodSite> SitesByBlock(const MethodArgs& a);

// Throws Error (kUsage) if the place has a branch of this kind already: the two would share the
// name of their parameter.
void CheckNotTwice(const Graph& g, const std::string& parameter, std::string_view method);

}  // namespace graft
