#include "train/batches.h"

#include <algorithm>

#include "models/text/tokenizer.h"
#include "runtime/io/sha256.h"
#include "runtime/rng.h"
#include "runtime/threads.h"

namespace graft {
namespace {

// An order and where the batch is in it; examples of equal size.
class OrderedData : public BatchSource {
 public:
  int64_t length(size_t) const override { return 0; }
  int64_t longest() const override { return 0; }
  void Start(std::vector<size_t> order) override { order_ = std::move(order), end_ = begin_ = 0; }
  size_t remaining() const override { return order_.size() - end_; }
  void Take(size_t count) override { begin_ = end_, end_ += count; }
  std::vector<Counts> Parts(const Counts& capacity) const override {
    std::vector<Counts> parts;
    const int64_t n = static_cast<int64_t>(end_ - begin_);
    for (int64_t first = 0; first < n; first += capacity.sequences)
      parts.push_back({std::min(capacity.sequences, n - first), 0});
    return parts;
  }

 protected:
  std::span<const size_t> batch() const { return std::span(order_).subspan(begin_, end_ - begin_); }
  // Examples [first, first + count) of the batch.
  std::span<const size_t> Examples(int64_t first, int64_t count) const {
    return batch().subspan(static_cast<size_t>(first), static_cast<size_t>(count));
  }

 private:
  std::vector<size_t> order_;
  size_t begin_ = 0, end_ = 0;
};

constexpr int64_t kChannels = 3;  // of a decoded image

class ImageData : public OrderedData {
 public:
  ImageData(std::span<const Example> examples, const Preprocess& preprocess,
            const VitConfig& config)
      : preprocess_(preprocess), sample_(SampleBytes(preprocess)) {
    if (config.channels != kChannels)
      Fail(
          "the model reads images of {} channels, decoded images have {}; hint: predict takes "
          ".npy files of such images",
          config.channels, kChannels);
    const int64_t sample = kChannels * config.image_size * config.image_size;
    GRAFT_CHECK(sample_ == static_cast<size_t>(sample), "{} floats of an image, the model reads {}",
                sample_, sample);
    for (const Example& e : examples) {
      paths_.push_back(e.path), labels_.push_back(e.label);
      held_ += sizeof(std::string) + e.path.size() + sizeof(int) + 2 * sizeof(size_t);
    }
    UseSpare({});
  }
  const char* unit() const override { return "images"; }
  size_t size() const override { return labels_.size(); }
  int label(size_t example) const override { return labels_[example]; }
  size_t HeldBytes() const override { return held_ + LeastLoaderBytes(sample_); }
  size_t ExampleBytes() const override { return sample_; }
  size_t UseSpare(const SpareMemory& spare) override {
    options_ = OptionsWithin(spare.bytes, sample_, size(), spare.again);
    options_.threads = Threads();
    if (spare.budget != SIZE_MAX) options_.decode.limit = static_cast<int64_t>(spare.budget);
    return BytesOf(options_, sample_) - LeastLoaderBytes(sample_);
  }
  std::string notice() const override {
    if (!loader_) return "";
    const auto [count, first] = loader_->unturned();
    if (count == 0) return "";
    return fmt::format(
        "{} of the images are to be turned by their EXIF orientation, which was not "
        "done (the first is {}); hint: exif=true in --preprocess",
        count, first);
  }
  void Start(std::vector<size_t> order) override {
    if (!loader_) loader_ = std::make_unique<ImageLoader>(paths_, preprocess_, options_);
    loader_->Start(order);
    OrderedData::Start(std::move(order));
  }
  void Take(size_t count) override {
    samples_.clear();
    loader_->Take(count, samples_);
    OrderedData::Take(count);
  }
  void Fill(Session& session, int64_t first, int64_t count, int worker) const override {
    const std::span<const size_t> examples = Examples(first, count);
    if (session.HasInput("image")) {
      float* image = session.Input("image", worker).f32();
      for (size_t i = 0; i < examples.size(); ++i)
        loader_->Normalize(samples_[static_cast<size_t>(first) + i], image + i * sample_);
    }
    if (!session.HasInput("labels")) return;
    int32_t* labels = session.Input("labels", worker).i32();
    for (size_t i = 0; i < examples.size(); ++i) labels[i] = labels_[examples[i]];
  }

