// Reads TIFF through libtiff: the first picture, turned by its orientation as PIL does. Grey,
// palette and RGB of the usual depths, with or without alpha, in strips or tiles, also with JPEG
// inside.
#include <tiffio.h>

#include <algorithm>
#include <array>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <memory>

#include "data/exif.h"
#include "data/image_decoders.h"
#include "runtime/error.h"

namespace graft {
namespace {

// The file in memory as libtiff asks for it, and the first complaint of libtiff.
struct TiffSource {
  ImageBytes bytes;
  uint64_t at = 0;
  std::string error = {};
};

TiffSource* TiffSourceOf(thandle_t handle) { return static_cast<TiffSource*>(handle); }

tmsize_t ReadTiff(thandle_t handle, void* out, tmsize_t count) {
  TiffSource* s = TiffSourceOf(handle);
  const uint64_t left = s->at < s->bytes.size() ? s->bytes.size() - s->at : 0;
  const uint64_t n = std::min<uint64_t>(left, static_cast<uint64_t>(std::max<tmsize_t>(count, 0)));
  if (n > 0) std::memcpy(out, s->bytes.data() + s->at, n);
  s->at += n;
  return static_cast<tmsize_t>(n);
}
tmsize_t WriteTiff(thandle_t, void*, tmsize_t) { return 0; }
toff_t SeekTiff(thandle_t handle, toff_t offset, int whence) {
  TiffSource* s = TiffSourceOf(handle);
  const uint64_t from = whence == SEEK_CUR ? s->at : whence == SEEK_END ? s->bytes.size() : 0;
  return s->at = from + offset;
}
int CloseTiffSource(thandle_t) { return 0; }
toff_t TiffSize(thandle_t handle) { return TiffSourceOf(handle)->bytes.size(); }

int OnTiffError(TIFF*, void* user, const char*, const char* format, va_list args) {
  auto* s = static_cast<TiffSource*>(user);
  char text[256];
  std::vsnprintf(text, sizeof text, format, args);
  if (s->error.empty()) s->error = text;
  return 1;  // said nowhere else
}
int OnTiffWarning(TIFF*, void*, const char*, const char*, va_list) { return 1; }

using Tiff = std::unique_ptr<TIFF, decltype(&TIFFClose)>;

Tiff OpenTiff(TiffSource* source) {
  constexpr tmsize_t kMostAtOnce = tmsize_t{1} << 30;
  const std::unique_ptr<TIFFOpenOptions, decltype(&TIFFOpenOptionsFree)> options(
      TIFFOpenOptionsAlloc(), TIFFOpenOptionsFree);
  TIFFOpenOptionsSetErrorHandlerExtR(options.get(), OnTiffError, source);
  TIFFOpenOptionsSetWarningHandlerExtR(options.get(), OnTiffWarning, nullptr);
  TIFFOpenOptionsSetMaxSingleMemAlloc(options.get(), kMostAtOnce);
  return {TIFFClientOpenExt("image", "rm", source, ReadTiff, WriteTiff, SeekTiff, CloseTiffSource,
                            TiffSize, nullptr, nullptr, options.get()),
          TIFFClose};
}

struct TiffLayout {
  uint32_t width = 0, height = 0;
  uint16_t bits = 1, samples = 1, photometric = 0, planar = PLANARCONFIG_CONTIG, compression = 1;
  uint16_t alpha = EXTRASAMPLE_UNSPECIFIED;  // of the first extra sample
  size_t colours = 1;                        // samples that are no extra ones
  bool tiled = false;
  uint32_t block_width = 0, block_height = 0;  // of a strip or tile
};

TiffLayout ReadTiffLayout(TIFF* tiff) {
  TiffLayout l;
  TIFFGetField(tiff, TIFFTAG_IMAGEWIDTH, &l.width);
  TIFFGetField(tiff, TIFFTAG_IMAGELENGTH, &l.height);
  TIFFGetFieldDefaulted(tiff, TIFFTAG_BITSPERSAMPLE, &l.bits);
  TIFFGetFieldDefaulted(tiff, TIFFTAG_SAMPLESPERPIXEL, &l.samples);
  TIFFGetFieldDefaulted(tiff, TIFFTAG_PLANARCONFIG, &l.planar);
  TIFFGetFieldDefaulted(tiff, TIFFTAG_COMPRESSION, &l.compression);
  TIFFGetField(tiff, TIFFTAG_PHOTOMETRIC, &l.photometric);
  uint16_t extra = 0;
  uint16_t* kinds = nullptr;
  if (TIFFGetField(tiff, TIFFTAG_EXTRASAMPLES, &extra, &kinds) && extra > 0) l.alpha = kinds[0];
  l.colours = l.photometric == PHOTOMETRIC_RGB || l.photometric == PHOTOMETRIC_YCBCR ? 3 : 1;
  l.tiled = TIFFIsTiled(tiff) != 0;
  l.block_width = l.width;
  if (l.tiled) {
    TIFFGetField(tiff, TIFFTAG_TILEWIDTH, &l.block_width);
    TIFFGetField(tiff, TIFFTAG_TILELENGTH, &l.block_height);
  } else {
    TIFFGetFieldDefaulted(tiff, TIFFTAG_ROWSPERSTRIP, &l.block_height);
    l.block_height = std::min(l.block_height, l.height);
  }
  return l;
}

void RefuseOtherTiffs(TIFF* tiff, const TiffLayout& l, std::string_view name) {
  uint16_t format = SAMPLEFORMAT_UINT;
  TIFFGetFieldDefaulted(tiff, TIFFTAG_SAMPLEFORMAT, &format);
  const bool grey =
      l.photometric == PHOTOMETRIC_MINISBLACK || l.photometric == PHOTOMETRIC_MINISWHITE;
  const bool indexed = l.photometric == PHOTOMETRIC_PALETTE;
  const bool ycbcr = l.photometric == PHOTOMETRIC_YCBCR && l.compression == COMPRESSION_JPEG &&
                     l.planar == PLANARCONFIG_CONTIG && l.samples == 3;
  const bool small = l.bits == 1 || l.bits == 2 || l.bits == 4;
  const bool bytes = l.bits == 8 || (l.bits == 16 && !indexed && !ycbcr);
  const bool premultiplied = l.samples > l.colours && l.alpha == EXTRASAMPLE_ASSOCALPHA;
  const bool fits = l.samples >= l.colours && l.samples <= 6 &&
                    (bytes || (small && l.samples == 1 && l.colours == 1));
  if (format == SAMPLEFORMAT_UINT && fits &&
      (((grey || indexed) && !premultiplied) || l.photometric == PHOTOMETRIC_RGB || ycbcr))
    return;
  Fail(
      "{}: a TIFF image with {} samples of {} bits, photometric interpretation {}, sample format "
      "{}; expected grey, palette or RGB of at most 16 bits; hint: save it as PNG",
      name, l.samples, l.bits, l.photometric, format);
}

// Turns samples into RGB.
class TiffColours {
 public:
  TiffColours(TIFF* tiff, const TiffLayout& l) : l_(l) {
    uint16_t* map[3] = {};
    if (l.photometric == PHOTOMETRIC_PALETTE &&
        TIFFGetField(tiff, TIFFTAG_COLORMAP, &map[0], &map[1], &map[2]))
      for (size_t i = 0; i < size_t{1} << l.bits; ++i)
        for (size_t c = 0; c < 3; ++c) palette_[i][c] = static_cast<uint8_t>(map[c][i] >> 8);
  }

