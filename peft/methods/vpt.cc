// Visual prompt tuning (Jia et al. 2022, arXiv 2203.12119): P trained tokens behind the class token
// of every sequence.
//
//   vpt:       x0 = [class; P_0; patches], through all blocks
//   vpt-deep:  before block l, the rows of the tokens are replaced by P_l; what a block makes of
//              them is dropped; with a number for each block, a block with none goes on with those
//              of the block before, as NOAH's (Zhang et al. 2022) do behind the last of its blocks
//
// P_l ~ U(+-sqrt(6 / (patch area * 3 + D))). Deep prompts are read through keys and values only, so
// with k_l, v_l as functions of a block's input the form `keys` is exact and has no tokens:
//
//   attention(q, k, v)  ->  attention(q, [k_l(P_l); k], [v_l(P_l); v])
//
// where the next block has prompts of its own, or is none. It costs 2 P D a query and layer; the
// form `tokens` costs P more rows in every layer. Dropout makes the prompts of sequences differ and
// needs `tokens`.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <span>

#include "ops/ops.h"
#include "peft/blocks.h"
#include "peft/methods/methods.h"
#include "peft/parameters.h"
#include "peft/surgery.h"

namespace graft {
namespace {

// The number of tokens in front of the patches: class, distillation and register tokens. Texts have
// [CLS].
int64_t FrontTokens(const Graph& g) {
  if (g.FindLeaf("ids").valid()) return 1;
  int64_t count = 0;
  for (const char* name : {"cls_token", "dist_token", "reg_token"})
    if (const ValueId v = g.FindLeaf(name); v.valid()) count += g.shape(v)[0].constant;
  return count;
}

// The number of tokens for each block in order; for vpt, which has no option `blocks`, a single
// number.
std::vector<int64_t> TokensOf(const MethodArgs& a) {
  if (!a.options.contains("blocks")) return {a.Int("tokens", 1, 4096)};
  const std::vector<BlockSite> blocks = FindBlocks(a.g);
  const std::vector<std::string> list = a.List("tokens");
  const bool each = list.size() > 1;
  if (each && list.size() != blocks.size())
    FailUsage("option 'tokens' = '{}': expected one number, or one for each of the {} blocks",
              a.Text("tokens"), blocks.size());
  const BlockFilter chosen(a);
  std::vector<int64_t> counts;
  for (size_t i = 0; i < blocks.size(); ++i) {
    const std::map<std::string, std::string> one{{"tokens", list[each ? i : 0]}};
    const MethodArgs number{a.g, a.params, one, a.seed};
    const int64_t count = number.Int("tokens", each ? 0 : 1, 4096);
    counts.push_back(chosen(fmt::format("blocks.{}", blocks[i].number)) ? count : 0);
  }
  if (std::ranges::count(counts, 0) == std::ssize(counts))
    FailUsage("option 'tokens' = '{}': no block has any", a.Text("tokens"));
  return counts;
}

class Prompts {
 public:
  explicit Prompts(const MethodArgs& a)
      : a_(a),
        counts_(TokensOf(a)),
        dropout_(a.Number("dropout", 0, 0.999999)),
        position_(FrontTokens(a.g)) {
    const ValueId patches = a.g.FindLeaf("patch_embed.weight");
    area_ = patches.valid() ? a.g.shape(patches)[1].constant : 3 * 16 * 16;
  }

  int64_t At(size_t block) const { return counts_[std::min(block, counts_.size() - 1)]; }
  // The next block behind `i` that has prompts of its own, or the end.
  size_t Next(size_t i, size_t end) const {
    for (++i; i < end && At(i) == 0;) ++i;
    return i;
  }

  void AsKeys(const BlockSite& block, int64_t count) const {
    Graph& g = a_.g;
    const Node attention = g.node(block.attention);
    const std::map<ValueId, ValueId> prompt{{block.input, Of(block, count)}};
    const ValueId keys = CloneWith(g, attention.in[1], prompt, CloneAs::kParameters);
    const ValueId values = CloneWith(g, attention.in[2], prompt, CloneAs::kParameters);
    g.SetName(keys, attention.scope + ".prompt_k");  // what they are called once computed
    g.SetName(values, attention.scope + ".prompt_v");
    AddKeys(g, block.attention, keys, values);
  }

  // Builds the blocks again over longer sequences, which begin with the prompts of the first block
  // and lose the tokens behind the last. The first block reads `input`. Returns what takes the
  // place of the last block's result.
  ValueId AsTokens(std::span<const BlockSite> blocks, ValueId input, ValueId offsets,
                   int64_t count) const {
    Graph& g = a_.g;
    const ValueId last = blocks.back().output;
    const UserList users = g.users(last);
    g.scope = "prompt";
    const ValueId longer = LongerOffsets(g, offsets, count);
    ValueId from = input;
    ValueId x = InsertDropped(a_, input, Of(blocks[0], count), offsets, position_,
                              fmt::format("blocks.{}.prompt.dropout", blocks[0].number), dropout_);
    for (const BlockSite& block : blocks) {
      x = CloneWith(g, block.output, {{from, x}, {offsets, longer}}, CloneAs::kRows);
      from = block.output;
    }
    const ValueId out = DropTokens(g, x, longer, position_, count);
    g.ReplaceUsesIn(last, out, users);
    g.ReplaceResult(last, out);
    return out;
  }

  double dropout() const { return dropout_; }

