#include "ops/low_precision.h"

#include <algorithm>
#include <cstdlib>
#include <map>
#include <set>
#include <string_view>

#include "ops/kernel_choice.h"
#include "ops/low_cells.h"
#include "ops/ops.h"
#include "ops/product.h"
#include "runtime/dependence.h"
#include "runtime/lifetimes.h"

namespace graft {
namespace {

const std::vector<std::string> kDtypes{"f32", "bf16", "int8", "auto"};

// A word stands for a part of a scope between dots, a pattern for the whole.
bool Keeps(const std::string& scope, const std::string& word) {
  if (GlobMatch(word, scope)) return true;
  return ("." + scope + ".").find("." + word + ".") != std::string::npos;
}

// The rules of the pass.
struct Rules {
  const Graph& g;
  const Precision& precision;
  std::vector<bool> constant, written;  // DependsOnlyOnParameters; by an update
  bool of_texts = false;                // rows of tables stand for their words
};

bool IsWide(const Extents& sides, int64_t least) { return sides[0] >= least && sides[1] >= least; }

bool IsKept(const Node& n, const Precision& precision) {
  return std::ranges::any_of(precision.keep,
                             [&](const std::string& word) { return Keeps(n.scope, word); });
}

// What a product is computed in, and why in no lower precision if that was asked for.
struct Choice {
  CellType cell = CellType::kF32;
  const char* why = nullptr;
};

// The product that a matmul is, or that the pass has made of one.
const MatmulAttrs& ProductOf(const Node& n) {
  return n.op == &kLowMatmul ? n.attrs.As<LowMatmulAttrs>().product : n.attrs.As<MatmulAttrs>();
}

// Whether what is rounded in this scope goes through nearly all blocks, and moves the logits of a
// model more than elsewhere: the first attention, and of texts the first block and the attention of
// the second (docs/low_precision.md says by how much).
bool ComesEarly(const Rules& r, const std::string& scope) {
  if (GlobMatch("blocks.0.attn.*", scope)) return true;
  return r.of_texts && (GlobMatch("blocks.0.*", scope) || GlobMatch("blocks.1.attn.*", scope));
}

// bf16 stands in for int8 where a sum has too many numbers, and early in the model.
Choice ChoiceOfFrozen(const Rules& r, const Node& n) {
  if (r.precision.cell != CellType::kInt8) return {r.precision.cell};
  if (ComesEarly(r, n.scope)) return {CellType::kBf16, "rounding goes through all blocks"};
  const int64_t k = At(r.g.shape(n.in[1]), {})[ProductOf(n).tb ? 1 : 0];
  if (CellsOf(CellType::kInt8, k) > kMostInt8Cells)
    return {CellType::kBf16, "a sum of more numbers than bytes can add up"};
  return {CellType::kInt8};
}

Choice ChoiceOfAny(const Rules& r, const Node& n) {
  if (n.phase != Phase::kMain) return {.why = "it belongs to the update"};
  if (Keeps(n.scope, "head")) return {.why = "the head stays in f32"};
  if (IsKept(n, r.precision)) return {.why = "--keep names it"};
  if (ProductOf(n).ta) {  // the gradient of a weight, or of what weights are made of
    if (IsWide(At(r.g.shape(n.out[0]), {}), kLeastTrainedSide))
      return {CellType::kBf16, "the gradient of a weight"};
    return {.why = "a gradient with a short side"};
  }
  // The pixels of a flat patch are equal, and so are the errors of rounding them: they add up.
  if (Keeps(n.scope, "patch_embed")) return {.why = "equal pixels would be rounded alike"};
  const Value& weight = r.g.value(n.in[1]);
  if (weight.role != Role::kParam) return {.why = "no operand is a weight"};
  // What the pass itself has made is behind the end, and is not constant.
  if (n.in[0].i < r.constant.size() && r.constant[n.in[0].i])
    return {.why = "made from parameters alone"};
  const bool trains = weight.trainable || r.written[n.in[1].i];
  if (!IsWide(At(weight.type.shape, {}), trains ? kLeastTrainedSide : kLeastLowSide))
    return {.why = trains ? "its weight trains and has a short side"
                          : "a side of the weight is short"};
  return trains ? Choice{CellType::kBf16, "its weight trains"} : ChoiceOfFrozen(r, n);
}

Choice ChoiceFor(const Rules& r, const Node& n) {
  const Choice choice = ChoiceOfAny(r, n);
  if (choice.cell != CellType::kBf16 || r.precision.bf16) return choice;
  return {.why = "it would be bf16, which the CPU does not multiply"};
}

// kF32 where the node stays as it is.
CellType CellOf(const Rules& r, const Node& n) {
  return n.op == &kMatmul ? ChoiceFor(r, n).cell : CellType::kF32;
}

// x W', of which a calibration has seen examples.
bool IsForward(const Node& n) { return n.attrs.As<MatmulAttrs>().tb; }

std::string FactorsName(const std::string& weight) { return weight + ".int8_factors"; }
std::string OffsetName(const std::string& weight) { return weight + ".int8_offset"; }

// What takes the node's place; no operator: nothing.
struct LowForm {
  const OpDef* op = nullptr;
  Attrs attrs = {};
  ValueList in = {};
  std::vector<NodeId> before = {};  // what makes its inputs
};

ValueId SeenParam(Graph& g, const std::string& name, const std::vector<float>& values) {
  const ValueId known = g.FindLeaf(name);
  return known.valid() ? known : g.AddParam(name, {std::ssize(values)});
}

// What calibration has seen of the weight: factors, and an offset in the bias or as one. The sum of
// both depends on frozen parameters alone, so that it is computed once.
void UseSeen(Graph& g, const std::string& weight, const SeenProduct& seen, LowMatmulAttrs* low,
             LowForm* form) {
  if (!seen.bytes.factors.empty()) {
    low->calibrated = true, low->zero = seen.bytes.zero;
    form->in.insert(form->in.begin() + 2, SeenParam(g, FactorsName(weight), seen.bytes.factors));
  }
  const auto makes = [&](ValueId v) {
    form->before.push_back(g.value(v).producer);
    return v;
  };
  ValueId offset = SeenParam(g, OffsetName(weight), seen.offset);
  MatmulAttrs& product = low->product;
  if (product.alpha != 1) offset = makes(Scale(g, offset, product.alpha));
  const auto bias = form->in.begin() + static_cast<ptrdiff_t>(LowBiasAt(*low));
  if (product.bias)
    *bias = makes(Add(g, *bias, offset));
  else
    form->in.insert(bias, offset), product.bias = true;
}

LowForm LowMatmulOf(Graph& g, const Rules& r, const Node& n, CellType cell) {
  LowMatmulAttrs attrs;
  attrs.product = n.attrs.As<MatmulAttrs>();
  attrs.cell = CellName(cell);
  if (attrs.product.act == "gelu") attrs.product.act = "gelu_near";
  LowForm form{&kLowMatmul, {}, n.in};
  const std::string weight = g.value(n.in[1]).name;
  const Calibration* all = r.precision.calibration.get();
  if (all && cell == CellType::kInt8 && IsForward(n) && all->contains(weight))
    UseSeen(g, weight, all->at(weight), &attrs, &form);
  form.attrs = attrs;
  return form;
}

// Made of rounded numbers, so that the last digits of what follows say nothing.
bool IsLow(const Graph& g, ValueId v) {
  const NodeId maker = g.value(v).producer;
  return maker.valid() && g.node(maker).op == &kLowMatmul;
}

LowForm LowFormOf(Graph& g, const Rules& r, const Node& n) {
  if (const CellType cell = CellOf(r, n); cell != CellType::kF32) return LowMatmulOf(g, r, n, cell);
  if (n.op == &kGelu && IsLow(g, n.in[0])) return {&kGeluNear, {}, n.in};
  if (!r.precision.attention || IsKept(n, r.precision)) return {};
  if (n.op == &kAttention) {
    LowAttentionAttrs attrs;
    static_cast<AttentionAttrs&>(attrs) = n.attrs.As<AttentionAttrs>();
    return {&kLowAttention, attrs, n.in};
  }
  if (n.op == &kAttentionGrad) {
    LowAttentionGradAttrs attrs;
    static_cast<AttentionGradAttrs&>(attrs) = n.attrs.As<AttentionGradAttrs>();
    return {&kLowAttentionGrad, attrs, n.in};
  }
  return {};
}

Rules RulesOf(const Graph& g, const Precision& precision) {
  Rules rules{g, precision, DependsOnlyOnParameters(g), std::vector<bool>(g.num_values())};
  for (const Update& u : g.updates) rules.written[u.target.i] = true;
  rules.of_texts = std::ranges::any_of(OrderNodes(g).nodes, [&](NodeId id) {
    return g.node(id).op == &kGatherRows && Keeps(g.node(id).scope, "embed");
  });
  return rules;
}

PassReport Lower(Graph& g, const Precision& precision) {
  PassReport report{"low_precision", 0, g.live_nodes(), 0, 0};
  const Rules rules = RulesOf(g, precision);
  std::vector<NodeId> order;  // that of the old nodes
  for (const NodeId id : OrderNodes(g).nodes) {
    const Node n = g.node(id);
    g.scope = n.scope;
    LowForm form = LowFormOf(g, rules, n);
    if (!form.op) {
      order.push_back(id);
      continue;
    }
    order.insert(order.end(), form.before.begin(), form.before.end());
    const ValueList made = g.Add(*form.op, std::move(form.in), std::move(form.attrs), n.built_at);
    for (size_t i = 0; i < made.size(); ++i) {
      g.SetName(made[i], g.value(n.out[i]).name);
      g.ReplaceUses(n.out[i], made[i]);
    }
    g.EraseNode(id);
    order.push_back(g.value(made[0]).producer);
    ++report.rewrites;
  }
  g.scope.clear();
  if (report.rewrites > 0) g.Renumber(order);
  report.nodes_after = g.live_nodes();
  return report;
}

// Whether the product makes bytes of its rows, by their own ranges.
bool MakesBytes(const Node& n) {
  if (n.op != &kLowMatmul) return false;
  const LowMatmulAttrs& low = n.attrs.As<LowMatmulAttrs>();
  return low.cell == "int8" && !low.calibrated && !low.bytes;
}

// Adds the product that reads the bytes instead of making them.
NodeId ReadBytes(Graph& g, const Node& n, const ValueList& bytes) {
  LowMatmulAttrs low = n.attrs.As<LowMatmulAttrs>();
  low.bytes = true;
  ValueList in = n.in;
  in[0] = bytes[0], in.insert(in.begin() + 2, bytes[1]);
  g.scope = n.scope;
  const ValueList made = g.Add(kLowMatmul, std::move(in), std::move(low), n.built_at);
  for (size_t i = 0; i < made.size(); ++i) {
    g.SetName(made[i], g.value(n.out[i]).name);
    g.ReplaceUses(n.out[i], made[i]);
  }
  return g.value(made[0]).producer;
}

PassReport ShareBytes(Graph& g) {
  PassReport report{"byte_rows", 0, g.live_nodes(), 0, 0};
  std::vector<int> readers(g.num_values());
  std::vector<NodeId> order;
  std::map<uint32_t, ValueList> bytes;  // by the value that they are made of
  const std::vector<NodeId> before = OrderNodes(g).nodes;
  for (NodeId id : before)
    if (MakesBytes(g.node(id))) ++readers[g.node(id).in[0].i];
  for (NodeId id : before) {
    const Node n = g.node(id);
    if (!MakesBytes(n) || readers[n.in[0].i] < 2) {
      order.push_back(id);
      continue;
    }
    ValueList& made = bytes[n.in[0].i];
    if (made.empty()) {
      g.scope = n.scope.substr(0, n.scope.rfind('.'));  // of what holds the products
      made = g.Add(kByteRows, {n.in[0]}, {}, n.built_at);
      order.push_back(g.value(made[0]).producer);
    }
    order.push_back(ReadBytes(g, n, made));
    g.EraseNode(id);
    ++report.rewrites;
  }
  g.scope.clear();
  if (report.rewrites > 0) g.Renumber(order);
  report.nodes_after = g.live_nodes();
  return report;
}

}  // namespace

void CheckDtype(const std::string& dtype, std::string_view option) {
  if (std::ranges::find(kDtypes, dtype) != kDtypes.end()) return;
  std::string small = dtype;
  std::ranges::transform(small, small.begin(), [](unsigned char c) { return std::tolower(c); });
  const bool meant = std::ranges::find(kDtypes, small) != kDtypes.end();
  std::string hint =
      meant ? fmt::format("; did you mean '{}'?", small) : DidYouMean(dtype, kDtypes);
  if (!hint.starts_with("; known")) hint += fmt::format("; known: {}", fmt::join(kDtypes, ", "));
  FailUsage("{} '{}'{}", option, dtype, hint);
}

void CheckKeep(const Graph& g, const Precision& precision) {
  std::set<std::string> scopes;
  for (NodeId id : g.TopoOrder()) scopes.insert(g.node(id).scope);
  for (const std::string& word : precision.keep) {
    if (std::ranges::any_of(scopes, [&](const std::string& s) { return Keeps(s, word); })) continue;
    std::set<std::string> words;
    for (const std::string& scope : scopes)
      words.insert(scope), words.insert(scope.substr(scope.rfind('.') + 1));
    const std::string near = DidYouMean(word, std::vector<std::string>(words.begin(), words.end()));
    FailUsage(
        "--keep: the model has no scope '{}'{}", word,
        near.empty() ? "; hint: graft inspect MODEL --graph text shows scopes behind '#'" : near);
  }
}

Precision ParsePrecision(const std::string& dtype, const std::string& keep) {
  CheckDtype(dtype);
  const std::string chosen = ChooseDtype(dtype).dtype;
  Precision precision;
  if (chosen == "bf16") precision.cell = CellType::kBf16;
  if (chosen == "int8") precision.cell = CellType::kInt8;
  precision.bf16 = HasCells(CellType::kBf16) || EmulatesCells();
  precision.attention = precision.cell != CellType::kF32 && precision.bf16;
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

bool EmulatesCells() {
  const char* set = std::getenv("GRAFT_EMULATE");
  return set && std::string_view(set) == "1";
}

ChosenDtype ChooseDtype(const std::string& dtype) {
  return ChooseDtype(dtype, HasCells(CellType::kBf16), HasCells(CellType::kInt8));
}

ChosenDtype ChooseDtype(const std::string& dtype, bool has_bf16, bool has_int8) {
  if (dtype == "auto") {
    if (has_bf16)
      return {"bf16",
              "dtype auto: bf16, for which this CPU has instructions that are about twice as fast "
              "as those of f32 (int8 is faster still and less exact: --dtype int8)"};
    return {"f32",
            "dtype auto: f32, as this CPU (or --isa) has no instruction for products of bf16"};
  }
  if (dtype == "int8" && has_int8 && !has_bf16 && !EmulatesCells())
    return {dtype,
            "dtype int8: attention, early layers and layers that train, which are bf16 beside it, "
            "are f32, as this CPU (or --isa) has no instruction for bf16"};
  if (dtype == "bf16" ? has_bf16 : dtype != "int8" || has_int8) return {dtype, ""};
  if (EmulatesCells())
    return {dtype, "dtype " + dtype +
                       ": made of other instructions (GRAFT_EMULATE), as this CPU (or --isa) has "
                       "none for its products: as exact, but slow"};
  return {"f32", "dtype " + dtype +
                     ": f32 instead, as this CPU (or --isa) has no instruction for its products "
                     "(GRAFT_EMULATE=1 takes it all the same, slower than f32)"};
}

void AddSeen(const Calibration& calibration, ParamStore& params) {
  for (const auto& [weight, seen] : calibration) {
    params.Set(OffsetName(weight), {std::ssize(seen.offset)}, seen.offset);
    const std::vector<float>& factors = seen.bytes.factors;
    if (!factors.empty()) params.Set(FactorsName(weight), {std::ssize(factors)}, factors);
  }
}

std::vector<ByteProduct> ByteProducts(const Graph& g, const Precision& precision) {
  const Rules rules = RulesOf(g, precision);
  std::vector<ByteProduct> products;
  for (NodeId id : g.TopoOrder()) {
    const Node& n = g.node(id);
    if (CellOf(rules, n) == CellType::kInt8 && IsForward(n)) products.push_back({n.in[0], n.in[1]});
  }
  return products;
}

std::vector<const char*> ReasonsForNoLess(const Graph& g, const Precision& precision) {
  std::vector<const char*> reasons(g.num_nodes(), "");
  const Rules rules = RulesOf(g, precision);
  for (NodeId id : g.TopoOrder()) {
    const Node& n = g.node(id);
    if (n.op == &kMatmul || n.op == &kLowMatmul) {
      const Choice choice = ChoiceFor(rules, n);
      if (choice.why && choice.cell != precision.cell) reasons[id.i] = choice.why;
    } else if (precision.cell == CellType::kInt8 &&
               (n.op == &kLowAttention || n.op == &kLowAttentionGrad)) {
      reasons[id.i] = "no operand is a weight";
    }
  }
  return reasons;
}

Pass LowPrecisionPass(const Precision& precision) {
  return {"low_precision", [precision](Graph& g) { return Lower(g, precision); }};
}

std::string DtypeOfProducts(const Graph& g) {
  bool bf16 = false;
  for (uint32_t i = 0; i < g.num_nodes(); ++i) {
    const Node& n = g.node({i});
    if (n.op == &kLowMatmul && n.attrs.As<LowMatmulAttrs>().cell == CellName(CellType::kInt8))
      return "int8";
    bf16 |= n.op == &kLowMatmul || n.op == &kLowAttention || n.op == &kLowAttentionGrad;
  }
  return bf16 ? "bf16" : "f32";
}

std::string NoneIsIn(const std::string& asked, const std::string& products) {
  if (asked == products) return "";
  return fmt::format("--dtype {}: no product of this model and method is in {}; {}", asked, asked,
                     products == "f32" ? "all are in f32" : "what can be is in " + products);
}

Pass ByteRowsPass() { return {"byte_rows", ShareBytes}; }

}  // namespace graft