  // `samples` are those of one pixel as they are stored: l.samples of them, or the one of one
  // plane.
  void Put(const std::array<uint32_t, 6>& samples, uint8_t* rgb) const {
    if (l_.photometric == PHOTOMETRIC_PALETTE) {
      std::copy_n(palette_[samples[0] & 255].data(), 3, rgb);
    } else if (l_.colours == 1) {
      std::fill_n(rgb, 3, Grey(samples[0]));
    } else {
      const uint32_t alpha = l_.bits == 16 ? samples[3] >> 8 : samples[3];
      const bool divide = l_.samples > 3 && l_.alpha == EXTRASAMPLE_ASSOCALPHA;
      for (size_t c = 0; c < 3; ++c) {
        const uint32_t value = l_.bits == 16 ? samples[c] >> 8 : samples[c];
        rgb[c] = static_cast<uint8_t>(!divide      ? value
                                      : alpha == 0 ? 0
                                                   : std::min(255u, 255 * value / alpha));
      }
    }
  }

 private:
  // 16 bits are clipped, as in a PNG.
  uint8_t Grey(uint32_t value) const {
    if (l_.bits == 16) return static_cast<uint8_t>(std::min(value, 255u));
    const uint32_t most = (1u << l_.bits) - 1;
    if (l_.photometric == PHOTOMETRIC_MINISWHITE) value = most - value;
    return static_cast<uint8_t>(value * 255 / most);
  }

  const TiffLayout& l_;
  std::array<std::array<uint8_t, 3>, 256> palette_{};
};

uint32_t TiffSample(const std::vector<uint8_t>& row, size_t offset, size_t index, uint32_t bits) {
  if (bits == 8) return row[offset + index];
  if (bits == 16) {
    uint16_t value;
    std::memcpy(&value, &row[offset + 2 * index], 2);
    return value;
  }
  const size_t bit = index * bits;
  return row[offset + bit / 8] >> (8 - bits - bit % 8) & ((1u << bits) - 1);
}

// Puts the pixels of strips or tiles at (left, top), of one plane or of all.
class TiffBlocks {
 public:
  TiffBlocks(TIFF* tiff, const TiffSource& source, const TiffLayout& l, std::string_view name)
      : tiff_(tiff), source_(source), l_(l), name_(name) {
    row_bytes_ = static_cast<size_t>(l.tiled ? TIFFTileRowSize64(tiff) : TIFFScanlineSize64(tiff));
    planes_ = l.planar == PLANARCONFIG_SEPARATE ? std::min<size_t>(l.samples, 4) : 1;
    const size_t per_row = planes_ > 1 ? 1 : l.samples;
    if (row_bytes_ < (size_t{l.block_width} * l.bits * per_row + 7) / 8 || l.block_height == 0)
      Fail("{}: not a valid TIFF image: its tags contradict each other", name);
  }

