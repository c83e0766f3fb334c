// Visual prompt tuning (Jia et al. 2022, arXiv 2203.12119): P trained tokens behind the class token
// of every sequence.
//
//   vpt:       x0 = [class; P_0; patches], through all blocks
//   vpt-deep:  before block l, the rows of the tokens are replaced by P_l; what a block makes of
//              them is dropped
//
// P_l ~ U(+-sqrt(6 / (patch area * 3 + D))). Deep prompts are read through keys and values only, so
// with k_l, v_l as functions of a block's input the form `keys` is exact and has no tokens:
//
//   attention(q, k, v)  ->  attention(q, [k_l(P_l); k], [v_l(P_l); v])
//
// It costs 2 P D a query and layer; the form `tokens` costs P more rows in every layer. Dropout
// makes the prompts of sequences differ and needs `tokens`.
#include <cmath>

#include "ops/ops.h"
#include "peft/methods/methods.h"
#include "peft/parameters.h"
#include "peft/surgery.h"

namespace graft {
namespace {

// Class, distillation and register tokens stand in front of the patches; texts have [CLS].
int64_t FrontTokens(const Graph& g) {
  if (g.FindLeaf("ids").valid()) return 1;
  int64_t count = 0;
  for (const char* name : {"cls_token", "dist_token", "reg_token"})
    if (const ValueId v = g.FindLeaf(name); v.valid()) count += g.shape(v)[0].constant;
  return count;
}

class Prompts {
 public:
  explicit Prompts(const MethodArgs& a)
      : a_(a),
        count_(a.Int("tokens", 1, 4096)),
        dropout_(a.Number("dropout", 0, 0.999999)),
        position_(FrontTokens(a.g)) {
    const ValueId patches = a.g.FindLeaf("patch_embed.weight");
    area_ = patches.valid() ? a.g.shape(patches)[1].constant : 3 * 16 * 16;
  }

  void AsKeys(const std::vector<BlockSite>& blocks) const {
    Graph& g = a_.g;
    for (const BlockSite& block : blocks) {
      const Node attention = g.node(block.attention);
      const std::map<ValueId, ValueId> prompt{{block.input, Of(block)}};
      const ValueId keys = CloneWith(g, attention.in[1], prompt, CloneAs::kParameters);
      const ValueId values = CloneWith(g, attention.in[2], prompt, CloneAs::kParameters);
      g.SetName(keys, attention.scope + ".prompt_k");  // what they are called once computed
      g.SetName(values, attention.scope + ".prompt_v");
      AddKeys(g, block.attention, keys, values);
    }
  }

  // The blocks are built again over longer sequences. The tokens are dropped behind the last one,
  // so that heads see the sequences that they know.
  void AsTokens(const std::vector<BlockSite>& blocks, bool deep) const {
    Graph& g = a_.g;
    const ValueId offsets = g.node(blocks[0].attention).in[3];
    const std::vector<NodeId> users = g.users(blocks.back().output);
    g.scope = "prompt";
    const ValueId longer = LongerOffsets(g, offsets, count_);
    const auto insert = [&](ValueId x, const BlockSite& block) {
      return InsertDropped(a_, x, Of(block), offsets, position_,
                           fmt::format("blocks.{}.prompt.dropout", block.number), dropout_);
    };
    const auto drop = [&](ValueId x) { return DropTokens(g, x, longer, position_, count_); };
    ValueId x = insert(blocks[0].input, blocks[0]);
    for (size_t i = 0; i < blocks.size(); ++i) {
      if (deep && i > 0) x = insert(drop(x), blocks[i]);
      x = CloneWith(g, blocks[i].output, {{blocks[i].input, x}, {offsets, longer}}, CloneAs::kRows);
    }
    const ValueId out = drop(x);
    g.ReplaceUsesIn(blocks.back().output, out, users);
    g.ReplaceResult(blocks.back().output, out);
  }

  double dropout() const { return dropout_; }

 private:
  ValueId Of(const BlockSite& block) const {
    const int64_t width = a_.g.shape(block.input)[1].constant;
    return NewParam(a_, fmt::format("blocks.{}.prompt", block.number), {count_, width},
                    Uniforms(std::sqrt(6 / static_cast<double>(area_ + width))));
  }

  const MethodArgs& a_;
  const int64_t count_;
  const double dropout_;
  const int64_t position_;
  int64_t area_ = 0;  // numbers in a patch, by which the authors scale the first values
};

// Whether random nodes lie between a block's input and its keys and values: prompts would pass
// them, too, each sequence with a mask of its own.
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
  if (form == "keys" || (form == "auto" && !random))
    prompts.AsKeys(blocks);
  else
    prompts.AsTokens(blocks, deep);
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
    .count =
        +[](const MethodArgs& a) { return a.Int("tokens", 1, 4096) * ShapeOf(a.g).width; },
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
              {"tokens", "10", "P, tokens for each block"},
              {"dropout", "0", "probability on the tokens"},
              {"form", "auto", "keys (of attention: equal, cheaper), tokens; auto: keys if so"}};
        },
    .apply = +[](const MethodArgs& a) { return ApplyVpt(a, "vpt-deep", true); },
    .count =
        +[](const MethodArgs& a) {
          const HostShape h = ShapeOf(a.g);
          return h.depth * a.Int("tokens", 1, 4096) * h.width;
        },
    .folds = Folds::kPart,
    .why = "norm and projections of the tokens are computed once; keys and values stay",
    .learning_rate = 5e-3,
    .phase = MethodPhase::kTokens};

}  // namespace graft
