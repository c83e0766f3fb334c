// Prompt tuning (Lester et al. 2021, arXiv 2104.08691): P trained rows p in front of the word
// embeddings of every text, as in Hugging Face's peft for BERT:
//
//   words = [p; word(ids)], positions 0 .. P+T-1, type 0 for p; then the embedding's norm
//
//   pool=token: the head reads the class token, wherever it stands; pool=first: the first row
//   (peft's own, a row of p)
//
// In a ViT: P tokens behind the class token, as vpt.
#include <cmath>

#include "ops/ops.h"
#include "peft/methods/methods.h"
#include "peft/parameters.h"
#include "peft/surgery.h"

namespace graft {
namespace {

// The one gather of rows of the table of that name.
NodeId Lookup(const Graph& g, const char* table) {
  const ValueId v = g.FindLeaf(table);
  if (v.valid())
    for (NodeId user : g.users(v))
      if (g.node(user).op == &kGatherRows && g.node(user).in[0] == v) return user;
  FailUsage("'prompt' needs a text model with a table '{}'", table);
}

Init PromptStart(const MethodArgs& a) {
  const std::string init = a.Choice("init", {"random", "vocab"});
  if (init == "random") return Uniforms(0.5);
  // Rows of the 5,000 first words, no word twice.
  return [&params = a.params](std::span<float> values, const Extents& shape, const StreamKey& key) {
    const ParamStore::Entry words = params.Get("embed.word.weight");
    const int64_t width = shape.cols(), count = shape.rows();
    const int64_t vocabulary = std::min<int64_t>(5000, words.shape[0]);
    if (count > vocabulary)
      FailUsage("init=vocab: {} tokens of a vocabulary of {}", count, vocabulary);
    std::vector<int64_t> order(static_cast<size_t>(vocabulary));
    for (int64_t i = 0; i < vocabulary; ++i) order[static_cast<size_t>(i)] = i;
    for (int64_t i = 0; i < count; ++i) {  // Fisher and Yates, as far as it is needed
      const double left = static_cast<double>(vocabulary - i);
      const double drawn = std::floor(left * Uniform(key, static_cast<uint64_t>(i)));
      const int64_t k = i + std::min(static_cast<int64_t>(drawn), vocabulary - i - 1);
      std::swap(order[static_cast<size_t>(i)], order[static_cast<size_t>(k)]);
      std::copy_n(words.values().begin() + order[static_cast<size_t>(i)] * width, width,
                  values.begin() + i * width);
    }
  };
}

ValueId PromptTokens(const MethodArgs& a, int64_t width) {
  return NewParam(a, "prompt.tokens", {a.Int("tokens", 1, 4096), width}, PromptStart(a));
}

// The embedding's sum over longer texts.
ValueId LongerSum(const MethodArgs& a, ValueId offsets, ValueId longer) {
  Graph& g = a.g;
  const Node words = g.node(Lookup(g, "embed.word.weight")),
             types = g.node(Lookup(g, "embed.type.weight")),
             places = g.node(Lookup(g, "embed.position.weight"));
  const int64_t width = g.shape(words.out[0])[1].constant;
  const ValueId prompt = PromptTokens(a, width);
  const int64_t count = g.shape(prompt)[0].constant;
  g.scope = "embed.word";
  const ValueId w = InsertTokens(g, words.out[0], prompt, offsets, 0);
  g.scope = "embed.type";
  const ValueId first = SliceRows(g, types.in[0], 0, 1);
  ValueId rows = first;
  for (int64_t i = 1; i < count; ++i) rows = ConcatRows(g, rows, first);
  const ValueId t = InsertTokens(g, types.out[0], rows, offsets, 0);
  g.scope = "embed.position";
  return AddPositions(g, Add(g, w, t), places.in[0], longer);
}

void InsertWords(const MethodArgs& a) {
  Graph& g = a.g;
  const std::vector<BlockSite> blocks = FindBlocks(g);
  const ValueId offsets = g.FindLeaf("offsets");
  const Node places = g.node(Lookup(g, "embed.position.weight"));
  const int64_t count = a.Int("tokens", 1, 4096);
  if (g.users(places.out[0]).size() != 1) FailUsage("'prompt' finds other uses of the positions");
  const ValueId sum = g.node(g.users(places.out[0])[0]).out[0];
  const ValueId last = blocks.back().output;
  const std::vector<NodeId> users = g.users(last);
  const ValueId longer = LongerOffsets(g, offsets, count);
  const ValueId x = CloneWith(g, last, {{sum, LongerSum(a, offsets, longer)}, {offsets, longer}},
                              CloneAs::kRows);
  g.scope = "prompt";
  if (a.Choice("pool", {"token", "first"}) == "token") {
    const ValueId out = DropTokens(g, x, longer, 0, count);
    g.ReplaceUsesIn(last, out, users);
    g.ReplaceResult(last, out);
    return;
  }
  // What pools reads the longer texts.
  for (NodeId user : users) {
    const Node n = g.node(user);
    g.scope = n.scope;
    ValueId pooled;
    const NodeId index = n.in.size() > 1 ? g.value(n.in[1]).producer : NodeId{};
    if (n.op == &kGatherRows && index.valid() && g.node(index).op == &kFirstRows)
      pooled = GatherRows(g, x, graft::FirstRows(g, longer));
    else if (n.op == &kSegmentMean)
      pooled = g.Add1(kSegmentMean, {x, longer}, n.attrs);
    else
      FailUsage("pool=first: '{}' does not pool", n.scope);
    g.SetName(pooled, g.value(n.out[0]).name);
    g.ReplaceUses(n.out[0], pooled);
  }
}

void InsertIntoImages(const MethodArgs& a) {
  if (a.Text("init") != "random" || a.Text("pool") != "token")
    FailUsage("options 'init' and 'pool' are for texts");
  Graph& g = a.g;
  const std::vector<BlockSite> blocks = FindBlocks(g);
  const ValueId first = blocks[0].input, last = blocks.back().output;
  const ValueId offsets = g.node(blocks[0].attention).in[3];
  const std::vector<NodeId> users = g.users(last);
  g.scope = "prompt";
  const ValueId tokens = PromptTokens(a, g.shape(first)[1].constant);
  const int64_t count = g.shape(tokens)[0].constant;
  const ValueId longer = LongerOffsets(g, offsets, count);
  const ValueId x = CloneWith(
      g, last, {{first, InsertTokens(g, first, tokens, offsets, 0)}, {offsets, longer}},
      CloneAs::kRows);
  const ValueId out = DropTokens(g, x, longer, 0, count);
  g.ReplaceUsesIn(last, out, users);
  g.ReplaceResult(last, out);
}

PassReport ApplyPrompt(const MethodArgs& a) {
  PassReport report = StartReport(a, "prompt");
  const std::string scope = a.g.scope;
  if (a.g.FindLeaf("ids").valid())
    InsertWords(a);
  else
    InsertIntoImages(a);
  a.g.scope = scope;
  report.rewrites = 1;
  return FinishReport(a, report);
}

}  // namespace

const MethodRecord kPromptMethod{
    .name = "prompt",
    .summary = "trained rows in front of the words (Lester et al. 2021)",
    .equation = "x0 = embed([p; words])",
    .formula = "P D",
    .source = "Lester et al. 2021, arXiv 2104.08691",
    .options =
        +[] {
          return std::vector<MethodOption>{
              {"tokens", "20", "P, rows"},
              {"init", "random", "random, or vocab: rows of the 5,000 first words"},
              {"pool", "token", "the head reads the class token, or the first row (peft's)"}};
        },
    .apply = ApplyPrompt,
    .count =
        +[](const MethodArgs& a) { return a.Int("tokens", 1, 4096) * ShapeOf(a.g).width; },
    .folds = Folds::kNo,
    .why = "the rows are read by every block and change with the text",
    .learning_rate = 3e-2,
    .phase = MethodPhase::kTokens,
    .positions = +[](const MethodArgs& a) { return a.Int("tokens", 1, 4096); }};

}  // namespace graft