 private:
  std::vector<std::string> paths_;
  Preprocess preprocess_;
  size_t sample_, held_ = 0;
  LoaderOptions options_;
  std::unique_ptr<ImageLoader> loader_;  // from the first Start on
  std::vector<int> labels_;
  std::vector<Pixels> samples_;  // of the batch
};

class ArrayData : public OrderedData {
 public:
  explicit ArrayData(NpyRows images) : images_(std::move(images)) {}
  const char* unit() const override { return "images"; }
  size_t size() const override { return static_cast<size_t>(images_.count()); }
  int label(size_t) const override { return 0; }
  size_t HeldBytes() const override { return 0; }
  void Fill(Session& session, int64_t first, int64_t count, int worker) const override {
    float* image = session.Input("image", worker).f32();
    for (const size_t example : Examples(first, count)) {
      images_.Read(static_cast<int64_t>(example), image);
      image += images_.row_size();
    }
  }

 private:
  NpyRows images_;
};

// Noise images, one after the other.
class NoiseData : public OrderedData {
 public:
  NoiseData(std::vector<float> values, size_t sample)
      : values_(std::move(values)), sample_(sample) {}
  const char* unit() const override { return "images"; }
  size_t size() const override { return values_.size() / sample_; }
  int label(size_t) const override { return 0; }
  size_t HeldBytes() const override { return values_.size() * sizeof(float); }
  void Fill(Session& session, int64_t first, int64_t count, int worker) const override {
    float* image = session.Input("image", worker).f32();
    for (const size_t example : Examples(first, count))
      image = std::copy_n(&values_[example * sample_], sample_, image);
  }

 private:
  std::vector<float> values_;
  size_t sample_;
};

class TextData : public OrderedData {
 public:
  TextData(std::span<const TextExample> examples, const TextLoader::Tokenize& tokenize)
      : loader_(examples, tokenize) {
    for (const TextExample& e : examples) labels_.push_back(e.label);
  }
  const char* unit() const override { return "texts"; }
  size_t size() const override { return loader_.size(); }
  int label(size_t example) const override { return labels_[example]; }
  int64_t length(size_t example) const override {
    return static_cast<int64_t>(loader_.length(example));
  }
  int64_t longest() const override { return static_cast<int64_t>(loader_.longest()); }
  size_t HeldBytes() const override {
    constexpr size_t kToken = 2 * sizeof(int32_t), kText = 2 * sizeof(int32_t) + 3 * sizeof(size_t);
    return loader_.rows() * kToken + loader_.size() * kText;
  }
  std::vector<Counts> Parts(const Counts& capacity) const override {
    std::vector<Counts> parts;
    for (const size_t example : batch()) {
      const int64_t rows = static_cast<int64_t>(loader_.length(example));
      if (parts.empty() || parts.back().sequences == capacity.sequences ||
          parts.back().tokens + rows > capacity.tokens)
        parts.push_back({0, 0});
      ++parts.back().sequences, parts.back().tokens += rows;
    }
    return parts;
  }
  void Fill(Session& session, int64_t first, int64_t count, int worker) const override {
    const auto input = [&](const char* name) {
      return session.HasInput(name) ? session.Input(name, worker).i32() : nullptr;
    };
    loader_.Write(Examples(first, count), {input("ids"), input("type_ids"), input("positions"),
                                           input("offsets"), input("labels")});
  }

