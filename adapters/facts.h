// What an adapter says of itself beside its tensors: everything that puts them on the same base
// again.
#pragma once
#include "models/files/checkpoint.h"

namespace graft {

// The bounds of max_length.
inline constexpr int64_t kLeastMaxLength = 8, kMostMaxLength = 1 << 20;

inline constexpr const char *kSingleTexts = "single", *kTextPairs = "pairs";

struct AdapterFacts {
  std::string model, arch;          // the base: a path or init:ARCH, and --arch or ""
  std::string base_sha256;          // of the base (base_hash.h); "" for init: or not known yet
  std::string method = "lora";      // "" for a plain model
  std::string task = kClassify;     // what the head's logits say (models/task.h)
  std::vector<std::string> labels;  // names of classes or, of a regression, columns, in order
  std::string preprocess;           // of images, full text form
  std::string preprocess_source;    // what stated it, for people; not stored
  std::string tokenizer;            // of texts; "" = the model's own
  std::string pool;                 // of a BERT, as BertConfig; "" = the model's own
  std::string head;                 // "" = a classifier; mlm = a masked-LM head with
  std::string prompt, words;        // this template and label words (models/text/prompt.h)
  std::string objective;            // "" = labels; of plain texts: mlm = words that are masked,
  bool whole_words = false;         // only whole ones; nsp, nss = sentences (sentence_tasks.h)
  std::string texts;                // kSingleTexts or kTextPairs were learnt; "" = not known
  std::string tokenizer_sha256;     // TokenizerIdentity of what was learnt with; "" = not known
  int64_t max_length = 0;           // tokens of a text, special ones too; 0 = MaxLength's
  int64_t seed = 0;                 // of fresh parameters
  bool new_head = false;            // fresh, whatever head the base has

  static constexpr const char* kLater[] = {"head",        "template", "words", "objective",
                                           "whole_words", "task",     "texts", "tokenizer_sha256"};
  static void Visit(auto& self, auto&& f) {
    f("model", self.model), f("arch", self.arch), f("base_sha256", self.base_sha256);
    f("method", self.method), f("labels", self.labels), f("preprocess", self.preprocess);
    f("tokenizer", self.tokenizer), f("pool", self.pool), f("max_length", self.max_length);
    f("head", self.head), f("template", self.prompt), f("words", self.words);
    f("objective", self.objective), f("whole_words", self.whole_words);
    f("seed", self.seed), f("new_head", self.new_head), f("task", self.task);
    f("texts", self.texts), f("tokenizer_sha256", self.tokenizer_sha256);
  }
};

// Whether words of plain texts are to be guessed, so that there are no classes.
inline bool MasksWords(const AdapterFacts& facts) { return facts.objective == "mlm"; }

// The task of the metadata graft.task, or kClassify without it.
std::string TaskOfMetadata(const StringMap& metadata, const std::string& where);
// Takes texts and tokenizer_sha256 from metadata, if they are there.
void TakeTexts(const StringMap& metadata, AdapterFacts* facts, const std::string& where);
// Why texts of a form are none of the model's, to follow "holds" or "found"; "" if they may be.
std::string WrongTexts(const AdapterFacts& facts, bool pairs);
// Takes template and words from metadata, if there are any.
void TakePrompt(const StringMap& metadata, AdapterFacts* facts, const std::string& where);

// Refuses values outside their ranges, naming the flag and the nearest valid word.
void CheckFacts(const AdapterFacts& facts);

// Calls f(). An error of its that speaks of the command line (kUsage, or a message that begins with
// a flag) is about values in this file, and names it instead.
template <class F>
auto OfFile(const std::string& file, const F& f) {
  try {
    return f();
  } catch (const Error& e) {
    if (e.kind != ErrorKind::kUsage && !std::string_view(e.what()).starts_with("--")) throw;
    Fail("{}: {}", file, e.what());
  }
}

// The metadata of fused and adapter files: those of ModelFacts, graft.recipe, graft.base_sha256,
// graft.preprocess; graft.max_length, graft.texts and graft.tokenizer_sha256 of a BERT; graft.task
// unless that is to choose a class; and with a template graft.template and graft.words.
StringMap ModelMetadata(const LoadedModel& model, const AdapterFacts& facts);

// Parses a whole number of the metadata; throws Error naming `where` and the key.
int64_t ParseWhole(const std::string& text, const std::string& where, const std::string& key);
// Parses class names of the metadata: a JSON list of strings that is not empty.
std::vector<std::string> ParseLabels(const std::string& text, const std::string& where);
// The largest number of tokens of a text, from metadata; `otherwise` if they do not say.
int64_t MaxLengthOf(const StringMap& metadata, int64_t otherwise, const std::string& where);

// Whether the path is a run directory. A config.json is not enough, as Hugging Face directories
// have one, too.
bool IsRunDirectory(const std::string& path);
// A directory with kSearchFile is a search's (search/); kMethodFile is written last, when it ends.
inline constexpr const char* kSearchFile = "search.json";
inline constexpr const char* kMethodFile = "METHOD";
// Throws Error for a search that has not ended, as that is no run yet.
void RefuseUnfinishedSearch(const std::string& path);
// Reads the facts in a run's config.json. Throws Error for a search that has not ended.
AdapterFacts ReadRunFacts(const std::string& run);
// Throws the Error of a path at which there is no run: names one that is near, or runs below.
[[noreturn]] void FailNoRun(const std::string& path);
// Throws Error, naming the file, for facts that no run can have.
void CheckRunFacts(const AdapterFacts& facts, const std::string& file);

// --- what a model reads

// Refuses options of texts for a model that reads images, and the other way round; "" and 0 mean
// that an option was not given.
void CheckInputOptions(const LoadedModel& model, const std::string& preprocess,
                       const std::string& tokenizer, int64_t max_length);
// The positions of a text model that its method leaves to texts. Throws Error if there are none.
int64_t TextPositions(const AdapterFacts& facts, const LoadedModel& model);
// facts.max_length; if that is 0, 128 or fewer: no more than the model's positions and the
// tokenizer's model_max_length.
int64_t MaxLength(const AdapterFacts& facts, const LoadedModel& model);

}  // namespace graft
