// Trained keys and values for every attention, which all queries see:
//
//   attention(q, k, v)  ->  attention(q, [K_l; k], [V_l; v])
//
//   prefix (Li and Liang 2021, arXiv 2101.00190): made by one MLP,
//     [K_1 V_1 ... K_L V_L] = tanh(E W' + b) U' + c,  E [P,D] ~ N(0,1), W [mid,D], U [2LD,mid]
//     which reads parameters only and is gone after training; with mlp=0 stored directly
//   ptuning2 (Liu et al. 2022, arXiv 2110.07602): stored directly, ~ N(0, 0.02^2)
#include "peft/methods/prefix.h"

#include "ops/ops.h"
#include "peft/methods/methods.h"
#include "peft/surgery.h"

namespace graft {
namespace {

struct KeysAndValues {
  ValueId keys, values;  // [P,D]
};

// Joins the keys and values to an attention; under dropout every sequence has its own mask.
void JoinPrefix(const MethodArgs& a, NodeId attention, const KeysAndValues& kv, double dropout) {
  if (dropout <= 0) return AddKeys(a.g, attention, kv.keys, kv.values);
  Graph& g = a.g;
  const Node n = g.node(attention);
  const std::string before = g.scope;
  g.scope = n.scope;
  const ValueId offsets = n.in[4];
  const int64_t count = g.shape(kv.keys)[0].constant;
  const auto longer = [&](ValueId rows, ValueId tokens, const char* stream) {
    return InsertDropped(a, rows, tokens, offsets, 0, n.scope + stream, dropout);
  };
  g.SetInput(attention, 1, longer(n.in[1], kv.keys, ".prefix_k.dropout"));
  g.SetInput(attention, 2, longer(n.in[2], kv.values, ".prefix_v.dropout"));
  g.SetInput(attention, 4, LongerOffsets(g, offsets, count));
  g.scope = before;
}

int64_t Width(const Graph& g, const BlockSite& block) {
  return g.shape(g.node(block.attention).out[0])[1].constant;
}

// Makes the rows [P, 2LD]: layer by layer its keys, then its values.
ValueId MlpRows(const MethodArgs& a, int64_t tokens, int64_t mid, int64_t width, int64_t all) {
  Graph& g = a.g;
  const std::string before = g.scope;
  g.scope = "prefix";
  const ValueId e = NewParam(a, "prefix.tokens", {tokens, width}, Normals(0, 1));
  const ValueId w = NewParam(a, "prefix.down.weight", {mid, width}, KaimingUniform());
  const ValueId b = NewParam(a, "prefix.down.bias", {mid}, BiasUniform(width));
  const ValueId u = NewParam(a, "prefix.up.weight", {all, mid}, KaimingUniform());
  const ValueId c = NewParam(a, "prefix.up.bias", {all}, BiasUniform(mid));
  const ValueId rows = Linear(g, g.Add1(kTanh, {Linear(g, e, w, b)}), u, c);
  g.scope = before;
  return rows;
}

// Gives tokens positions from `by` on: their rows of the table are those behind the first `by`.
void ShiftPositions(const MethodArgs& a, int64_t by) {
  Graph& g = a.g;
  const ValueId table = g.FindLeaf("embed.position.weight");
  if (!table.valid()) FailUsage("option 'shift' is for texts, whose positions are numbered");
  const int64_t rows = g.shape(table)[0].constant;
  if (by >= rows) FailUsage("option 'tokens' = {}: the model has {} positions in all", by, rows);
  const UserList users = g.users(table);
  for (NodeId user : users)
    if (g.node(user).scope == "embed.position" && g.node(user).op == &kSliceRows)
      FailUsage("option 'shift': another term has moved the positions already");
  const std::string before = g.scope;
  g.scope = "embed.position";
  g.ReplaceUsesIn(table, SliceRows(g, table, by, rows - by), users);
  g.scope = before;
}

PassReport ApplyPtuning2(const MethodArgs& a) {
  PassReport report = StartReport(a, "ptuning2");
  const int64_t tokens = a.Int("tokens", 1, 4096);
  if (a.Flag("shift")) ShiftPositions(a, tokens);
  report.rewrites = AddStoredKeys(a, tokens, "ptuning2", Normals(0, 0.02), 0);
  return FinishReport(a, report);
}

}  // namespace

int AddStoredKeys(const MethodArgs& a, int64_t tokens, const std::string& method, const Init& init,
                  double dropout) {
  int count = 0;
  for (const BlockSite& block : FindBlocks(a.g)) {
    const std::string name = fmt::format("blocks.{}.attn.{}_", block.number, method);
    const Extents shape{tokens, Width(a.g, block)};
    const KeysAndValues kv{NewParam(a, name + "k", shape, init),
                           NewParam(a, name + "v", shape, init)};
    JoinPrefix(a, block.attention, kv, dropout);
    ++count;
  }
  return count;
}

int AddPrefix(const MethodArgs& a) {
  const int64_t tokens = a.Int("tokens", 1, 4096), mid = a.Int("mlp", 0, 65536);
  const double dropout = a.options.contains("dropout") ? a.Number("dropout", 0, 0.999999) : 0;
  if (mid == 0) return AddStoredKeys(a, tokens, "prefix", Normals(0, 1), dropout);
  const std::vector<BlockSite> blocks = FindBlocks(a.g);
  const int64_t width = Width(a.g, blocks[0]);
  const int64_t columns = 2 * width * std::ssize(blocks);
  const ValueId rows = MlpRows(a, tokens, mid, width, columns);
  int64_t at = 0;
  const std::string before = a.g.scope;
  for (const BlockSite& block : blocks) {
    a.g.scope = a.g.node(block.attention).scope;
    const auto part = [&](const char* which) {
      const ValueId v = SliceCols(a.g, rows, at, width);
      a.g.SetName(v, a.g.scope + ".prefix_" + which);  // what it is called once it is stored
      at += width;
      return v;
    };
    const ValueId keys = part("k");
    JoinPrefix(a, block.attention, {keys, part("v")}, dropout);
  }
  a.g.scope = before;
  return static_cast<int>(blocks.size());
}

int64_t PositionsOfShift(const MethodArgs& a) {
  return a.Flag("shift") ? a.Int("tokens", 1, 4096) : 0;
}

int64_t PrefixCount(const MethodArgs& a) {
  const HostShape h = ShapeOf(a.g);
  const int64_t tokens = a.Int("tokens", 1, 4096), mid = a.Int("mlp", 0, 65536);
  const int64_t all = 2 * h.depth * h.width;
  return mid == 0 ? tokens * all : tokens * h.width + (h.width + 1) * mid + (mid + 1) * all;
}

const MethodRecord kPrefixMethod{
    .name = "prefix",
    .summary = "trained keys and values for every attention (Li and Liang 2021)",
    .equation = "attention(q, [K_l; k], [V_l; v]), [K V ...] = tanh(E W' + b) U' + c",
    .formula = "P D + (D + 1) mlp + (mlp + 1) 2 L D; stored, and with mlp=0: 2 L P D",
    .source = "Li and Liang 2021, arXiv 2101.00190",
    .options =
        +[] {
          return std::vector<MethodOption>{
              {"tokens", "20", "P, keys and values for each attention"},
              {"mlp", "512", "width of the MLP that makes them in training; 0: none"},
              {"dropout", "0", "probability on them"},
              {"shift", "false", "tokens have positions from P on, as in ptuning2 and in peft"}};
        },
    .apply =
        +[](const MethodArgs& a) {
          PassReport report = StartReport(a, "prefix");
          if (a.Flag("shift")) ShiftPositions(a, a.Int("tokens", 1, 4096));
          report.rewrites = AddPrefix(a);
          return FinishReport(a, report);
        },
    .count = PrefixCount,
    .folds = Folds::kPart,
    .why = "the MLP goes; keys and values stay, as every query weighs them anew",
    .learning_rate = 3e-4,
    .reduced =
        +[](const MethodTerm& term) {
          MethodTerm stored = term;
          stored.options["mlp"] = "0";
          return stored;
        },
    .phase = MethodPhase::kTokens,
    .positions = PositionsOfShift,
    .peft = "PREFIX_TUNING, of texts with shift=true"};

const MethodRecord kPtuning2Method{
    .name = "ptuning2",
    .summary = "trained keys and values for every attention, stored directly (Liu et al. 2022)",
    .equation = "attention(q, [K_l; k], [V_l; v])",
    .formula = "2 L P D",
    .source = "Liu et al. 2022, arXiv 2110.07602",
    .options =
        +[] {
          return std::vector<MethodOption>{
              {"tokens", "20", "P, keys and values for each attention"},
              {"shift", "false", "tokens have positions from P on, as in the authors' code"}};
        },
    .apply = ApplyPtuning2,
    .count =
        +[](const MethodArgs& a) {
          const HostShape h = ShapeOf(a.g);
          return 2 * h.depth * h.width * a.Int("tokens", 1, 4096);
        },
    .folds = Folds::kNo,
    .why = "keys and values stay, as every query weighs them anew",
    .learning_rate = 1.5e-2,
    .phase = MethodPhase::kTokens,
    .positions = PositionsOfShift,
    .peft = "PREFIX_TUNING, of texts with shift=true"};

}  // namespace graft
