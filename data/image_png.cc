// Reads PNG through libspng. Samples are taken as stored (packed bits, big-endian words) and
// converted here, because PIL's rules are not spng's: alpha is dropped, 16-bit grey is clipped
// while 16-bit colour keeps its high byte, and a colour missing from the palette is black.
#include <spng.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "data/image_decoders.h"
#include "runtime/error.h"

namespace graft {
namespace {

struct SpngDeleter {
  void operator()(spng_ctx* context) const { spng_ctx_free(context); }
};
using Spng = std::unique_ptr<spng_ctx, SpngDeleter>;

// Texts and colour profiles may be compressed a thousandfold. One of more than 1 MiB, as in PIL, or
// larger than the file is refused, as libspng inflates it into a buffer that it doubles. All of
// them together have the second bound.
constexpr size_t kMaxChunkBytes = size_t{2} << 20, kMaxMetadataBytes = size_t{16} << 20;

// Deflate cannot shrink data by more.
constexpr size_t kMaxDeflate = 1032;

void Expect(int code, std::string_view name) {
  if (code == SPNG_OK) return;
  if (code == SPNG_IO_EOF || code == SPNG_EOF || code == SPNG_EIDAT_TOO_SHORT)
    Fail("{}: file is truncated: the PNG data end before the image does", name);
  if (code == SPNG_ECHUNK_LIMITS)
    Fail("{}: a text or colour profile of more than 1 MiB, or 16 MiB in all; hint: save it without",
         name);
  if (code == SPNG_ENOPLTE) Fail("{}: not a valid PNG file: a palette image has no palette", name);
  Fail("{}: not a valid PNG file: {}", name, spng_strerror(code));
}

struct PngInfo {
  size_t width, height;
  int depth, type, channels;
  bool interlaced;
  size_t row_bytes() const { return (width * static_cast<size_t>(channels * depth) + 7) / 8; }
};

int Channels(int type) {
  switch (type) {
    case SPNG_COLOR_TYPE_GRAYSCALE_ALPHA:
      return 2;
    case SPNG_COLOR_TYPE_TRUECOLOR:
      return 3;
    case SPNG_COLOR_TYPE_TRUECOLOR_ALPHA:
      return 4;
    default:
      return 1;
  }
}

using Colors = std::array<std::array<uint8_t, 3>, 256>;

// The RGB values for every possible sample of a one-channel image of at most 8 bits.
Colors PaletteColors(spng_ctx* context, std::string_view name) {
  spng_plte palette{};
  const int code = spng_get_plte(context, &palette);
  Expect(code == SPNG_ECHUNKAVAIL ? SPNG_ENOPLTE : code, name);
  Colors colors{};
  for (size_t i = 0; i < std::min<size_t>(palette.n_entries, 256); ++i)
    colors[i] = {palette.entries[i].red, palette.entries[i].green, palette.entries[i].blue};
  return colors;
}

Colors GreyColors(int depth) {
  Colors colors{};
  const int top = (1 << depth) - 1;
  for (int i = 0; i <= top; ++i) {
    const auto v = static_cast<uint8_t>(i * 255 / top);
    colors[i] = {v, v, v};
  }
  return colors;
}

// Looks up one channel of 1, 2, 4 or 8 bits a sample, most significant first.
void LookUpRow(const uint8_t* in, const PngInfo& png, const Colors& colors, uint8_t* out) {
  const auto depth = static_cast<size_t>(png.depth), per_byte = 8 / depth;
  for (size_t x = 0; x < png.width; ++x) {
    const size_t shift = 8 - depth * (x % per_byte + 1);
    const size_t sample = (in[x / per_byte] >> shift) & ((1u << depth) - 1);
    std::copy_n(colors[sample].data(), 3, out + 3 * x);
  }
}

// Converts everything else: 8 or 16 bits (big-endian), two to four channels, or 16-bit grey.
void ConvertRow(const uint8_t* in, const PngInfo& png, uint8_t* out) {
  const size_t bytes = png.depth == 16 ? 2 : 1;
  const size_t pixel = bytes * static_cast<size_t>(png.channels);
  const bool color = png.channels >= 3;
  const bool clip = png.type == SPNG_COLOR_TYPE_GRAYSCALE;  // only 16-bit grey arrives here
  for (size_t x = 0; x < png.width; ++x, in += pixel, out += 3) {
    for (size_t c = 0; c < 3; ++c) {
      const uint8_t* sample = in + (color ? c * bytes : 0);
      out[c] = clip ? (sample[0] ? uint8_t{255} : sample[1]) : sample[0];
    }
  }
}

// The sizes are where every PNG has them, behind the signature and IHDR's length and name. They are
// checked before libspng checks them, as its message for a huge image is only "arithmetic
// overflow".
void CheckHeaderSize(ImageBytes bytes, std::string_view name) {
  if (bytes.size() < 24) return;  // truncated, as libspng will say
  const auto side = [bytes](size_t at) {
    int64_t value = 0;
    for (size_t i = 0; i < 4; ++i) value = value << 8 | std::to_integer<int64_t>(bytes[at + i]);
    return value;
  };
  CheckImageSize(side(16), side(20), name);
}

// What libspng may keep of the chunks that are not pixels.
size_t MetadataBytes(ImageBytes bytes) {
  size_t total = 0;
  for (size_t at = 8; at + 12 <= bytes.size() && total < kMaxMetadataBytes;) {
    size_t length = 0;
    for (size_t i = 0; i < 4; ++i) length = length << 8 | std::to_integer<size_t>(bytes[at + i]);
    const std::string_view type(reinterpret_cast<const char*>(&bytes[at + 4]), 4);
    const bool deflated = type == "zTXt" || type == "iTXt" || type == "iCCP";
    if (type != "IDAT") total += deflated ? std::min(kMaxChunkBytes, kMaxDeflate * length) : length;
    at += 12 + std::min(length, bytes.size());
  }
  return std::min(total, kMaxMetadataBytes);
}

PngInfo ReadHeader(spng_ctx* context, ImageBytes bytes, std::string_view name) {
  CheckHeaderSize(bytes, name);
  Expect(spng_set_chunk_limits(context, std::max(bytes.size(), kMaxChunkBytes), kMaxMetadataBytes),
         name);
  Expect(spng_set_png_buffer(context, bytes.data(), bytes.size()), name);
  spng_ihdr header{};
  Expect(spng_get_ihdr(context, &header), name);
  const PngInfo png{header.width,
                    header.height,
                    header.bit_depth,
                    header.color_type,
                    Channels(header.color_type),
                    header.interlace_method != SPNG_INTERLACE_NONE};
  CheckImageBytes(bytes, static_cast<int64_t>(png.row_bytes() * png.height / kMaxDeflate), name);
  return png;
}

// The rows as they are stored, one after the other; an interlaced image comes as a whole.
class PngRows {
 public:
  PngRows(spng_ctx* context, const PngInfo& png, std::string_view name)
      : context_(context), png_(png), name_(name) {
    raw_.resize(png.interlaced ? png.row_bytes() * png.height : png.row_bytes());
    Expect(spng_decode_image(context, png.interlaced ? raw_.data() : nullptr,
                             png.interlaced ? raw_.size() : 0, SPNG_FMT_RAW,
                             png.interlaced ? 0 : SPNG_DECODE_PROGRESSIVE),
           name);
  }
  const uint8_t* Next() {
    const size_t row = row_++;
    if (png_.interlaced) return raw_.data() + row * png_.row_bytes();
    const int code = spng_decode_row(context_, raw_.data(), raw_.size());
    Expect(code == SPNG_EOI && row_ == png_.height ? SPNG_OK : code, name_);
    return raw_.data();
  }

