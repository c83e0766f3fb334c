// Black-box tuning (Sun et al. 2022, arXiv 2201.03514): a prompt p [P,D] in a subspace of d
// dimensions, which a search finds by the loss alone (train/black_box.h),
//
//   p = A z,  z [d] trains,  A [P D, d] is fixed, ~ N(0, (std(word table) / (sqrt(d) sigma))^2)
//
//   mode=add: P filler words stand behind [CLS], and p is added to what the embedding makes of them
//   mode=cat: p stands in front of what the embedding makes of the text
//
// As in the authors' code the bias of a masked-LM head is 0, and the head does not train. A is made
// again from the run's seed. With d=0 the rows are stored, with those of the filler words among
// them.
#include <cmath>

#include "ops/ops.h"
#include "peft/methods/methods.h"
#include "peft/parameters.h"
#include "peft/surgery.h"
#include "peft/text_embedding.h"

namespace graft {
namespace {

constexpr int64_t kFirstFiller = 1000;  // of ids of words, the authors' own

// The standard deviation of all numbers of a table.
double Deviation(std::span<const float> table) {
  double sum = 0, squares = 0;
  for (const float v : table) sum += v;
  const double mean = sum / static_cast<double>(table.size());
  for (const float v : table) squares += (v - mean) * (v - mean);
  return std::sqrt(squares / static_cast<double>(table.size()));
}

// What the first block would read for P filler words at positions 1 .. P: ids 1000 .. 999 + P or,
// in a smaller vocabulary, the last P ids.
ValueId FillerRows(const MethodArgs& a, const TextEmbedding& e, ValueId first, int64_t count) {
  Graph& g = a.g;
  const int64_t vocabulary = g.shape(e.words)[0].constant;
  if (count > vocabulary)
    FailUsage("option 'tokens' = {}: the model has {} words", count, vocabulary);
  const int64_t begin = std::min(kFirstFiller, vocabulary - count);
  g.scope = "prompt";
  const ValueId sum = Add(g, Add(g, SliceRows(g, e.words, begin, count), FirstType(g, e)),
                          SliceRows(g, e.positions, 1, count));
  return CloneWith(g, first, {{e.sum, sum}}, CloneAs::kParameters);
}

// Gives the tokens of the text the positions 0, P + 1, P + 2, ...
void MovePositions(const MethodArgs& a, const TextEmbedding& e, int64_t count) {
  Graph& g = a.g;
  const int64_t positions = g.shape(e.positions)[0].constant;
  if (count + 2 > positions)
    FailUsage("option 'tokens' = {}: the model has {} positions", count, positions);
  const UserList users = g.users(e.positions);
  const ValueId behind = SliceRows(g, e.positions, count + 1, positions - count - 1);
  const ValueId moved = ConcatRows(g, SliceRows(g, e.positions, 0, 1), behind);
  g.SetName(moved, "bbt.positions");
  g.ReplaceUsesIn(e.positions, moved, users);
}

// A z as rows [P,D].
ValueId Projected(const MethodArgs& a, int64_t count, int64_t width, int64_t d) {
  Graph& g = a.g;
  const double sigma = a.Number("sigma", 1e-6, 1e6);
  g.scope = "prompt";
  const auto start = [&a, d, sigma](std::span<float> values, const Extents& shape,
                                    const StreamKey& key) {
    const double deviation = Deviation(a.params.Get("embed.word.weight").values());
    Normals(0, deviation / (std::sqrt(static_cast<double>(d)) * sigma))(values, shape, key);
  };
  const ValueId z = NewParam(a, "bbt.z", {1, d}, Zeros());
  const ValueId projection = NewParam(a, "bbt.projection", {count * width, d}, start);
  g.SetTrainable(projection, false);
  return SplitHeads(g, Linear(g, z, projection, {}), count);
}

void ZeroHeadBias(Graph& g) {
  const ValueId bias = g.FindLeaf("mlm.bias");
  if (!bias.valid()) return;
  const UserList users = g.users(bias);
  g.scope = "mlm";
  g.ReplaceUsesIn(bias, Scale(g, bias, 0), users);
}

PassReport ApplyBbt(const MethodArgs& a) {
  PassReport report = StartReport(a, "bbt");
  Graph& g = a.g;
  const std::string scope = g.scope;
  a.Choice("head", {"frozen"});
  const bool add = a.Choice("mode", {"add", "cat"}) == "add";
  const int64_t count = a.Int("tokens", 1, 4096), d = a.Int("d", 0, 4096), at = add ? 1 : 0;
  const TextEmbedding e = FindTextEmbedding(g, "bbt");
  const std::vector<BlockSite> blocks = FindBlocks(g);
  const ValueId first = blocks[0].input;
  const int64_t width = g.shape(first)[1].constant;
  g.scope = "prompt";
  if (add) MovePositions(a, e, count);
  ValueId rows;
  if (d == 0) {
    rows = NewParam(a, "bbt.prompt", {count, width}, Zeros());
  } else {
    rows = Projected(a, count, width, d);
    if (add) rows = Add(g, FillerRows(a, e, first, count), rows);
    g.SetName(rows, "bbt.prompt");  // what it is called once it is stored
  }
  g.scope = "prompt";
  const ValueId offsets = g.node(blocks[0].attention).in[3];
  const ValueId longer = LongerOffsets(g, offsets, count);
  const ValueId with = InsertTokens(g, first, rows, offsets, at);
  GiveRest(g, blocks.back().output, RunLonger(g, blocks, {{first, with}}, longer), longer, at,
           count);
  ZeroHeadBias(g);
  g.scope = scope;
  report.rewrites = 1;
  return FinishReport(a, report);
}

}  // namespace

const MethodRecord kBbtMethod{
    .name = "bbt",
    .summary = "a prompt found by an evolution strategy, without gradients (Sun et al. 2022)",
    .equation = "h0 = [p; h0] or, of filler words, h0 + p, p = A z",
    .formula = "d; stored: P D",
    .source = "Sun et al. 2022, arXiv 2201.03514",
    .options =
        +[] {
          return std::vector<MethodOption>{
              {"tokens", "50", "P, rows"},
              {"d", "500", "numbers that are searched; 0: the rows are stored"},
              {"mode", "add", "add to filler words behind [CLS], or cat: in front of the text"},
              {"sigma", "1", "first step size of the search"},
              {"population", "20", "candidates in each generation"},
              {"budget", "8000", "candidates in all"},
              {"head", "frozen", "does not train"}};
        },
    .apply = ApplyBbt,
    .count =
        +[](const MethodArgs& a) {
          const int64_t d = a.Int("d", 0, 4096);
          return d > 0 ? d : a.Int("tokens", 1, 4096) * ShapeOf(a.g).width;
        },
    .folds = Folds::kPart,
    .why = "the projection goes; the rows stay, as every block reads them",
    .learning_rate = 1e-2,
    .reduced =
        +[](const MethodTerm& term) {
          MethodTerm stored = term;
          stored.options["d"] = "0";
          return stored;
        },
    .phase = MethodPhase::kTokens,
    .positions =
        +[](const MethodArgs& a) {
          return a.Choice("mode", {"add", "cat"}) == "add" ? a.Int("tokens", 1, 4096) : 0;
        },
    .searched = true};

}  // namespace graft
