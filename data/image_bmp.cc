// Reads BMP: 1, 4 and 8 bits with a palette, also run-length encoded; 16, 24 and 32 bits. No
// library of Debian decodes it to the pixels of PIL, whose rules these are.
#include <algorithm>
#include <array>
#include <cstring>

#include "data/image_decoders.h"
#include "runtime/error.h"

namespace graft {
namespace {

enum BmpCompression : uint32_t { kRaw = 0, kRle8 = 1, kRle4 = 2, kBitFields = 3 };

struct BmpHeader {
  int64_t width = 0, height = 0;
  bool top_down = false;
  uint32_t bits = 0, compression = kRaw, colours = 0;
  uint32_t masks[3] = {};
  size_t palette = 0, entry = 4;  // where it begins, and bytes of a colour
  size_t pixels = 0;              // where they begin
};

class BmpReader {
 public:
  BmpReader(ImageBytes bytes, std::string_view name) : bytes_(bytes), name_(name) {}
  uint32_t Word(size_t at, size_t count) const {
    if (at + count > bytes_.size())
      Fail("{}: file is truncated: the header of the BMP image ends too early", name_);
    uint32_t value = 0;
    for (size_t i = 0; i < count; ++i)
      value |= std::to_integer<uint32_t>(bytes_[at + i]) << (8 * i);
    return value;
  }
  uint32_t U16(size_t at) const { return Word(at, 2); }
  uint32_t U32(size_t at) const { return Word(at, 4); }