 private:
  spng_ctx* context_;
  const PngInfo& png_;
  std::string_view name_;
  std::vector<uint8_t> raw_;
  size_t row_ = 0;
};

}  // namespace

Image DecodePng(ImageBytes bytes, std::string_view name, const DecodeCheck& check) {
  const Spng context(spng_ctx_new(0));
  if (!context) Fail("{}: out of memory", name);
  const PngInfo png = ReadHeader(context.get(), bytes, name);
  constexpr size_t kInflate = 256 << 10;  // zlib's window and libspng's buffers
  const size_t buffers =
      kInflate + MetadataBytes(bytes) + png.row_bytes() * (png.interlaced ? png.height + 2 : 4);
  Image image = Begin(bytes, static_cast<int64_t>(png.width), static_cast<int64_t>(png.height),
                      static_cast<int64_t>(buffers), check);

  const bool look_up = png.channels == 1 && png.depth <= 8;
  Colors colors{};
  if (look_up)  // before the pixels: a file cut behind them still has its palette
    colors = png.type == SPNG_COLOR_TYPE_INDEXED ? PaletteColors(context.get(), name)
                                                 : GreyColors(png.depth);
  image.rgb.resize(3 * png.width * png.height);
  const bool direct = png.type == SPNG_COLOR_TYPE_TRUECOLOR && png.depth == 8;
  if (direct) {
    Expect(spng_decode_image(context.get(), image.rgb.data(), image.rgb.size(), SPNG_FMT_RAW, 0),
           name);
    return image;
  }
  PngRows rows(context.get(), png, name);
  for (size_t y = 0; y < png.height; ++y) {
    uint8_t* out = image.rgb.data() + 3 * y * png.width;
    if (look_up)
      LookUpRow(rows.Next(), png, colors, out);
    else
      ConvertRow(rows.Next(), png, out);
  }
  return image;
}

std::vector<std::byte> EncodePng(const Image& image) {
  GRAFT_CHECK(image.rgb.size() ==
              size_t{3} * static_cast<size_t>(image.width) * static_cast<size_t>(image.height));
  const Spng context(spng_ctx_new(SPNG_CTX_ENCODER));
  if (!context) Fail("cannot encode a PNG: out of memory");
  spng_ihdr header{};
  header.width = static_cast<uint32_t>(image.width);
  header.height = static_cast<uint32_t>(image.height);
  header.bit_depth = 8;
  header.color_type = SPNG_COLOR_TYPE_TRUECOLOR;
  int code = spng_set_option(context.get(), SPNG_ENCODE_TO_BUFFER, 1);
  if (code == SPNG_OK) code = spng_set_ihdr(context.get(), &header);
  if (code == SPNG_OK)
    code = spng_encode_image(context.get(), image.rgb.data(), image.rgb.size(), SPNG_FMT_PNG,
                             SPNG_ENCODE_FINALIZE);
  size_t size = 0;
  const std::unique_ptr<void, decltype(&std::free)> buffer(
      code == SPNG_OK ? spng_get_png_buffer(context.get(), &size, &code) : nullptr, &std::free);
  if (!buffer) Fail("cannot encode a PNG: {}", spng_strerror(code));
  const auto* first = static_cast<const std::byte*>(buffer.get());
  return {first, first + size};
}

void WritePng(const std::string& path, const Image& image) {
  const std::vector<std::byte> bytes = EncodePng(image);
  std::FILE* file = std::fopen(path.c_str(), "wb");
  if (!file) Fail("{}: cannot create the file: {}", path, std::strerror(errno));
  const bool written = std::fwrite(bytes.data(), 1, bytes.size(), file) == bytes.size();
  if (std::fclose(file) != 0 || !written) Fail("{}: cannot write: {}", path, std::strerror(errno));
}

}  // namespace graft
