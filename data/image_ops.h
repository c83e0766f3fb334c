// Operations on RGB images, byte for byte those of Pillow 13 (ImageOps, ImageEnhance,
// Image.transform), as torchvision's RandAugment calls them on PIL images.
#pragma once
#include <array>

#include "data/image.h"

namespace graft {

Image Mirror(const Image& image);  // left and right change places

// The functions of ImageEnhance (Saturation is its Color). Factor 1 leaves the image as it is; 0
// makes it black, grey, the mean of its grey, or smoothed; beyond 1 the effect is the opposite.
Image Brightness(const Image& image, double factor);
Image Saturation(const Image& image, double factor);
Image Contrast(const Image& image, double factor);
Image Sharpness(const Image& image, double factor);

Image Posterize(const Image& image, int bits);      // keeps the highest bits of each value
Image Solarize(const Image& image, int threshold);  // inverts values from the threshold on
Image AutoContrast(const Image& image);             // each channel's least becomes 0, its most 255
Image Equalize(const Image& image);                 // each channel's histogram becomes flat

// Image.transform(AFFINE, NEAREST): pixel (x, y) of the result is the one at
// (a x + b y + c, d x + e y + f) of the image, black outside.
Image Affine(const Image& image, const std::array<double, 6>& matrix);
// The matrices of torchvision's affine(shear=atan(by), center=[0, 0]), affine(translate) and
// rotate, the latter in degrees against the clock around the middle.
Image ShearX(const Image& image, double by);
Image ShearY(const Image& image, double by);
Image Translate(const Image& image, int right, int down);
Image Rotate(const Image& image, double degrees);

}  // namespace graft
