// Random changes of training images, on the sample that --preprocess makes (bytes, size x size):
//
//   crop=S           a part of S to 1 of the area and 3/4 to 4/3 of the aspect, resized back
//   flip[=P]         left and right change places, with probability P (0.5)
//   randaugment=NxM  N of 14 operations, drawn with equal chance, of magnitude M of 0 .. 30, as
//                    torchvision's RandAugment (that of timm has other operations and ranges)
//   erase=P          with probability P a part of 0.02 to 0.33 of the area and 0.3 to 3.3 of the
//                    aspect becomes the mean colour, as in torchvision's RandomErasing
//   mixup=A          lam x + (1 - lam) x', lam ~ Beta(A, A), x' the image of the batch in the
//                    opposite place; the loss is mixed likewise (Zhang et al. 2018; as in timm)
//   cutmix=A         a part of the area 1 - lam comes from x' (Yun et al. 2019; as in timm)
//
// They are applied in this order; of mixup and cutmix a batch gets one, with equal chance.
// Everything drawn is a function of seed, epoch and example (for mixup and cutmix, of the first
// example of the batch). tests/parity/check_augment.py compares them with both libraries.
#pragma once
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/image.h"
#include "data/resize.h"
#include "runtime/rng.h"

namespace graft {

struct Augment {
  double crop = 1, flip = 0, erase = 0, mixup = 0, cutmix = 0;
  int operations = 0, magnitude = 0;  // of randaugment
  bool operator==(const Augment&) const = default;
  bool any() const { return *this != Augment{}; }
  bool mixes() const { return mixup > 0 || cutmix > 0; }
};

// Parses a text such as "flip,crop=0.8,mixup=0.2", "" or the name of a preset. Throws Error
// (kUsage) naming the part, with the nearest name.
Augment ParseAugment(std::string_view text);
struct AugmentPreset {
  std::string_view name, text, about;
};
std::span<const AugmentPreset> AugmentPresets();
std::string ListAugment();  // a line for each preset

// The stream of an example's draws, as a function of the run's seed, the epoch and the example.
StreamKey AugmentStream(uint64_t seed, int64_t epoch, size_t example);

// A part of an image, as torchvision's RandomResizedCrop and RandomErasing draw it from a square of
// this size: ten tries; then `whole` decides between all of it and nothing.
struct Part {
  int left = 0, top = 0, width = 0, height = 0;
};
Part DrawPart(const StreamKey& stream, uint64_t position, int size, double least, double most,
              double least_aspect, double most_aspect, bool whole);

// Applies operation `number` (0 .. 13) of RandAugment at this magnitude, which is `negative` where
// the operation has a sign.
Image RandAugmentOperation(const Image& image, int number, int magnitude, bool negative);

// Applies crop, flip and randaugment.
Image AugmentImage(const Augment& augment, const StreamKey& stream, Image image, Filter filter);
// Draws the part to erase; its size is 0 if there is none.
Part DrawErased(const Augment& augment, const StreamKey& stream, int size);
// Sets the part of [3,size,size] to 0, the mean of normalised images.
void Erase(const Part& part, int size, float* image);

// How the images of a batch are mixed with those in the opposite places.
struct Mix {
  double lam = 1;    // share of the image itself in its loss
  bool cut = false;  // `part` comes from the other; else all is mixed
  Part part = {};
};
// The square of side size * sqrt(1 - lam) around a pixel, as far as it is inside, as in timm. If
// the side is odd, its larger half lies right of the pixel and below it.
Part CutAround(int x, int y, int size, double lam);
Mix DrawMix(const Augment& augment, const StreamKey& stream, int size);
// image <- image mixed with other, both [3,size,size].
void MixInto(const Mix& mix, int size, const float* other, float* image);

}  // namespace graft