  size_t bytes() const { return planes_ * row_bytes_ * l_.block_height; }

  void ReadInto(Image& image) {
    const TiffColours colours(tiff_, l_);
    data_.resize(planes_);
    for (std::vector<uint8_t>& plane : data_) plane.assign(row_bytes_ * l_.block_height, 0);
    for (uint32_t top = 0; top < l_.height; top += l_.block_height)
      for (uint32_t left = 0; left < l_.width; left += l_.block_width) {
        for (size_t plane = 0; plane < planes_; ++plane) Read(left, top, plane);
        Convert(colours, left, top, image);
      }
  }

 private:
  void Read(uint32_t left, uint32_t top, size_t plane) {
    const auto p = static_cast<uint16_t>(plane);
    const auto size = static_cast<tmsize_t>(data_[plane].size());
    const tmsize_t n = l_.tiled
                           ? TIFFReadEncodedTile(tiff_, TIFFComputeTile(tiff_, left, top, 0, p),
                                                 data_[plane].data(), size)
                           : TIFFReadEncodedStrip(tiff_, TIFFComputeStrip(tiff_, top, p),
                                                  data_[plane].data(), size);
    const uint32_t rows = l_.tiled ? l_.block_height : std::min(l_.block_height, l_.height - top);
    if (n < static_cast<tmsize_t>(row_bytes_ * rows))
      Fail("{}: not a valid TIFF image, or it is truncated: {}", name_,
           source_.error.empty() ? "too few pixels" : source_.error);
  }

  void Convert(const TiffColours& colours, uint32_t left, uint32_t top, Image& image) const {
    const uint32_t rows = std::min(l_.block_height, l_.height - top);
    const uint32_t columns = std::min(l_.block_width, l_.width - left);
    const size_t samples = planes_ > 1 ? planes_ : l_.samples;
    std::array<uint32_t, 6> values{};
    for (size_t y = 0; y < rows; ++y) {
      uint8_t* out = &image.rgb[3 * ((top + y) * size_t{l_.width} + left)];
      for (size_t x = 0; x < columns; ++x, out += 3) {
        for (size_t s = 0; s < samples; ++s)
          values[s] = planes_ > 1 ? TiffSample(data_[s], y * row_bytes_, x, l_.bits)
                                  : TiffSample(data_[0], y * row_bytes_, x * samples + s, l_.bits);
        colours.Put(values, out);
      }
    }
  }

  TIFF* tiff_;
  const TiffSource& source_;
  const TiffLayout& l_;
  std::string_view name_;
  size_t row_bytes_ = 0, planes_ = 1;
  std::vector<std::vector<uint8_t>> data_;  // of one block, by plane
};

}  // namespace

Image DecodeTiff(ImageBytes bytes, std::string_view name, const DecodeCheck& check) {
  TiffSource source{bytes};
  const Tiff tiff = OpenTiff(&source);
  if (!tiff) Fail("{}: not a valid TIFF image: {}", name, source.error);
  const TiffLayout layout = ReadTiffLayout(tiff.get());
  CheckImageSize(layout.width, layout.height, name);
  CheckImageSize(layout.block_width, layout.block_height, name);
  RefuseOtherTiffs(tiff.get(), layout, name);
  if (!TIFFIsCODECConfigured(layout.compression))
    Fail("{}: a TIFF image of compression {}, which libtiff does not read; hint: save it as PNG",
         name, layout.compression);
  if (layout.photometric == PHOTOMETRIC_YCBCR)
    TIFFSetField(tiff.get(), TIFFTAG_JPEGCOLORMODE, JPEGCOLORMODE_RGB);
  TiffBlocks blocks(tiff.get(), source, layout, name);
  uint16_t orientation = 1;
  TIFFGetFieldDefaulted(tiff.get(), TIFFTAG_ORIENTATION, &orientation);
  const bool turned = orientation >= 2 && orientation <= 8;
  const auto size = static_cast<int64_t>(blocks.bytes());
  const int64_t copy = turned ? 3 * int64_t{layout.width} * layout.height : 0;
  const bool lies = turned && orientation >= 5;
  Image image = Begin(bytes, lies ? layout.height : layout.width,
                      lies ? layout.width : layout.height, 2 * size + copy, check);
  if (lies) std::swap(image.width, image.height);
  image.rgb.resize(size_t{3} * layout.width * layout.height);
  blocks.ReadInto(image);
  if (!turned) return image;
  image.orientation = orientation;
  return Upright(image);
}

}  // namespace graft
