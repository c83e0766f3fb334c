#include "data/augment.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "data/image_ops.h"
#include "runtime/error.h"

namespace graft {
namespace {

// What a draw is for: its position in the example's stream.
enum Draw : uint64_t {
  kFlip = 0,
  kErase = 1,
  kOperations = 16,  // three each, for at most 64
  kCrop = 256,       // four each, ten tries
  kErased = 320,
  kSwitch = 384,
  kLam = 400,  // two each try
};
constexpr int kTries = 10, kMagnitudes = 31, kMostOperations = 64;

constexpr AugmentPreset kPresets[] = {
    {"light", "flip,crop=0.8", "for small data sets of centred objects"},
    {"standard", "flip,crop=0.35,randaugment=2x9", "for photographs"},
    {"strong", "flip,crop=0.08,randaugment=2x9,mixup=0.8,cutmix=1,erase=0.25",
     "as DeiT is trained: many epochs"},
    {"none", "", "nothing"}};

double ParsePartNumber(std::string_view text, std::string_view part, double least, double most) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !(value >= least) ||
      !(value <= most))
    FailUsage("--augment: '{}': expected a number from {} to {}", part, least, most);
  return value;
}

// "2x9"
void ParseRandAugment(std::string_view text, std::string_view part, Augment* augment) {
  const size_t x = text.find('x');
  if (x == text.npos)
    FailUsage("--augment: '{}': expected operations x magnitude, such as randaugment=2x9", part);
  augment->operations =
      static_cast<int>(ParsePartNumber(text.substr(0, x), part, 1, kMostOperations));
  augment->magnitude =
      static_cast<int>(ParsePartNumber(text.substr(x + 1), part, 0, kMagnitudes - 1));
}

void ParsePart(std::string_view part, Augment* augment) {
  const size_t equals = part.find('=');
  const std::string name(part.substr(0, equals));
  const std::string_view value = equals == part.npos ? "" : part.substr(equals + 1);
  const auto number = [&](double least, double most) {
    return ParsePartNumber(value, part, least, most);
  };
  if (name == "flip")
    augment->flip = equals == part.npos ? 0.5 : number(0, 1);
  else if (name == "crop")
    augment->crop = number(0.01, 1);
  else if (name == "erase")
    augment->erase = number(0, 1);
  else if (name == "mixup")
    augment->mixup = number(0, 100);
  else if (name == "cutmix")
    augment->cutmix = number(0, 100);
  else if (name == "randaugment")
    ParseRandAugment(value, part, augment);
  else
    FailUsage("--augment: '{}'{}", part,
              DidYouMean(name, {"flip", "crop", "erase", "mixup", "cutmix", "randaugment", "light",
                                "standard", "strong", "none"}));
}

// Beta(a, a) by Johnk's method: u^(1/a) of two numbers whose sum is at most 1.
double DrawBeta(const StreamKey& stream, double a) {
  for (uint64_t at = kLam;; at += 2) {
    // In (0, 1): a power of 0 would decide all.
    const double u = (RandomWord(stream, at) + 0.5) * 0x1p-32,
                 v = (RandomWord(stream, at + 1) + 0.5) * 0x1p-32;
    // By logarithms: for a small `a` both powers may be 0 in double.
    const double x = std::log(u) / a, y = std::log(v) / a, most = std::max(x, y);
    const double sum = most + std::log(std::exp(x - most) + std::exp(y - most));
    if (sum <= 0) return std::exp(x - sum);
  }
}

int DrawBelow(const StreamKey& stream, uint64_t position, int n) {
  return static_cast<int>((uint64_t{RandomWord(stream, position)} * static_cast<uint64_t>(n)) >>
                          32);
}

}  // namespace

Part CutAround(int x, int y, int size, double lam) {
  const int side = static_cast<int>(size * std::sqrt(1 - lam)), before = side / 2,
            after = (side + 1) / 2;
  const int left = std::max(x - before, 0), top = std::max(y - before, 0);
  return {left, top, std::min(x + after, size) - left, std::min(y + after, size) - top};
}

Augment ParseAugment(std::string_view text) {
  for (const AugmentPreset& preset : kPresets)
    if (text == preset.name) text = preset.text;
  Augment augment;
  while (!text.empty()) {
    const size_t comma = std::min(text.find(','), text.size());
    ParsePart(text.substr(0, comma), &augment);
    text.remove_prefix(std::min(comma + 1, text.size()));
  }
  return augment;
}

std::span<const AugmentPreset> AugmentPresets() { return kPresets; }

std::string ListAugment() {
  std::string text;
  for (const AugmentPreset& preset : kPresets)
    text += fmt::format("{:10}{:64}{}\n", preset.name, preset.text, preset.about);
  return text;
}

StreamKey AugmentStream(uint64_t seed, int64_t epoch, size_t example) {
  return {MakeKey(seed, Purpose::kData, "augmentation"), static_cast<uint64_t>(epoch),
          static_cast<uint32_t>(example)};
}

