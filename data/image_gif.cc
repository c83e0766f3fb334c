// Reads GIF through giflib: the first frame on the canvas, as PIL takes it. Pixels that the frame
// does not cover have the transparent colour, or colour 0.
#include <gif_lib.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>

#include "data/image_decoders.h"
#include "runtime/error.h"

namespace graft {
namespace {

struct GifSource {
  ImageBytes bytes;
  size_t at = 0;
};

int ReadGif(GifFileType* gif, GifByteType* out, int count) {
  auto* source = static_cast<GifSource*>(gif->UserData);
  const size_t n =
      std::min(static_cast<size_t>(std::max(count, 0)), source->bytes.size() - source->at);
  if (n > 0) std::memcpy(out, source->bytes.data() + source->at, n);
  source->at += n;
  return static_cast<int>(n);
}

void CloseGif(GifFileType* gif) {
  int error = 0;
  DGifCloseFile(gif, &error);
}
using Gif = std::unique_ptr<GifFileType, decltype(&CloseGif)>;

[[noreturn]] void FailGif(std::string_view name, int error) {
  const char* reason = GifErrorString(error);
  if (error == D_GIF_ERR_READ_FAILED || error == D_GIF_ERR_EOF_TOO_SOON)
    Fail("{}: file is truncated: the GIF image ends too early", name);
  Fail("{}: not a valid GIF image: {}", name, reason ? reason : "no image in it");
}

void RequireGif(int result, const GifFileType& gif, std::string_view name) {
  if (result != GIF_OK) FailGif(name, gif.Error);
}

// Goes to the first image, and returns the transparent colour or -1.
int FindImage(GifFileType* gif, std::string_view name) {
  int transparent = -1;
  while (true) {
    GifRecordType record;
    RequireGif(DGifGetRecordType(gif, &record), *gif, name);
    if (record == IMAGE_DESC_RECORD_TYPE) return transparent;
    if (record == TERMINATE_RECORD_TYPE) Fail("{}: not a valid GIF image: no image in it", name);
    if (record != EXTENSION_RECORD_TYPE) continue;
    int code = 0;
    GifByteType* block = nullptr;  // its length and its bytes
    RequireGif(DGifGetExtension(gif, &code, &block), *gif, name);
    GraphicsControlBlock control;
    if (code == GRAPHICS_EXT_FUNC_CODE && block &&
        DGifExtensionToGCB(block[0], block + 1, &control) == GIF_OK)
      transparent = control.TransparentColor;
    while (block) RequireGif(DGifGetExtensionNext(gif, &block), *gif, name);
  }
}

using GifPalette = std::array<std::array<uint8_t, 3>, 256>;

// Without a palette an index is a grey value. Colours that a palette lacks are black, unless it
// says nothing but grey.
GifPalette GifPaletteOf(const ColorMapObject* map) {
  GifPalette palette{};
  bool grey = true;
  for (int i = 0; map && i < std::min(map->ColorCount, 256); ++i) {
    const GifColorType& c = map->Colors[i];
    palette[i] = {c.Red, c.Green, c.Blue};
    grey = grey && c.Red == i && c.Green == i && c.Blue == i;
  }
  for (size_t i = 0; grey && i < 256; ++i) palette[i].fill(static_cast<uint8_t>(i));
  return palette;
}

// The row of the n-th line that is stored.
int GifRow(int line, int height, bool interlaced) {
  if (!interlaced) return line;
  constexpr int kFirst[] = {0, 4, 2, 1}, kStep[] = {8, 8, 4, 2};
  for (int pass = 0; pass < 4; ++pass) {
    const int lines = (height - kFirst[pass] + kStep[pass] - 1) / kStep[pass];
    if (line < lines) return kFirst[pass] + line * kStep[pass];
    line -= std::max(lines, 0);
  }
  return 0;
}

}  // namespace

Image DecodeGif(ImageBytes bytes, std::string_view name, const DecodeCheck& check) {
  GifSource source{bytes};
  int error = 0;
  const Gif gif(DGifOpen(&source, ReadGif, &error), CloseGif);
  if (!gif) FailGif(name, error);
  const int transparent = FindImage(gif.get(), name);
  RequireGif(DGifGetImageDesc(gif.get()), *gif, name);
  const GifImageDesc& frame = gif->Image;
  const int width = std::max(gif->SWidth, frame.Left + frame.Width);
  const int height = std::max(gif->SHeight, frame.Top + frame.Height);
  CheckImageSize(width, height, name);
  Image image = Begin(bytes, width, height, frame.Width, check);
  const GifPalette palette = GifPaletteOf(frame.ColorMap ? frame.ColorMap : gif->SColorMap);
  image.rgb.resize(size_t{3} * static_cast<size_t>(width) * static_cast<size_t>(height));
  const auto& background = palette[static_cast<size_t>(std::max(transparent, 0)) % 256];
  for (size_t i = 0; i < image.rgb.size(); ++i) image.rgb[i] = background[i % 3];
  std::vector<GifPixelType> line(frame.Width);
  for (int i = 0; i < frame.Height && frame.Width > 0; ++i) {
    RequireGif(DGifGetLine(gif.get(), line.data(), frame.Width), *gif, name);
    const int y = frame.Top + GifRow(i, frame.Height, frame.Interlace);
    uint8_t* out = &image.rgb[3 * (static_cast<size_t>(y) * static_cast<size_t>(width) +
                                   static_cast<size_t>(frame.Left))];
    for (const GifPixelType index : line) out = std::copy_n(palette[index].data(), 3, out);
  }
  return image;
}

}  // namespace graft
