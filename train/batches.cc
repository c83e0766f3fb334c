#include "runtime/io/file_stamp.h"
#include "runtime/io/sha256.h"
#include "runtime/rng.h"
#include "runtime/threads.h"
#include "train/ordered_data.h"

namespace graft {
namespace {

constexpr int64_t kChannels = 3;  // of a decoded image

class ImageData : public OrderedData {
 public:
  ImageData(std::span<const Example> examples, const Preprocess& preprocess,
            const VitConfig& config)
      : preprocess_(preprocess), sample_(SampleBytes(preprocess)), targets_(examples) {
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
    held_ += targets_.bytes();
    UseSpare({});
  }
  const char* unit() const override { return "images"; }
  size_t size() const override { return labels_.size(); }
  int label(size_t example) const override { return labels_[example]; }
  std::span<const float> targets(size_t example) const override { return targets_.of(example); }
  size_t HeldBytes() const override { return held_ + LeastLoaderBytes(sample_); }
  size_t ExampleBytes() const override { return sample_; }
  size_t UseSpare(const SpareMemory& spare) override {
    options_ = OptionsWithin(spare.bytes, sample_, size(), spare.again);
    options_.threads = Threads();
    if (spare.budget != SIZE_MAX) options_.decode.limit = static_cast<int64_t>(spare.budget);
    return BytesOf(options_, sample_) - LeastLoaderBytes(sample_);
  }
  // Files that may have changed without a trace give no hash, nor do images of which the user was
  // to hear something: a kept result would leave it unsaid.
  bool HashInputs(Sha256& hash) const override {
    if (augment_.any() || !notice().empty()) return false;
    for (const std::string& path : paths_) {
      const std::optional<FileStamp> stamp = StampOf(path);
      if (!stamp || !stamp->Settled()) return false;
      const std::string text = fmt::format("{} {} {} {}\n", stamp->path, stamp->size,
                                           stamp->modified_ns, stamp->changed_ns);
      hash.Update(std::as_bytes(std::span(text)));
    }
    return true;
  }
  void HashContents(Sha256& hash) const override {
    const std::vector<std::string> names = NamesBelowCommonFolder(paths_);
    for (size_t i = 0; i < names.size(); ++i) {
      const std::optional<FileStamp> stamp = StampOf(paths_[i]);
      const std::string text = fmt::format("{}:{} {}\n", names[i].size(), names[i],
                                           stamp ? static_cast<int64_t>(stamp->size) : -1);
      hash.Update(std::as_bytes(std::span(text)));
    }
  }
  std::string notice() const override {
    if (!loader_) return "";
    const auto [count, first] = loader_->unturned();
    if (count == 0) return "";
    return fmt::format(
        "{} {} to be turned by {} EXIF orientation, which was not done (the first is {}); hint: "
        "exif=true in --preprocess",
        count == 1 ? "1 image" : fmt::format("{} images", count), count == 1 ? "is" : "are",
        count == 1 ? "its" : "their", first);
  }
  void Start(std::vector<size_t> order) override {
    options_.kept = kept_;
    if (!loader_) loader_ = std::make_unique<ImageLoader>(paths_, preprocess_, options_);
    loader_->Start(own_ ? OwnOf(order) : order);
    OrderedData::Start(std::move(order));
  }
  void KeepDecoded() override { kept_ = ImageCache::OfUser(); }
  void ReadOnly(size_t batch, std::function<Piece(int64_t)> own) override {
    batch_size_ = batch, own_ = std::move(own);
  }
  void SetAugment(const Augment& augment, uint64_t seed) override {
    augment_ = augment, seed_ = seed;
  }
  void SetEpoch(int64_t epoch) override { epoch_ = epoch; }
  void Take(size_t count) override {
    samples_.clear();
    try {
      const int64_t all = static_cast<int64_t>(count);
      const Piece own = own_ ? own_(all) : Piece{0, all};
      samples_.resize(own.begin);
      loader_->Take(static_cast<size_t>(own.size), samples_);  // which it appends
      samples_.resize(count);
    } catch (const Error& e) {
      const std::string message = e.what();
      if (message.find("--memory-budget") != message.npos) throw;
      throw Error(message + kSkipBadHint, e.kind);
    }
    OrderedData::Take(count);
    if (!augment_.any()) return;
    ParallelFor(static_cast<int64_t>(count), [&](int64_t i) {
      if (!samples_[i]) return;  // another process has it
      Image image{.width = preprocess_.size(), .height = preprocess_.size(), .rgb = *samples_[i]};
      image = AugmentImage(augment_, StreamOf(i), std::move(image), preprocess_.filter);
      samples_[i] = std::make_shared<std::vector<uint8_t>>(std::move(image.rgb));
    });
    mix_ = DrawMix(augment_, StreamOf(0), preprocess_.size());
  }
  void Fill(Session& session, int64_t first, int64_t count, int worker) const override {
    const std::span<const size_t> examples = Examples(first, count);
    if (session.HasInput("image")) {
      float* image = session.Input("image", worker).f32();
      for (size_t i = 0; i < examples.size(); ++i)
        Write(static_cast<size_t>(first) + i, image + i * sample_);
    }
    FillTargets(*this, examples, worker, &session);
    if (augment_.mixes()) MixTargets(session, first, count, worker);
    if (!session.HasInput("labels")) return;
    int32_t* labels = session.Input("labels", worker).i32();
    for (size_t i = 0; i < examples.size(); ++i) labels[i] = labels_[examples[i]];
    if (!session.HasInput("share")) return;
    int32_t* others = session.Input("labels_other", worker).i32();
    std::fill_n(session.Input("share", worker).f32(), count, static_cast<float>(mix_.lam));
    for (size_t i = 0; i < examples.size(); ++i)
      others[i] = labels_[batch()[Opposite(static_cast<size_t>(first) + i)]];
  }