Part DrawPart(const StreamKey& stream, uint64_t position, int size, double least, double most,
              double least_aspect, double most_aspect, bool whole) {
  const double area = static_cast<double>(size) * size;
  for (int i = 0; i < kTries; ++i, position += 4) {
    const double target = area * (least + (most - least) * Uniform(stream, position));
    const double low = std::log(least_aspect), high = std::log(most_aspect);
    const double aspect = std::exp(low + (high - low) * Uniform(stream, position + 1));
    const int width = static_cast<int>(std::nearbyint(std::sqrt(target * aspect))),
              height = static_cast<int>(std::nearbyint(std::sqrt(target / aspect)));
    const int most_side = whole ? size : size - 1;  // what is erased is smaller in both directions
    if (width < 1 || width > most_side || height < 1 || height > most_side) continue;
    return {DrawBelow(stream, position + 2, size - width + 1),
            DrawBelow(stream, position + 3, size - height + 1), width, height};
  }
  return whole ? Part{0, 0, size, size} : Part{};
}

Image RandAugmentOperation(const Image& image, int number, int magnitude, bool negative) {
  const double share = magnitude / static_cast<double>(kMagnitudes - 1);
  const double sign = negative ? -1 : 1;
  const auto pixels = [&](int side) {
    return static_cast<int>(sign * share * (150.0 / 331.0 * side));
  };
  const double enhance = 1 + sign * 0.9 * share;
  switch (number) {
    case 1:
      return ShearX(image, sign * 0.3 * share);
    case 2:
      return ShearY(image, sign * 0.3 * share);
    case 3:
      return Translate(image, pixels(image.width), 0);
    case 4:
      return Translate(image, 0, pixels(image.height));
    case 5:
      return Rotate(image, sign * 30 * share);
    case 6:
      return Brightness(image, enhance);
    case 7:
      return Saturation(image, enhance);
    case 8:
      return Contrast(image, enhance);
    case 9:
      return Sharpness(image, enhance);
    case 10:
      return Posterize(image,
                       8 - static_cast<int>(std::nearbyint(magnitude / ((kMagnitudes - 1) / 4.0))));
    case 11:
      return Solarize(image, static_cast<int>(std::ceil(255 - 255 * share)));
    case 12:
      return AutoContrast(image);
    case 13:
      return Equalize(image);
    default:
      return image;
  }
}

Image AugmentImage(const Augment& augment, const StreamKey& stream, Image image, Filter filter) {
  const int size = image.width;
  if (augment.crop < 1) {
    const Part p = DrawPart(stream, kCrop, size, augment.crop, 1, 3.0 / 4, 4.0 / 3, true);
    Image cut{.width = p.width, .height = p.height, .rgb = {}};
    for (int y = p.top; y < p.top + p.height; ++y) {
      const auto row = image.rgb.begin() + 3 * (y * size + p.left);
      cut.rgb.insert(cut.rgb.end(), row, row + 3 * p.width);
    }
    image = Resize(cut, size, size, filter);
  }
  if (Uniform(stream, kFlip) < augment.flip) image = Mirror(image);
  for (int i = 0; i < augment.operations; ++i) {
    const uint64_t at = kOperations + 3 * static_cast<uint64_t>(i);
    image = RandAugmentOperation(image, DrawBelow(stream, at, 14), augment.magnitude,
                                 Uniform(stream, at + 1) < 0.5f);
  }
  return image;
}

Part DrawErased(const Augment& augment, const StreamKey& stream, int size) {
  if (!(Uniform(stream, kErase) < augment.erase)) return {};
  return DrawPart(stream, kErased, size, 0.02, 0.33, 0.3, 3.3, false);
}

void Erase(const Part& part, int size, float* image) {
  for (int c = 0; c < 3; ++c)
    for (int y = part.top; y < part.top + part.height; ++y)
      std::fill_n(image + (c * size + y) * size + part.left, part.width, 0.0f);
}

Mix DrawMix(const Augment& augment, const StreamKey& stream, int size) {
  if (!augment.mixes()) return {};
  const bool both = augment.mixup > 0 && augment.cutmix > 0;
  const bool cut = both ? Uniform(stream, kSwitch) < 0.5f : augment.cutmix > 0;
  Mix mix{.lam = DrawBeta(stream, cut ? augment.cutmix : augment.mixup), .cut = cut};
  if (!cut) return mix;
  mix.part = CutAround(DrawBelow(stream, kSwitch + 2, size), DrawBelow(stream, kSwitch + 3, size),
                       size, mix.lam);
  // The share that is left, after what fell outside.
  mix.lam = 1 - static_cast<double>(mix.part.width) * mix.part.height / size / size;
  return mix;
}

void MixInto(const Mix& mix, int size, const float* other, float* image) {
  const float lam = static_cast<float>(mix.lam), rest = static_cast<float>(1 - mix.lam);
  if (!mix.cut) {
    for (int i = 0; i < 3 * size * size; ++i) image[i] = lam * image[i] + rest * other[i];
    return;
  }
  const Part& p = mix.part;
  for (int c = 0; c < 3; ++c)
    for (int y = p.top; y < p.top + p.height; ++y) {
      const int at = (c * size + y) * size + p.left;
      std::copy_n(other + at, p.width, image + at);
    }
}

}  // namespace graft
