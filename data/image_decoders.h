// The decoders that image.cc chooses from; private to data/. Each gets bytes that begin with the
// magic of its format, and begins the message of an Error with `name`.
#pragma once
#include <cstddef>
#include <span>
#include <string_view>

#include "data/image.h"

namespace graft {

using ImageBytes = std::span<const std::byte>;

Image DecodeJpeg(ImageBytes bytes, std::string_view name, const DecodeCheck& check);
Image DecodePng(ImageBytes bytes, std::string_view name, const DecodeCheck& check);
Image DecodePnm(ImageBytes bytes, std::string_view name, const DecodeCheck& check);
Image DecodeWebp(ImageBytes bytes, std::string_view name, const DecodeCheck& check);
Image DecodeGif(ImageBytes bytes, std::string_view name, const DecodeCheck& check);
Image DecodeBmp(ImageBytes bytes, std::string_view name, const DecodeCheck& check);
Image DecodeTiff(ImageBytes bytes, std::string_view name, const DecodeCheck& check);

// Begins an image without its pixels, and calls `check`. `buffers` are the bytes that the decoder
// needs beside the file and the pixels.
Image Begin(ImageBytes bytes, int64_t width, int64_t height, int64_t buffers,
            const DecodeCheck& check);

// Throws Error unless 0 < width, 0 < height and their product is at most kMaxImagePixels. Decoders
// call it as soon as they have read the header.
void CheckImageSize(int64_t width, int64_t height, std::string_view name);

// Throws the "file is truncated" error if `bytes` cannot hold `least` bytes. It keeps a header of a
// few bytes that announces a huge picture from costing a huge allocation.
void CheckImageBytes(ImageBytes bytes, int64_t least, std::string_view name);

}  // namespace graft