 private:
  std::vector<size_t> OwnOf(std::span<const size_t> order) const {
    std::vector<size_t> own;
    for (; !order.empty(); order = order.subspan(std::min(order.size(), batch_size_))) {
      const size_t n = std::min(order.size(), batch_size_);
      const Piece piece = own_(static_cast<int64_t>(n));
      const auto mine =
          order.subspan(static_cast<size_t>(piece.begin), static_cast<size_t>(piece.size));
      own.insert(own.end(), mine.begin(), mine.end());
    }
    return own;
  }
  StreamKey StreamOf(size_t i) const { return AugmentStream(seed_, epoch_, batch()[i]); }
  // Targets are mixed as the pixels are: the loss of several labels is linear in them.
  void MixTargets(Session& session, int64_t first, int64_t count, int worker) const {
    if (!session.HasInput("targets")) return;
    float* to = session.Input("targets", worker).f32();
    const auto lam = static_cast<float>(mix_.lam);
    for (int64_t i = first; i < first + count; ++i)
      for (const float other : targets(batch()[Opposite(static_cast<size_t>(i))]))
        *to = lam * *to + (1 - lam) * other, ++to;
  }
  size_t Opposite(size_t i) const { return batch().size() - 1 - i; }
  // Writes image i of the batch, before it is mixed with another.
  void WriteOne(size_t i, float* out) const {
    loader_->Normalize(samples_[i], out);
    if (augment_.erase > 0)
      Erase(DrawErased(augment_, StreamOf(i), preprocess_.size()), preprocess_.size(), out);
  }
  void Write(size_t i, float* out) const {
    WriteOne(i, out);
    if (!augment_.mixes()) return;
    thread_local std::vector<float> other;  // grows once
    other.resize(sample_);
    WriteOne(Opposite(i), other.data());
    MixInto(mix_, preprocess_.size(), other.data(), out);
  }

  std::vector<std::string> paths_;
  Preprocess preprocess_;
  size_t sample_, held_ = 0;
  Targets targets_;
  LoaderOptions options_;
  std::shared_ptr<ImageCache> kept_;
  std::unique_ptr<ImageLoader> loader_;  // from the first Start on
  std::vector<int> labels_;
  std::vector<Pixels> samples_;  // of the batch; null where another process has the example
  size_t batch_size_ = 0;
  std::function<Piece(int64_t)> own_;  // of each batch; null: all
  Augment augment_;
  uint64_t seed_ = 0;
  int64_t epoch_ = 0;
  Mix mix_;  // of the batch
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

}  // namespace

void BatchSource::SetAugment(const Augment&, uint64_t) {
  FailUsage("--augment: changes images, the data are {}", unit());
}

void BatchSource::ReadOnly(size_t, std::function<Piece(int64_t)>) {}

std::unique_ptr<BatchSource> MakeImageData(std::span<const Example> examples,
                                           const Preprocess& preprocess, const VitConfig& config) {
  return std::make_unique<ImageData>(examples, preprocess, config);
}

std::unique_ptr<BatchSource> MakeArrayData(NpyRows images) {
  return std::make_unique<ArrayData>(std::move(images));
}

std::unique_ptr<BatchSource> MakeRandomData(size_t n, const LoadedModel& model, uint64_t seed) {
  if (model.is_bert()) return MakeRandomTexts(n, model, seed);
  const VitConfig& c = model.vit();
  const size_t sample = static_cast<size_t>(c.channels * c.image_size * c.image_size);
  std::vector<float> noise(n * sample);
  FillNormal(noise, {MakeKey(seed, Purpose::kData, "fuse proof")}, 0, 1);
  return std::make_unique<NoiseData>(std::move(noise), sample);
}

std::string HashOfExamples(const std::vector<std::string>& classes, const BatchSource* train,
                           const BatchSource* validation) {
  std::string facts = fmt::format("{}\n", fmt::join(classes, "\n"));
  for (const BatchSource* data : {train, validation})
    for (size_t i = 0; data && i <= data->size(); ++i) {
      facts += i < data->size() ? fmt::format("{}:{} ", data->label(i), data->length(i)) : "\n";
      if (i < data->size() && !data->targets(i).empty())
        facts += fmt::format("{} ", fmt::join(data->targets(i), ","));
    }
  return Sha256Hex(std::as_bytes(std::span(facts)));
}

}  // namespace graft
