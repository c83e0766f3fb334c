// BERT encoders (Devlin et al. 2019, arXiv 1810.04805) as graphs over rows without padding.
#pragma once
#include "models/task.h"
#include "runtime/graph.h"
#include "runtime/params.h"

namespace graft {

struct BertConfig {
  int64_t vocab = 30522, positions = 512, types = 2;  // rows of the embedding tables
  int64_t width = 768, depth = 12, heads = 12, mlp_width = 3072, classes = 2;
  double eps = 1e-12;              // of every layer norm
  std::string activation = "erf";  // erf | tanh | relu
  // What the classifier reads. "pooler": tanh of a dense layer on the first row. "cls": the first
  // row. "mean": the mean of all rows.
  std::string pool = "pooler";
  // The rates that the model was trained with. They are kept for its config.json; a graph drops by
  // the rates of BertBuild alone.
  double hidden_dropout = 0.1, attention_dropout = 0.1, classifier_dropout = 0.1;
  // What a task puts in the classifier's place (models/files/masked_lm.h); no file states it: a
  // masked-LM head that reads so many rows of each text, and its label words, as in BertBuild.
  int64_t mask_rows = 0;
  std::string label_words = {};
  std::string task = kClassify;  // what the classifier's logits say (task.h)
  bool operator==(const BertConfig&) const = default;
  static void Visit(auto& self, auto&& f) {
    f("vocab", self.vocab), f("positions", self.positions), f("types", self.types);
    f("width", self.width), f("depth", self.depth), f("heads", self.heads);
    f("mlp_width", self.mlp_width), f("classes", self.classes), f("eps", self.eps);
    f("activation", self.activation), f("pool", self.pool);
    f("hidden_dropout", self.hidden_dropout), f("attention_dropout", self.attention_dropout);
    f("classifier_dropout", self.classifier_dropout);
  }
};

// Throws Error for sizes that do not fit each other.
void CheckConfig(const BertConfig& config, const std::string& where);

// kClassifier gives logits [S,classes]; kMaskedLm gives logits [rows,vocab], decoded with the word
// embeddings; kNone gives the encoder's own results, hidden [T,D] and pooled [S,D].
enum class BertHead { kClassifier, kMaskedLm, kNone };

// What a graph is built for. Dropout needs the input "rng" (see ops.h, Dropout). It is applied
// where transformers applies it: after the embeddings, on both branches of a block before the
// residual sum, and before the classifier.
struct BertBuild {
  BertHead head = BertHead::kClassifier;
  // Adds the output "losses" and the input of TaskLosses: "labels", one for each row of logits, or
  // "targets".
  bool loss = false;
  double label_smoothing = 0;
  int64_t mask_rows = 0;  // masked_lm: so many rows per sequence, by the input "rows"; 0 = all rows
  // With kMaskedLm, groups of words (MeanRowsAttrs) such as "2307,2204|6659": logits [rows,K] then
  // hold for each group the mean of its words' logits. "" gives the logits of all words.
  std::string label_words = {};
  bool loss_weights = false;  // a loss is multiplied by its row of the input "weights"
  double hidden_dropout = 0, classifier_dropout = 0;
  // Attention never stores its probabilities and so cannot drop any of them. A rate other than 0 is
  // an Error, so that nobody trains without a dropout that was asked for.
  double attention_dropout = 0;
  int64_t seed = 0;  // of the dropout streams
};

// Inputs, for S sequences of T tokens in all: ids, type_ids, positions i32 [T]; offsets i32 [1+S];
// labels or targets; rows i32 [S*mask_rows], indices into the T rows, mask_rows for each sequence
// in turn; weights f32 [rows of logits,1]. Parameters have canonical names, all frozen:
//   embed.{word,position,type}.weight, embed.norm.{weight,bias},
//   blocks.N.attn.{q,k,v,o}.{weight,bias}, blocks.N.{norm1,norm2}.{weight,bias},
//   blocks.N.mlp.{fc1,fc2}.{weight,bias}, pooler.{weight,bias}, head.{weight,bias},
//   mlm.dense.{weight,bias}, mlm.norm.{weight,bias}, mlm.bias [vocab].
// In a masked-LM head with label words the decoder's rows are called mlm.words.{weight,bias}. Edges
// are named for methods, in block N: blocks.N.{h0, c, o, h1, h, g, u, h2} (transformer.h; the h0 of
// a later block is the h2 before it), and o_dropped, u_dropped where a branch has dropout.
Graph BuildBert(const BertConfig& config, const BertBuild& build = {});

// Gives seeded initial values (InitMissing, transformer.h) to what is missing of the encoder,
// pooler and classifier. The row of [PAD] is zero, as in transformers.
void InitBert(const BertConfig& config, ParamStore& params, uint64_t seed);

// A batch as the graph reads it. Kernels trust these numbers, so CheckTokens comes first.
struct TokenRows {
  std::span<const int32_t> ids, type_ids, positions;  // [T]
  std::span<const int32_t> offsets;                   // [1+S], from 0 to T
};
// Throws Error for sizes that differ, a number outside its table, or offsets that go back.
void CheckTokens(const BertConfig& config, const TokenRows& tokens);

// The models bert_{tiny,mini,small,medium,base,large} and minilm_{l6,l12}. Throws Error with the
// nearest name.
BertConfig BertByName(const std::string& name);
std::vector<std::string> BertNames();

}  // namespace graft
