#include "data/preprocess.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "data/exif.h"
#include "runtime/error.h"
#include "runtime/words.h"

namespace graft {
namespace {

constexpr int kMaxSide = 16384;   // before a crop
constexpr int kMaxResult = 4096;  // memory grows with its square

const std::vector<std::string> kKeys = {"resize", "crop", "fit", "center",
                                        "filter", "mean", "std", "exif"};
constexpr const char* kFits[] = {"shorter", "both", "none"};  // in the order of Fit
constexpr const char* kFlags[] = {"false", "true"};
constexpr const char* kCenters[] = {"round", "floor"};  // of Center

template <class Number>
Number ParseKeyNumber(std::string_view key, std::string_view text) {
  Number value{};
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (stop != end || error != std::errc{} || text.empty())
    Fail("preprocess: {}: expected a number, found '{}'", key, text);
  return value;
}

int ParseSide(std::string_view key, std::string_view text, int least) {
  const int side = ParseKeyNumber<int>(key, text);
  if (side < least || side > kMaxSide)
    Fail("preprocess: {}: expected {} to {} pixels, found {}", key, least, kMaxSide, side);
  return side;
}

std::array<float, 3> ParseChannels(std::string_view key, std::string_view text) {
  const std::vector<std::string> parts = SplitAt(text, '|');
  if (parts.size() != 1 && parts.size() != 3)
    Fail("preprocess: {}: expected 3 numbers joined by '|' (or one for all channels), found '{}'",
         key, text);
  std::array<float, 3> channels{};
  for (size_t c = 0; c < 3; ++c) {
    channels[c] = ParseKeyNumber<float>(key, Trim(parts[parts.size() == 1 ? 0 : c]));
    if (!std::isfinite(channels[c]) || (key == "std" && channels[c] <= 0))
      Fail("preprocess: {}: expected {}, found '{}'", key,
           key == "std" ? "positive numbers" : "finite numbers", text);
  }
  return channels;
}

// The place of a word in its list.
template <class Enum, size_t n>
Enum ParseWord(std::string_view key, std::string_view text, const char* const (&words)[n]) {
  for (size_t i = 0; i < n; ++i)
    if (text == words[i]) return static_cast<Enum>(i);
  Fail("preprocess: {}: expected {}, found '{}'", key, fmt::join(words, ", "), text);
}

void SetKey(Preprocess& p, std::string_view key, std::string_view value) {
  if (key == "resize")
    p.resize = ParseSide(key, value, 1);
  else if (key == "crop")
    p.crop = ParseSide(key, value, 0);
  else if (key == "fit")
    p.fit = ParseWord<Fit>(key, value, kFits);
  else if (key == "center")
    p.center = ParseWord<Center>(key, value, kCenters);
  else if (key == "filter")
    p.filter = ParseFilter(value);
  else if (key == "mean")
    p.mean = ParseChannels(key, value);
  else if (key == "std")
    p.std = ParseChannels(key, value);
  else if (key == "exif")
    p.exif = ParseWord<int>(key, value, kFlags) == 1;
  else
    Fail("preprocess: unknown key '{}'{}", key, DidYouMean(key, kKeys));
}

const PreprocessPreset& FindPreset(std::string_view name) {
  std::vector<std::string> names;
  for (const PreprocessPreset& preset : PreprocessPresets()) {
    if (preset.name == name) return preset;
    names.push_back(preset.name);
  }
  Fail("preprocess: unknown name '{}'{}; 'list' shows them all", name, DidYouMean(name, names));
}

// Chooses one of several forms that mean the same: what has no effect gets its default.
void Normalise(Preprocess& p, bool fit_given) {
  if (fit_given && p.fit != Fit::kBoth && p.crop == 0)
    Fail("preprocess: fit={} needs a crop, or images are not square",
         kFits[static_cast<int>(p.fit)]);
  if (p.fit == Fit::kNone) p.resize = p.crop, p.filter = Filter::kBicubic;
  if (p.crop > p.resize) Fail("preprocess: crop={} does not fit into resize={}", p.crop, p.resize);
  if (p.crop == 0 || (p.fit == Fit::kBoth && p.crop == p.resize))
    p.crop = 0, p.fit = Fit::kShorter, p.center = Center::kRound;
}

// Python's round(difference / 2), which torchvision uses: halves go to the even neighbour.
int CropStart(int side, const Preprocess& p) {
  const int difference = side - p.crop, half = difference / 2;
  return half + (p.center == Center::kRound && difference % 2 && half % 2);
}

}  // namespace

const std::vector<PreprocessPreset>& PreprocessPresets() {
  constexpr std::array<float, 3> in_mean{0.485f, 0.456f, 0.406f}, in_std{0.229f, 0.224f, 0.225f};
  constexpr std::array<float, 3> half{0.5f, 0.5f, 0.5f};
  static const std::vector<PreprocessPreset> presets = {
      {"imagenet",
       "DeiT and most ImageNet models: shorter side 256, centre 224",
       {256, 224, Filter::kBicubic, in_mean, in_std}},
      {"vtab", "VTAB-1k: straight to 224 x 224", {224, 0, Filter::kBicubic, in_mean, in_std}},
      {"half",
       "Google's ViT as Hugging Face runs it: straight to 224, values in -1..1",
       {224, 0, Filter::kBilinear, half, half}},
      {"augreg",
       "ViT of 'How to train your ViT' as timm runs it: centre 224 of 248, values in -1..1",
       {248, 224, Filter::kBicubic, half, half}},
      {"clip",
       "CLIP's image towers",
       {224,
        224,
        Filter::kBicubic,
        {0.48145466f, 0.4578275f, 0.40821073f},
        {0.26862954f, 0.26130258f, 0.27577711f}}},
      {"cifar10",
       "CIFAR-10's own mean and deviation, straight to 224",
       {224, 0, Filter::kBilinear, {0.4914f, 0.4822f, 0.4465f}, {0.2470f, 0.2435f, 0.2616f}}},
      {"cifar100",
       "CIFAR-100's own mean and deviation, straight to 224",
       {224, 0, Filter::kBilinear, {0.5071f, 0.4865f, 0.4409f}, {0.2673f, 0.2564f, 0.2762f}}},
      {"mnist",
       "MNIST's own mean and deviation, straight to 224",
       {224, 0, Filter::kBilinear, {0.1307f, 0.1307f, 0.1307f}, {0.3081f, 0.3081f, 0.3081f}}},
      {"unit", "values in 0..1, straight to 224", {224, 0, Filter::kBicubic, {0, 0, 0}, {1, 1, 1}}},
  };
  return presets;
}

Preprocess ParsePreprocess(std::string_view text) {
  Preprocess result;
  std::vector<std::string> seen;
  bool from_preset = false;
  for (std::string_view part : SplitAt(text, ',')) {
    part = Trim(part);
    const size_t equals = part.find('=');
    if (equals == std::string_view::npos) {
      if (from_preset || !seen.empty())
        Fail("preprocess: expected key=value, found '{}' in '{}'", part, text);
      result = FindPreset(part).value;
      from_preset = true;
      continue;
    }
    const std::string key(Trim(part.substr(0, equals)));
    if (std::find(seen.begin(), seen.end(), key) != seen.end())
      Fail("preprocess: '{}' is given twice in '{}'", key, text);
    SetKey(result, key, Trim(part.substr(equals + 1)));
    seen.push_back(key);
  }
  for (const std::string& key : kKeys) {
    const bool given = std::find(seen.begin(), seen.end(), key) != seen.end();
    const bool free = key == "crop" || key == "fit" || key == "center" || key == "exif" ||
                      (result.fit == Fit::kNone && (key == "resize" || key == "filter"));
    if (!from_preset && !free && !given)
      Fail("preprocess: '{}' is missing in '{}'; write it, or begin with a preset: 'vtab,{}'", key,
           text, text);
  }
  Normalise(result, std::find(seen.begin(), seen.end(), "fit") != seen.end());
  if (result.size() > kMaxResult)
    Fail("preprocess: {}={}: expected at most {} pixels for what the model reads",
         result.crop ? "crop" : "resize", result.size(), kMaxResult);
  return result;
}

std::string ToString(const Preprocess& p) {
  std::string text = p.fit == Fit::kNone ? "" : fmt::format("resize={},", p.resize);
  if (p.crop) text += fmt::format("crop={},", p.crop);
  if (p.fit != Fit::kShorter) text += fmt::format("fit={},", kFits[static_cast<int>(p.fit)]);
  if (p.center != Center::kRound)
    text += fmt::format("center={},", kCenters[static_cast<int>(p.center)]);
  if (p.fit != Fit::kNone) text += fmt::format("filter={},", ToString(p.filter));
  // fmt prints the shortest decimals that read back as the same float.
  return text + fmt::format("mean={},std={}{}", fmt::join(p.mean, "|"), fmt::join(p.std, "|"),
                            p.exif ? ",exif=true" : "");
}

std::string ListPreprocess() {
  std::string lines;
  for (const PreprocessPreset& preset : PreprocessPresets())
    lines +=
        fmt::format("{:<9} {}\n          {}\n", preset.name, preset.about, ToString(preset.value));
  return lines;
}

Preprocess ForImageSize(Preprocess p, int size) {
  GRAFT_CHECK(size > 0);
  if (p.crop) {
    p.resize = static_cast<int>(static_cast<int64_t>(p.resize) * size / p.crop);
    p.crop = size;
  } else {
    p.resize = size;
  }
  return p;
}

namespace {

// The size before the crop, and what is left of it.
struct Sizes {
  int width, height;
  ImagePart part;
};
Sizes SizesOf(int width, int height, const Preprocess& p) {
  if (!p.crop) return {p.resize, p.resize, {0, 0, p.resize, p.resize}};
  const auto cut = [&](int w, int h) {
    return Sizes{w, h, {CropStart(w, p), CropStart(h, p), p.crop, p.crop}};
  };
  if (p.fit == Fit::kNone) {
    if (std::min(width, height) < p.crop)
      Fail("an image of {} x {} pixels is smaller than crop={}, and fit=none does not enlarge it",
           width, height, p.crop);
    return cut(width, height);
  }
  if (p.fit == Fit::kBoth) return cut(p.resize, p.resize);
  const int64_t shorter = std::min(width, height);
  const auto scaled = [&](int side) { return static_cast<int64_t>(p.resize) * side / shorter; };
  const int64_t wide = scaled(width), high = scaled(height);
  if (high > kMaxImagePixels / wide)
    Fail("an image of {} x {} pixels is too narrow to resize its shorter side to {}", width, height,
         p.resize);
  return cut(static_cast<int>(wide), static_cast<int>(high));
}

}  // namespace

Image ResizeAndCrop(const Image& image, const Preprocess& p) {
  if (p.exif && image.orientation != 1) return ResizeAndCrop(Upright(image), p);
  const Sizes sizes = SizesOf(image.width, image.height, p);
  return Resize(image, sizes.width, sizes.height, p.filter, sizes.part);
}

int64_t ResizeAndCropBytes(int width, int height, const Preprocess& p) {
  const auto bytes = [&](int w, int h) {
    const Sizes sizes = SizesOf(w, h, p);
    return ResizeBytes(w, h, sizes.width, sizes.height, sizes.part);
  };
  // An image that is turned upright is in memory twice.
  const int64_t turned = int64_t{3} * width * height;
  return p.exif ? turned + std::max(bytes(width, height), bytes(height, width))
                : bytes(width, height);
}

Normalizer::Normalizer(const Preprocess& p) {
  for (size_t c = 0; c < 3; ++c)
    for (size_t v = 0; v < 256; ++v)
      table_[c][v] = (static_cast<float>(v) / 255.0f - p.mean[c]) / p.std[c];
}

void Normalizer::Apply(std::span<const uint8_t> rgb, float* out) const {
  const size_t pixels = rgb.size() / 3;
  for (size_t i = 0; i < pixels; ++i) {
    out[i] = table_[0][rgb[3 * i]];
    out[pixels + i] = table_[1][rgb[3 * i + 1]];
    out[2 * pixels + i] = table_[2][rgb[3 * i + 2]];
  }
}

std::vector<float> Apply(const Image& image, const Preprocess& preprocess) {
  const Image cropped = ResizeAndCrop(image, preprocess);
  std::vector<float> out(cropped.rgb.size());
  Normalizer(preprocess).Apply(cropped.rgb, out.data());
  return out;
}

}  // namespace graft
