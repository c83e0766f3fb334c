// Prompt tuning (Lester et al. 2021, arXiv 2104.08691): P trained rows p in front of the word
// embeddings of every text, as in Hugging Face's peft for BERT:
//
//   words = [p; word(ids)], positions 0 .. P+T-1, type 0 for p; then the embedding's norm
//
//   pool=token: the head reads the class token, wherever it stands; pool=first: the first row
//   (peft's own, a row of p)
//
// In a ViT: P tokens behind the class token, as vpt.
#include <charconv>
#include <cmath>

#include "ops/ops.h"
#include "peft/methods/methods.h"
#include "peft/parameters.h"
#include "peft/surgery.h"
#include "peft/text_embedding.h"

namespace graft {
namespace {

// Draws rows of the first 5,000 words, none of them twice.
void DrawWords(const ParamStore::Entry& words, std::span<float> values, const Extents& shape,
               const StreamKey& key) {
  const int64_t width = shape.cols(), count = shape.rows();
  const int64_t vocabulary = std::min<int64_t>(5000, words.shape[0]);
  if (count > vocabulary)
    FailUsage("init=vocab: {} tokens of a vocabulary of {}", count, vocabulary);
  std::vector<int64_t> order(vocabulary);
  for (int64_t i = 0; i < vocabulary; ++i) order[i] = i;
  for (int64_t i = 0; i < count; ++i) {  // Fisher and Yates, as far as it is needed
    const double left = static_cast<double>(vocabulary - i);
    const double drawn = std::floor(left * Uniform(key, static_cast<uint64_t>(i)));
    const int64_t k = i + std::min(static_cast<int64_t>(drawn), vocabulary - i - 1);
    std::swap(order[i], order[k]);
    std::copy_n(words.values().begin() + order[i] * width, width, values.begin() + i * width);
  }
}

// Takes the rows of these words, beginning again with the first where there are too few.
void RepeatWords(const ParamStore::Entry& words, const std::vector<std::string>& ids,
                 std::span<float> values, int64_t width) {
  for (size_t row = 0; row * width < values.size(); ++row) {
    const std::string& text = ids[row % ids.size()];
    int64_t id = -1;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), id);
    if (error != std::errc() || end != text.data() + text.size() || id < 0 || id >= words.shape[0])
      FailUsage("option 'ids': expected ids below {}, found '{}'", words.shape[0], text);
    std::copy_n(words.values().begin() + id * width, width, values.begin() + row * width);
  }
}

// Takes the prompt that a run has trained.
void CopyPrompt(const MethodArgs& a, std::span<float> values, const Extents& shape) {
  const std::string& run = a.Text("init");
  if (!a.context.run_weights)
    FailUsage("option 'init' = '{}': known are random, vocab and text; no runs can be opened here",
              run);
  const ParamStore weights = a.context.run_weights(run, a.Text("sha256"));
  const ParamStore::Entry* prompt = weights.Find("prompt.tokens");
  if (!prompt) Fail("{}: trained no prompt; hint: a run with --method prompt", run);
  if (prompt->shape != shape)
    Fail("{}: its prompt has {} rows of {}, expected {} of {}; hint: tokens={}", run,
         prompt->shape[0], prompt->shape[1], shape[0], shape[1], prompt->shape[0]);
  std::ranges::copy(prompt->values(), values.begin());
}

Init PromptStart(const MethodArgs& a) {
  const std::string& init = a.Text("init");
  if (init == "random") return Uniforms(0.5);
  return [&a, &init](std::span<float> values, const Extents& shape, const StreamKey& key) {
    if (a.context.reopened) return;
    if (init != "vocab" && init != "text") return CopyPrompt(a, values, shape);
    const ParamStore::Entry words = a.params.Get("embed.word.weight");
    if (init == "vocab") return DrawWords(words, values, shape, key);
    if (a.Text("text").empty()) FailUsage("init=text: expected words as option 'text'");
    if (a.Text("ids").empty())
      FailUsage("init=text: only graft train tokenizes the words; init=random has the same tokens");
    RepeatWords(words, a.List("ids"), values, shape.cols());
  };
}

ValueId PromptTokens(const MethodArgs& a, int64_t width) {
  return NewParam(a, "prompt.tokens", {a.Int("tokens", 1, 4096), width}, PromptStart(a));
}

void InsertWords(const MethodArgs& a) {
  Graph& g = a.g;
  const std::vector<BlockSite> blocks = FindBlocks(g);
  const TextEmbedding embedding = FindTextEmbedding(g, "prompt");
  const ValueId last = blocks.back().output;
  const UserList users = g.users(last);
  g.scope = "embed.word";
  const ValueId prompt = PromptTokens(a, g.shape(embedding.sum)[1].constant);
  const int64_t count = g.shape(prompt)[0].constant;
  g.scope = "prompt";
  const ValueId longer = LongerOffsets(g, g.FindLeaf("offsets"), count);
  const ValueId sum = LongerSum(g, embedding, prompt, longer, 0);
  const ValueId x = RunLonger(g, blocks, {{embedding.sum, sum}}, longer);
  if (a.Choice("pool", {"token", "first"}) == "token")
    return GiveRest(g, last, x, longer, 0, count);
  // Nodes that pool read the longer texts.
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
  const ValueId first = blocks[0].input;
  const ValueId offsets = g.node(blocks[0].attention).in[3];
  g.scope = "prompt";
  const ValueId tokens = PromptTokens(a, g.shape(first)[1].constant);
  const int64_t count = g.shape(tokens)[0].constant;
  const ValueId longer = LongerOffsets(g, offsets, count);
  const ValueId with = InsertTokens(g, first, tokens, offsets, 0);
  GiveRest(g, blocks.back().output, RunLonger(g, blocks, {{first, with}}, longer), longer, 0,
           count);
}

PassReport ApplyPrompt(const MethodArgs& a) {
  PassReport report = StartReport(a, "prompt");
  const std::string scope = a.g.scope;
  if (!a.Text("text").empty() && a.Text("init") != "text")
    FailUsage("option 'text' = '{}' goes with init=text, found init={}", a.Text("text"),
              a.Text("init"));
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
              {"init", "random",
               "random; vocab: rows of the 5,000 first words; text; or RUN, whose prompt goes on"},
              {"text", "", "of init=text: words, which are repeated or cut to P tokens"},
              {"pool", "token", "the head reads the class token, or the first row (peft's)"},
              {"ids", "", "of the text's tokens; filled in when training begins"},
              {"sha256", "", "of the run's checkpoint; filled in when training begins"}};
        },
    .apply = ApplyPrompt,
    .count = +[](const MethodArgs& a) { return a.Int("tokens", 1, 4096) * ShapeOf(a.g).width; },
    .folds = Folds::kNo,
    .why = "the rows are read by every block and change with the text",
    .learning_rate = 3e-2,
    .phase = MethodPhase::kTokens,
    .positions = +[](const MethodArgs& a) { return a.Int("tokens", 1, 4096); },
    .peft = "PROMPT_TUNING, of texts with pool=first; also read from P_TUNING"};

}  // namespace graft