 private:
  ImageBytes bytes_;
  std::string_view name_;
};

[[noreturn]] void FailKind(std::string_view name, const BmpHeader& h) {
  Fail(
      "{}: a BMP image of {} bits, compression {}; expected 1, 4, 8, 16, 24 or 32 bits as PIL "
      "reads "
      "them; hint: save it as PNG",
      name, h.bits, h.compression);
}

BmpHeader ReadBmpHeader(ImageBytes bytes, std::string_view name) {
  const BmpReader read(bytes, name);
  BmpHeader h;
  h.pixels = read.U32(10);
  const uint32_t size = read.U32(14);
  if (size == 12) {
    h.width = read.U16(18), h.height = read.U16(20), h.bits = read.U16(24), h.entry = 3;
  } else if (size == 40 || size == 52 || size == 56 || size == 64 || size == 108 || size == 124) {
    h.width = read.U32(18), h.height = read.U32(22), h.bits = read.U16(28);
    h.top_down = h.height >> 24 == 0xFF;  // a negative height
    if (h.top_down) h.height = (int64_t{1} << 32) - h.height;
    h.compression = read.U32(30), h.colours = read.U32(46);
  } else {
    Fail("{}: not a valid BMP image: a header of {} bytes", name, size);
  }
  h.palette = 14 + size;
  if (h.compression == kBitFields) {
    for (size_t i = 0; i < 3; ++i) h.masks[i] = read.U32(54 + 4 * i);
    if (size == 40) h.palette += 12;
  }
  if (h.bits <= 8) {
    if (h.colours == 0) h.colours = 1u << h.bits;
    if (h.colours > 65536) Fail("{}: not a valid BMP image: {} colours", name, h.colours);
    // Some writers count the offset of the pixels from the palette on.
    if (h.pixels == 14 + size) h.pixels += h.entry * h.colours;
  }
  const bool rle = h.compression == kRle8 || h.compression == kRle4;
  const bool small = h.bits == 1 || h.bits == 4 || h.bits == 8;
  const bool large = h.bits == 16 || h.bits == 24 || h.bits == 32;
  if (!(small && (h.compression == kRaw || rle)) &&
      !(large && (h.compression == kRaw || h.compression == kBitFields)))
    FailKind(name, h);
  return h;
}

using BmpPalette = std::array<std::array<uint8_t, 3>, 256>;

// Reads colours, which are stored as blue, green, red; those that the palette lacks are black.
BmpPalette ReadBmpPalette(ImageBytes bytes, const BmpHeader& h) {
  BmpPalette palette{};
  for (size_t i = 0; i < std::min<size_t>(h.colours, 256); ++i) {
    const size_t at = h.palette + i * h.entry;
    if (at + 3 > bytes.size()) break;
    for (size_t c = 0; c < 3; ++c) palette[i][c] = std::to_integer<uint8_t>(bytes[at + 2 - c]);
  }
  return palette;
}

// The indices [height, width] of a run-length encoded image, in the order of the file. Pixels
// behind its end are 0.
std::vector<uint8_t> DecodeRuns(ImageBytes bytes, const BmpHeader& h, bool four,
                                std::string_view name) {
  const auto width = static_cast<size_t>(h.width);
  const size_t size = width * static_cast<size_t>(h.height);
  std::vector<uint8_t> out;
  out.reserve(size);
  size_t at = h.pixels, x = 0;
  const auto byte = [&](size_t i) { return std::to_integer<size_t>(bytes[i]); };
  const auto put = [&](size_t value) {
    if (out.size() < size) out.push_back(static_cast<uint8_t>(value));
  };
  const auto need = [&](size_t count) {
    if (at + count > bytes.size())
      Fail("{}: file is truncated: the BMP image ends before its last row", name);
  };
  while (out.size() < size) {
    need(2);
    const size_t count = byte(at), value = byte(at + 1);
    at += 2;
    if (count > 0) {  // a run, which ends with its row
      const size_t n = std::min(count, width - std::min(x, width));
      for (size_t i = 0; i < n; ++i) put(four ? (i % 2 ? value & 15 : value >> 4) : value);
      x += n;
    } else if (value == 0) {  // the end of a row
      while (out.size() % width != 0) put(0);
      x = 0;
    } else if (value == 1) {  // of the image
      break;
    } else if (value == 2) {  // a jump
      need(2);
      out.resize(std::min(size, out.size() + byte(at) + byte(at + 1) * width));
      at += 2;
      x = out.size() % width;
    } else {  // values as they are, padded to a word
      const size_t n = std::min(value, size - out.size()), stored = four ? (n + 1) / 2 : n;
      need(stored);
      for (size_t i = 0; i < n; ++i)
        put(four ? (i % 2 ? byte(at + i / 2) & 15 : byte(at + i / 2) >> 4) : byte(at + i));
      at += stored + (at + stored) % 2;
      x += value;
    }
  }
  out.resize(size);
  return out;
}

// Where the bytes of red, green and blue are in a pixel of 24 or 32 bits.
std::array<size_t, 3> ByteOrder(const BmpHeader& h, std::string_view name) {
  if (h.compression == kRaw || (h.masks[0] | h.masks[1] | h.masks[2]) == 0) return {2, 1, 0};
  std::array<size_t, 3> order{};
  for (size_t c = 0; c < 3; ++c) {
    while (order[c] < h.bits / 8 && h.masks[c] != 0xFFu << (8 * order[c])) ++order[c];
    if (order[c] == h.bits / 8) FailKind(name, h);
  }
  return order;
}

// Expands one row of 16 bits, with 5 bits a colour or 6 of green, to 255.
void ExpandWords(const std::byte* in, size_t width, bool six, uint8_t* out) {
  for (size_t x = 0; x < width; ++x, in += 2) {
    const uint32_t v = std::to_integer<uint32_t>(in[0]) | std::to_integer<uint32_t>(in[1]) << 8;
    const uint32_t green = six ? (v >> 5 & 63) * 255 / 63 : (v >> 5 & 31) * 255 / 31;
    *out++ = static_cast<uint8_t>((v >> (six ? 11 : 10) & 31) * 255 / 31);
    *out++ = static_cast<uint8_t>(green);
    *out++ = static_cast<uint8_t>((v & 31) * 255 / 31);
  }
}

bool SixBitsOfGreen(const BmpHeader& h, std::string_view name) {
  if (h.compression == kRaw) return false;
  const auto is = [&](uint32_t r, uint32_t g, uint32_t b) {
    return h.masks[0] == r && h.masks[1] == g && h.masks[2] == b;
  };
  if (is(0xF800, 0x7E0, 0x1F)) return true;
  if (!is(0x7C00, 0x3E0, 0x1F)) FailKind(name, h);
  return false;
}

}  // namespace

Image DecodeBmp(ImageBytes bytes, std::string_view name, const DecodeCheck& check) {
  const BmpHeader h = ReadBmpHeader(bytes, name);
  CheckImageSize(h.width, h.height, name);
  const auto width = static_cast<size_t>(h.width), height = static_cast<size_t>(h.height);
  const bool runs = h.compression == kRle8 || h.compression == kRle4;
  const size_t stride = (width * h.bits + 31) / 32 * 4;
  if (!runs)
    CheckImageBytes(
        bytes, static_cast<int64_t>(h.pixels + stride * (height - 1) + (width * h.bits + 7) / 8),
        name);
  Image image = Begin(bytes, h.width, h.height, runs ? h.width * h.height : 0, check);
  image.rgb.resize(3 * width * height);
  const std::vector<uint8_t> indices =
      runs ? DecodeRuns(bytes, h, h.compression == kRle4, name) : std::vector<uint8_t>();
  const BmpPalette palette = h.bits <= 8 ? ReadBmpPalette(bytes, h) : BmpPalette();
  const bool six = h.bits == 16 && SixBitsOfGreen(h, name);
  const auto order = h.bits >= 24 ? ByteOrder(h, name) : std::array<size_t, 3>();
  for (size_t row = 0; row < height; ++row) {
    uint8_t* out = &image.rgb[3 * width * (h.top_down ? row : height - 1 - row)];
    const std::byte* in = runs ? nullptr : bytes.data() + h.pixels + row * stride;
    if (h.bits == 16) {
      ExpandWords(in, width, six, out);
      continue;
    }
    for (size_t x = 0; x < width; ++x, out += 3) {
      if (h.bits >= 24) {
        for (size_t c = 0; c < 3; ++c)
          out[c] = std::to_integer<uint8_t>(in[x * (h.bits / 8) + order[c]]);
        continue;
      }
      size_t index = 0;
      if (runs) {
        index = indices[row * width + x];
      } else {
        const size_t bit = x * h.bits;
        index = std::to_integer<size_t>(in[bit / 8]) >> (8 - h.bits - bit % 8) &
                ((size_t{1} << h.bits) - 1);
      }
      std::copy_n(palette[index].data(), 3, out);
    }
  }
  return image;
}

}  // namespace graft