 private:
  TextLoader loader_;
  std::vector<int> labels_;
};

// Rows that the embedding must have, whatever the texts. Added tokens that follow the vocabulary
// may be missing there: transformers adds [MASK] and the like to any vocabulary.
int64_t WordsOf(const Tokenizer& tokenizer) {
  int64_t words = std::ssize(tokenizer.spec().tokens);
  for (const AddedToken& token : tokenizer.spec().added)
    if (token.appended) words = std::min(words, int64_t{token.id});
  return words;
}

// The kernels trust ids.
void CheckRows(const Encoding& encoded, const Tokenizer& tokenizer, const std::string& text,
               const LoadedModel& model) {
  for (const int32_t id : encoded.ids)
    if (id >= model.bert().vocab)
      Fail("{}: the token '{}' has id {}, but {} has embeddings for {}; found in '{}'",
           tokenizer.spec().where, tokenizer.token(id), id, model.source, model.bert().vocab, text);
}

Tokenizer OpenTokenizer(const LoadedModel& model, const AdapterFacts& facts, bool pairs) {
  if (facts.tokenizer.empty() && facts.model.starts_with("init:"))
    Fail("{}: has no vocabulary; hint: --tokenizer DIR, a directory with vocab.txt", facts.model);
  const std::string path = facts.tokenizer.empty() ? facts.model : facts.tokenizer;
  Tokenizer tokenizer = Tokenizer::Open(path);
  const BertConfig& c = model.bert();
  if (WordsOf(tokenizer) > c.vocab)
    Fail("{}: {} tokens, but {} has embeddings for {}", path, WordsOf(tokenizer), model.source,
         c.vocab);
  const auto check = [&](const std::vector<TemplatePiece>& pieces, const char* of) {
    for (const TemplatePiece& piece : pieces)
      if (piece.type < 0 || piece.type >= c.types)
        Fail("{}: type {} in the template of {}, but {} has {}", path, piece.type, of, model.source,
             c.types);
  };
  check(tokenizer.spec().single, "one text");
  if (pairs) check(tokenizer.spec().pair, "two texts");  // some models have one type
  if (const int64_t positions = TextPositions(facts, model); facts.max_length > positions)
    Fail("--max-length {}: {} has {} positions{}", facts.max_length, model.source, positions,
         positions < c.positions ? fmt::format(" beside those of {}", facts.method) : "");
  return tokenizer;
}

}  // namespace

std::unique_ptr<BatchSource> MakeImageData(std::span<const Example> examples,
                                           const Preprocess& preprocess, const VitConfig& config) {
  return std::make_unique<ImageData>(examples, preprocess, config);
}

std::unique_ptr<BatchSource> MakeArrayData(NpyRows images) {
  return std::make_unique<ArrayData>(std::move(images));
}

std::unique_ptr<BatchSource> MakeTextData(std::span<const TextExample> examples,
                                          const LoadedModel& model, const AdapterFacts& facts) {
  const bool pairs =
      std::ranges::any_of(examples, [](const TextExample& e) { return e.second.has_value(); });
  const Tokenizer tokenizer = OpenTokenizer(model, facts, pairs);
  const EncodeOptions options{.max_length = static_cast<size_t>(MaxLength(facts, model))};
  return std::make_unique<TextData>(examples, [&](const TextExample& e) {
    Encoding encoded =
        e.second ? tokenizer.Encode(e.text, *e.second, options) : tokenizer.Encode(e.text, options);
    CheckRows(encoded, tokenizer, e.text, model);
    if (encoded.ids.empty())
      Fail("{}: has no special tokens, and gives no token at all for the text '{}'",
           tokenizer.spec().where, e.text);
    return TokenSequence{std::move(encoded.ids), std::move(encoded.types)};
  });
}

std::unique_ptr<BatchSource> MakeRandomData(size_t n, const LoadedModel& model, uint64_t seed) {
  if (!model.is_bert()) {
    const VitConfig& c = model.vit();
    const size_t sample = static_cast<size_t>(c.channels * c.image_size * c.image_size);
    std::vector<float> noise(n * sample);
    FillNormal(noise, {MakeKey(seed, Purpose::kData, "fuse proof")}, 0, 1);
    return std::make_unique<NoiseData>(std::move(noise), sample);
  }
  const BertConfig& c = model.bert();
  std::vector<TextExample> examples(n);
  for (size_t i = 0; i < n; ++i) examples[i].label = static_cast<int>(i);  // names the sequence
  return std::make_unique<TextData>(examples, [&](const TextExample& e) {
    // Lengths 4, 9, 14, ...: results must not depend on what else a batch holds.
    const int64_t length = std::min<int64_t>(c.positions, 4 + 5 * e.label);
    const StreamKey key{MakeKey(seed, Purpose::kData, "fuse proof"), static_cast<uint64_t>(e.label),
                        0};
    const std::vector<int32_t> ids = Permutation(static_cast<int32_t>(c.vocab), key);
    TokenSequence sequence;
    for (int64_t i = 0; i < length; ++i)
      sequence.ids.push_back(ids[static_cast<size_t>(i) % ids.size()]);
    sequence.types.assign(sequence.ids.size(), 0);
    return sequence;
  });
}

std::string HashOfExamples(const std::vector<std::string>& classes, const BatchSource* train,
                           const BatchSource* validation) {
  std::string facts = fmt::format("{}\n", fmt::join(classes, "\n"));
  for (const BatchSource* data : {train, validation})
    for (size_t i = 0; data && i <= data->size(); ++i)
      facts += i < data->size() ? fmt::format("{}:{} ", data->label(i), data->length(i)) : "\n";
  return Sha256Hex(std::as_bytes(std::span(facts)));
}

}  // namespace graft
