#include "ops/low_precision.h"

#include <algorithm>

#include "ops/kernel_choice.h"
#include "ops/low_cells.h"
#include "ops/ops.h"
#include "runtime/dependence.h"

namespace graft {
namespace {

const std::vector<std::string> kDtypes{"f32", "bf16", "int8", "auto"};

// A word stands for a part of a scope between dots, a pattern for the whole.
bool Keeps(const std::string& scope, const std::string& word) {
  if (GlobMatch(word, scope)) return true;
  return ("." + scope + ".").find("." + word + ".") != std::string::npos;
}

// What the rules of the pass look at, of a whole graph.
struct LowRules {
  explicit LowRules(const Graph& g)
      : constant(DependsOnlyOnParameters(g)), written(g.num_values()) {
    for (const Update& u : g.updates) written[u.target.i] = true;
  }
  std::vector<bool> constant, written;  // by value
};

bool IsKept(const Node& n, const Precision& precision) {
  return std::ranges::any_of(precision.keep,
                             [&](const std::string& word) { return Keeps(n.scope, word); });
}

// Why a product stays in f32; null if it does not.
const char* StaysF32(const Graph& g, const Node& n, const Precision& precision,
                     const LowRules& rules) {
  const Value& weight = g.value(n.in[1]);
  if (n.phase != Phase::kMain) return "it belongs to the update";
  if (n.attrs.As<MatmulAttrs>().ta) return "a gradient of a weight";
  if (weight.role != Role::kParam) return "no operand is a weight";
  if (weight.trainable || rules.written[n.in[1].i]) return "its weight trains";
  // What the pass itself has made is behind the end, and is not constant.
  if (n.in[0].i < rules.constant.size() && rules.constant[n.in[0].i])
    return "made from parameters alone";
  const Extents sides = At(weight.type.shape, {});
  if (sides[0] < kLeastLowSide || sides[1] < kLeastLowSide) return "a side of the weight is short";
  if (Keeps(n.scope, "head")) return "the head stays in f32";
  return IsKept(n, precision) ? "--keep names it" : nullptr;
}

// bf16 stands in for int8 where a sum has too many numbers, and for pixels: what is rounded there
// goes through all blocks, and it is hardly more than one product in a hundred.
CellType CellFor(const Graph& g, const Node& n, CellType cell) {
  if (cell != CellType::kInt8) return cell;
  const Extents sides = At(g.shape(n.in[1]), {});
  const int64_t k = sides[n.attrs.As<MatmulAttrs>().tb ? 1 : 0];
  const bool pixels = Keeps(n.scope, "patch_embed");
  return pixels || CellsOf(cell, k) > kMostInt8Cells ? CellType::kBf16 : cell;
}

// The operator that takes the node's place, if any, and its attributes.
std::pair<const OpDef*, Attrs> LowForm(const Graph& g, const Node& n, const Precision& precision,
                                       const LowRules& rules) {
  if (n.op == &kMatmul && !StaysF32(g, n, precision, rules)) {
    LowMatmulAttrs attrs;
    attrs.product = n.attrs.As<MatmulAttrs>();
    attrs.cell = CellName(CellFor(g, n, precision.cell));
    return {&kLowMatmul, attrs};
  }
  if (!precision.attention || IsKept(n, precision)) return {};
  if (n.op == &kAttention) return {&kLowAttention, n.attrs};
  if (n.op == &kAttentionGrad) return {&kLowAttentionGrad, n.attrs};
  return {};
}

PassReport Lower(Graph& g, const Precision& precision) {
  PassReport report{"low_precision", 0, g.live_nodes(), 0, 0};
  const LowRules rules(g);
  for (NodeId id : g.TopoOrder()) {
    const Node n = g.node(id);
    const auto [op, attrs] = LowForm(g, n, precision, rules);
    if (!op) continue;
    g.scope = n.scope;
    const std::vector<ValueId> made = g.Add(*op, n.in, attrs, n.built_at);
    for (size_t i = 0; i < made.size(); ++i) {
      g.SetName(made[i], g.value(n.out[i]).name);
      g.ReplaceUses(n.out[i], made[i]);
    }
    g.EraseNode(id);
    ++report.rewrites;
  }
  g.scope.clear();
  report.nodes_after = g.live_nodes();
  return report;
}

}  // namespace

void CheckDtype(const std::string& dtype) {
  if (std::ranges::find(kDtypes, dtype) == kDtypes.end())
    FailUsage("--dtype '{}'{}; known: {}", dtype, DidYouMean(dtype, kDtypes),
              fmt::join(kDtypes, ", "));
}

Precision ParsePrecision(const std::string& dtype, const std::string& keep) {
  CheckDtype(dtype);
  const std::string chosen = ChooseDtype(dtype).dtype;
  Precision precision;
  if (chosen == "bf16") precision.cell = CellType::kBf16;
  if (chosen == "int8") precision.cell = CellType::kInt8;
  precision.attention = precision.cell != CellType::kF32 && HasCells(CellType::kBf16);
  for (size_t begin = 0; begin < keep.size() + (keep.ends_with('|') ? 1 : 0);) {
    const size_t end = std::min(keep.find('|', begin), keep.size());
    precision.keep.push_back(keep.substr(begin, end - begin));
    begin = end + 1;
  }
  for (const std::string& word : precision.keep)
    if (word.empty())
      FailUsage("--keep '{}': an empty word; expected scopes such as head|norm", keep);
  return precision;
}

ChosenDtype ChooseDtype(const std::string& dtype) {
  if (dtype == "auto") {
    if (HasCells(CellType::kBf16))
      return {"bf16",
              "dtype auto: bf16, which this CPU multiplies twice as fast as f32 (int8 is "
              "faster still and less exact: --dtype int8)"};
    return {"f32", "dtype auto: f32, as this CPU has no instruction for products of bf16"};
  }
  const CellType cell = dtype == "bf16"   ? CellType::kBf16
                        : dtype == "int8" ? CellType::kInt8
                                          : CellType::kF32;
  if (HasCells(cell)) return {dtype, ""};
  return {"f32", "dtype " + dtype +
                     ": f32 instead, as this CPU (or --isa) has no instruction for its products"};
}

std::vector<const char*> ReasonsForF32(const Graph& g, const Precision& precision) {
  std::vector<const char*> reasons(g.num_nodes(), "");
  const LowRules rules(g);
  for (NodeId id : g.TopoOrder())
    if (const Node& n = g.node(id); n.op == &kMatmul)
      if (const char* why = StaysF32(g, n, precision, rules)) reasons[id.i] = why;
  return reasons;
}

Pass LowPrecisionPass(const Precision& precision) {
  return {"low_precision", [precision](Graph& g) { return Lower(g, precision); }};
}

}  // namespace graft
