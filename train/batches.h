// Labelled examples as training and evaluation see them, whatever they are: a data set gives
// splits, a split gives batches, a batch is cut into micro-batches and written into a session's
// inputs.
//
//   const Dataset dataset(directory);
//   const auto data = dataset.Load("train", 0, model, facts);
//   data->Start(order);                                   // an epoch: indices into the examples
//   while (data->remaining()) {
//     data->Take(std::min(batch, data->remaining()));     // the next examples are the batch
//     for (const Counts& part : data->Parts(capacity)) ...  data->Fill(session, first, n, worker);
//   }
#pragma once
#include <functional>
#include <memory>

#include "adapters/facts.h"
#include "data/augment.h"
#include "data/dataset.h"
#include "data/loader.h"
#include "data/text_loader.h"
#include "models/files/checkpoint.h"
#include "runtime/io/npy.h"
#include "runtime/io/sha256.h"
#include "runtime/session.h"

namespace graft {

// The memory that a plan leaves for the data.
struct SpareMemory {
  size_t bytes = size_t{1} << 30;  // without a budget
  size_t budget = SIZE_MAX;        // of the run: an example that takes more to read is an Error
  bool again = false;              // more than one epoch follows
};

class BatchSource {
 public:
  virtual ~BatchSource() = default;
  virtual const char* unit() const = 0;  // "images", "texts"
  virtual size_t size() const = 0;       // examples
  virtual int label(size_t example) const = 0;
  // The targets of an example of a regression or of several labels, one number for each output;
  // empty for other data.
  virtual std::span<const float> targets(size_t) const { return {}; }
  // Returns the tokens of an example; 0 where the model fixes its rows.
  virtual int64_t length(size_t example) const = 0;
  // Returns the tokens of the longest example.
  virtual int64_t longest() const = 0;

  // Bytes that the source holds while it lives, beyond those of SpareMemory; ExampleBytes are those
  // that each example of a batch adds.
  virtual size_t HeldBytes() const = 0;
  virtual size_t ExampleBytes() const { return 0; }
  // Called before the first Start, with the memory that may be used to be faster; results are the
  // same bits. Returns how many bytes the source may come to hold.
  virtual size_t UseSpare(const SpareMemory&) { return 0; }
  // For texts whose words are masked (MakeMaskedTexts): how many rows of each text the model's head
  // reads, BertConfig::mask_rows, which is at least the largest number of words masked in one text.
  // 0 for other data.
  virtual int64_t mask_rows() const { return 0; }
  virtual void SetMaskRows(int64_t) {}
  // Images are changed at random from the next batch on, as a function of the seed and the epoch.
  // Throws Error (kUsage) for other data.
  virtual void SetAugment(const Augment&, uint64_t seed);
  // Chooses the epoch whose masks or changes the next batches have; without a call they are always
  // the same.
  virtual void SetEpoch(int64_t) {}
  // The masked words of the batch, [examples, mask_rows], and -1 for a row that stands for none.
  virtual std::span<const int32_t> answers() const { return {}; }
  // How many losses of the batch count: the mean is taken over these.
  virtual int64_t Losses() const = 0;

  // Adds to a hash what decides the inputs of all examples in their order: for images the files as
  // they are now, for texts the tokens. Returns false where that is not known: then nothing may be
  // kept for later runs.
  virtual bool HashInputs(Sha256&) const { return false; }

  // Adds what tells the examples apart wherever they lie: the tokens of texts; for images their
  // names below the folder that holds all of them, and the sizes of their files.
  virtual void HashContents(Sha256&) const {}

  // What is decoded from here on is kept on disk for other runs (data/image_cache.h), and what
  // they have kept is found. Called before the first Start.
  virtual void KeepDecoded() {}

  // What the user should know of the examples read so far, or "".
  virtual std::string notice() const { return ""; }

  // From the next Start on, Fill is called only for the examples own(n) of each batch of n
  // examples, so that others need not be read. All batches but the last of an epoch have `batch`
  // examples. By default all examples are read.
  virtual void ReadOnly(size_t batch, std::function<Piece(int64_t)> own);

  // Begins an epoch and drops what is left of an earlier one.
  virtual void Start(std::vector<size_t> order) = 0;
  virtual size_t remaining() const = 0;
  // The next `count` examples of the order become the batch. Throws Error for an unreadable file.
  virtual void Take(size_t count) = 0;

  // The batch in order, cut so that each part is within the capacity: a pure function of the
  // examples' sizes. REQUIRES: capacity.tokens >= longest().
  virtual std::vector<Counts> Parts(const Counts& capacity) const = 0;
  // Writes examples [first, first + count) of the batch into those inputs that the session has.
  // Threads may call it at once for different workers.
  virtual void Fill(Session& session, int64_t first, int64_t count, int worker) const = 0;
};

// Ends the message of an image that cannot be read, which Take throws.
inline constexpr const char* kSkipBadHint = "; hint: --skip-bad goes on without it";

// Throws Error if the model reads images of other than three channels.
std::unique_ptr<BatchSource> MakeImageData(std::span<const Example> examples,
                                           const Preprocess& preprocess, const VitConfig& config);
// Normalised images [n,C,H,W] without labels; each is read when its turn comes.
std::unique_ptr<BatchSource> MakeArrayData(NpyRows images);
// What a text becomes: facts.tokenizer (or the model's own), at most MaxLength tokens.
// Throws Error if the vocabulary does not fit the model's tables.
std::unique_ptr<BatchSource> MakeTextData(std::span<const TextExample> examples,
                                          const LoadedModel& model, const AdapterFacts& facts);
// Texts of which 15 % of the tokens (with facts.whole_words: of the words) are to be guessed; of
// those 80 % become [MASK] and 10 % another token. A text of more than MaxLength tokens becomes
// several.
std::unique_ptr<BatchSource> MakeMaskedTexts(std::span<const TextExample> texts,
                                             const LoadedModel& model, const AdapterFacts& facts);
// Random inputs, on which two graphs can be compared.
std::unique_ptr<BatchSource> MakeRandomData(size_t n, const LoadedModel& model, uint64_t seed);

// SHA-256 of the classes, and of the labels, targets and lengths of the examples in their order;
// validation may be null.
std::string HashOfExamples(const std::vector<std::string>& classes, const BatchSource* train,
                           const BatchSource* validation);

}  // namespace graft
