// Makes the normalised [3, H, W] floats that a model reads from an image of any size: resize,
// centre crop, (x / 255 - mean) / std. The text form is that of --preprocess.
#pragma once
#include <array>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/image.h"
#include "data/resize.h"

namespace graft {

// What becomes `resize` before a crop. kShorter: the shorter side, while the longer one becomes
// floor(resize * long / short). kBoth: both sides. kNone: nothing, the image stays as it is.
enum class Fit { kShorter, kBoth, kNone };
// Where a crop begins that leaves an odd margin: at half of it, rounded to the even neighbour, as
// torchvision does, or down, as transformers does.
enum class Center { kRound, kFloor };

struct Preprocess {
  // With crop == 0 both sides become `resize`. Otherwise the centre crop x crop is left of what
  // `fit` makes.
  int resize = 224, crop = 0;
  Filter filter = Filter::kBicubic;
  std::array<float, 3> mean{0.485f, 0.456f, 0.406f}, std{0.229f, 0.224f, 0.225f};
  Fit fit = Fit::kShorter;         // with a crop
  Center center = Center::kRound;  // with a crop

  bool exif = false;  // images are turned upright first, as their EXIF block says

  int size() const { return crop ? crop : resize; }  // sides of the result
  bool operator==(const Preprocess&) const = default;
};

struct PreprocessPreset {
  std::string name, about;
  Preprocess value;
};
const std::vector<PreprocessPreset>& PreprocessPresets();

// Parses "vtab", the full form
// "resize=256,crop=224,filter=bicubic,mean=0.485|0.456|0.406,std=0.229|0.224|0.225", or a preset
// with changes, "vtab,filter=bilinear". The full form may lack `crop`, `fit` (shorter, both, none),
// `center` (round, floor) and `exif` (true, false), and with fit=none also `resize` and `filter`. A
// single mean or std stands for all three channels. Throws Error naming the key.
Preprocess ParsePreprocess(std::string_view text);

// Writes the full form, from which ParsePreprocess makes an equal value.
std::string ToString(const Preprocess& preprocess);

// What --preprocess list prints: a line for each preset.
std::string ListPreprocess();

// The same transform for a model that reads size x size images: `resize` scales with the crop.
Preprocess ForImageSize(Preprocess preprocess, int size);

// Resizes and crops; the result is size() x size(). Throws Error for an image so narrow that it
// would have more than kMaxImagePixels before the crop.
Image ResizeAndCrop(const Image& image, const Preprocess& preprocess);
// The bytes that this takes at most beside an image of this size, with the result.
int64_t ResizeAndCropBytes(int width, int height, const Preprocess& preprocess);

// Holds (v / 255 - mean) / std in f32 for every byte v and channel, as PyTorch computes it.
class Normalizer {
 public:
  explicit Normalizer(const Preprocess& preprocess);
  // Normalises `rgb` [pixels][3] to `out` [3][pixels].
  void Apply(std::span<const uint8_t> rgb, float* out) const;

 private:
  std::array<std::array<float, 256>, 3> table_;
};

// Does all of it; the result is planar, [3, size(), size()].
std::vector<float> Apply(const Image& image, const Preprocess& preprocess);

}  // namespace graft