 private:
  ValueId Of(const BlockSite& block, int64_t count) const {
    const int64_t width = a_.g.shape(block.input)[1].constant;
    return NewParam(a_, fmt::format("blocks.{}.prompt", block.number), {count, width},
                    Uniforms(std::sqrt(6 / static_cast<double>(area_ + width))));
  }

  const MethodArgs& a_;
  const std::vector<int64_t> counts_;
  const double dropout_;
  const int64_t position_;
  int64_t area_ = 0;  // numbers in a patch, by which the authors scale the first values
};

// Whether random nodes lie between a block's input and its keys and values: prompts would pass
// them, too, with a mask of their own for each sequence.
bool RandomKeys(const Graph& g, const std::vector<BlockSite>& blocks) {
  for (const BlockSite& block : blocks) {
    const Node& attention = g.node(block.attention);
    std::vector<ValueId> open{attention.in[1], attention.in[2]};
    while (!open.empty()) {
      const ValueId v = open.back();
      open.pop_back();
      const NodeId id = g.value(v).producer;
      if (v == block.input || !id.valid()) continue;
      if (g.node(id).op == &kDropout) return true;
      open.insert(open.end(), g.node(id).in.begin(), g.node(id).in.end());
    }
  }
  return false;
}

PassReport ApplyVpt(const MethodArgs& a, const char* name, bool deep) {
  PassReport report = StartReport(a, name);
  const std::vector<BlockSite> blocks = FindBlocks(a.g);
  const Prompts prompts(a);
  const std::string form = deep ? a.Choice("form", {"auto", "keys", "tokens"}) : "tokens";
  const bool random = prompts.dropout() > 0 || (deep && RandomKeys(a.g, blocks));
  if (form == "keys" && random)
    FailUsage("option 'form' = 'keys' has no dropout of its own for each sequence; hint: tokens");
  const std::string scope = a.g.scope;
  const ValueId offsets = a.g.node(blocks[0].attention).in[3];
  const bool keys = form == "keys" || (form == "auto" && !random);
  const size_t end = deep ? blocks.size() : 1;
  // Blocks whose prompts no later block reads come first, as these blocks stay where they are.
  const auto as_keys = [&](size_t i) {
    return deep && keys && prompts.At(i) > 0 && prompts.Next(i, end) == i + 1;
  };
  for (size_t i = 0; i < end; ++i)
    if (as_keys(i)) prompts.AsKeys(blocks[i], prompts.At(i));
  ValueId out;
  for (size_t i = 0, before = 0; i < end; i = prompts.Next(i, end)) {
    if (prompts.At(i) == 0 || as_keys(i)) continue;
    const size_t next = deep ? prompts.Next(i, end) : blocks.size();
    const ValueId input = out.valid() && before == i ? out : blocks[i].input;
    out = prompts.AsTokens(std::span(blocks).subspan(i, next - i), input, offsets, prompts.At(i));
    before = next;
  }
  a.g.scope = scope;
  report.rewrites = static_cast<int>(deep ? blocks.size() : 1);
  return FinishReport(a, report);
}

}  // namespace

const MethodRecord kVptMethod{
    .name = "vpt",
    .summary = "trained tokens beside the patches, through all blocks (Jia et al. 2022)",
    .equation = "x0 = [class; P; patches]",
    .formula = "P D",
    .source = "Jia et al. 2022, arXiv 2203.12119 (shallow)",
    .options =
        +[] {
          return std::vector<MethodOption>{{"tokens", "10", "P, tokens"},
                                           {"dropout", "0", "probability on the tokens"}};
        },
    .apply = +[](const MethodArgs& a) { return ApplyVpt(a, "vpt", false); },
    .count = +[](const MethodArgs& a) { return a.Int("tokens", 1, 4096) * ShapeOf(a.g).width; },
    .folds = Folds::kNo,
    .why = "the tokens are read by every block and change with the image",
    .learning_rate = 5e-3,
    .phase = MethodPhase::kTokens};

const MethodRecord kVptDeepMethod{
    .name = "vpt-deep",
    .summary = "trained tokens beside the patches, new ones for every block (Jia et al. 2022)",
    .equation = "x_l = [class; P_l; patches]",
    .formula = "L P D",
    .source = "Jia et al. 2022, arXiv 2203.12119 (deep)",
    .options =
        +[] {
          return std::vector<MethodOption>{
              {"tokens", "10",
               "P, tokens for each block; or a number for each, joined by '|', where 0 lets those "
               "of "
               "the block before go on"},
              {"dropout", "0", "probability on the tokens"},
              {"form", "auto", "keys (of attention: equal, cheaper), tokens; auto: keys if so"},
              kBlocksOption};
        },
    .apply = +[](const MethodArgs& a) { return ApplyVpt(a, "vpt-deep", true); },
    .count =
        +[](const MethodArgs& a) {
          const std::vector<int64_t> counts = TokensOf(a);
          return std::accumulate(counts.begin(), counts.end(), int64_t{0}) * ShapeOf(a.g).width;
        },
    .folds = Folds::kPart,
    .why = "norm and projections of the tokens are computed once; keys and values stay",
    .learning_rate = {5e-3, 1.5e-2},
    .phase = MethodPhase::kTokens,
    // One term holds a number for each block, as the tokens of one block end where the next has
    // some.
    .sites =
        +[](const MethodArgs& a) {
          std::vector<MethodSite> sites = SitesByBlock(a);
          for (MethodSite& site : sites) site.option = "tokens";
          return sites;
        }};

}  // namespace graft
