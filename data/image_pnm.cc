// Reads PBM, PGM and PPM (P1 to P6) as PIL does: comments anywhere in the header, a maximum value
// up to 65535, and grey deeper than 8 bits scaled to 16 bits and then clipped at 255.
#include <algorithm>
#include <charconv>
#include <cmath>

#include "data/image_decoders.h"
#include "runtime/error.h"

namespace graft {
namespace {

constexpr size_t kMaxToken = 10;  // digits of a number

bool IsSpace(int c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

// Reads white-space separated numbers and skips '#' comments.
class PnmReader {
 public:
  PnmReader(ImageBytes bytes, std::string_view name) : bytes_(bytes), name_(name), at_(2) {}

  size_t position() const { return at_; }
  size_t left() const { return bytes_.size() - at_; }

  // Reads the next number, and the single blank behind it.
  int Number(std::string_view what) {
    std::string digits;
    for (int c = Next(); c >= 0; c = Next()) {
      if (c == '#') {
        SkipComment();
        continue;
      }
      if (IsSpace(c)) {
        if (digits.empty()) continue;
        break;
      }
      digits += static_cast<char>(c);
      if (digits.size() > kMaxToken)
        Fail("{}: not a valid P{} image: {} is longer than {} digits: '{}'", name_, kind(), what,
             kMaxToken, Printable(digits));
    }
    return ToNumber(digits, what);
  }

  // Reads the next '0' or '1' of a P1 image; blanks between them may be missing.
  int Bit() {
    for (int c = Next(); c >= 0; c = Next()) {
      if (c == '#')
        SkipComment();
      else if (c == '0' || c == '1')
        return c - '0';
      else if (!IsSpace(c))
        Fail("{}: not a valid P1 image: expected 0 or 1, found '{}'", name_,
             Printable(std::string(1, static_cast<char>(c))));
    }
    FailTruncated("a pixel");
  }

  int kind() const { return std::to_integer<int>(bytes_[1]) - '0'; }

 private:
  int Next() { return at_ < bytes_.size() ? std::to_integer<int>(bytes_[at_++]) : -1; }

  void SkipComment() {
    for (int c = Next(); c >= 0 && c != '\n' && c != '\r';) c = Next();
  }

  int ToNumber(const std::string& digits, std::string_view what) const {
    if (digits.empty()) FailTruncated(what);
    int value = 0;
    const char* end = digits.data() + digits.size();
    const auto [stop, error] = std::from_chars(digits.data(), end, value);
    if (stop != end || error != std::errc{} || value < 0)
      Fail("{}: not a valid P{} image: expected {} as a number, found '{}'", name_, kind(), what,
           Printable(digits));
    return value;
  }

  [[noreturn]] void FailTruncated(std::string_view what) const {
    Fail("{}: file is truncated: the P{} image ends where {} is expected", name_, kind(), what);
  }

  static std::string Printable(std::string text) {
    for (char& c : text)
      if (c < 32 || c > 126) c = '?';
    return text;
  }

  ImageBytes bytes_;
  std::string_view name_;
  size_t at_;
};

// The 8-bit value of each sample: value * top / maximum, rounded half to even and then clipped at
// 255. Grey with a maximum beyond 255 has 16 bits in PIL (top = 65535), everything else 8.
class SampleScale {
 public:
  SampleScale(int maximum, bool grey)
      : maximum_(maximum), top_(grey && maximum > 255 ? 65535 : 255) {}
  uint8_t operator()(int value) const {
    const double scaled = static_cast<double>(value) / maximum_ * top_;
    return static_cast<uint8_t>(std::min(255.0, std::nearbyint(scaled)));
  }

 private:
  int maximum_, top_;
};

void SetGrey(Image& image, size_t pixel, uint8_t value) {
  std::fill_n(image.rgb.data() + 3 * pixel, 3, value);
}

void DecodeBits(PnmReader& reader, ImageBytes bytes, Image& image) {
  const auto width = static_cast<size_t>(image.width);
  const size_t row_bytes = (width + 7) / 8;
  const size_t start = reader.position();
  for (size_t i = 0, n = image.rgb.size() / 3; i < n; ++i) {
    int black;
    if (reader.kind() == 1) {
      black = reader.Bit();
    } else {
      const size_t x = i % width;
      const auto packed = std::to_integer<unsigned>(bytes[start + i / width * row_bytes + x / 8]);
      black = packed >> (7 - x % 8) & 1;
    }
    SetGrey(image, i, black ? 0 : 255);
  }
}

void DecodeSamples(PnmReader& reader, ImageBytes bytes, int maximum, std::string_view name,
                   Image& image) {
  const bool plain = reader.kind() <= 3, grey = reader.kind() == 2 || reader.kind() == 5;
  const SampleScale scale(maximum, grey);
  std::vector<uint8_t> table(static_cast<size_t>(std::min(maximum, 255)) + 1);
  if (maximum <= 255) {
    table.resize(256);
    for (size_t v = 0; v < 256; ++v) table[v] = scale(static_cast<int>(v));
  }
  const size_t samples = image.rgb.size() / (grey ? 3 : 1);
  size_t at = reader.position();
  for (size_t i = 0; i < samples; ++i) {
    int value;
    if (plain) {
      value = reader.Number("a sample");
      if (value > maximum)
        Fail("{}: not a valid P{} image: sample {} is beyond the maximum {}", name, reader.kind(),
             value, maximum);
    } else {
      value = std::to_integer<int>(bytes[at++]);
      if (maximum > 255) value = value * 256 + std::to_integer<int>(bytes[at++]);
    }
    const uint8_t result = maximum <= 255 ? table[value] : scale(value);
    if (grey)
      SetGrey(image, i, result);
    else
      image.rgb[i] = result;
  }
}

}  // namespace

Image DecodePnm(ImageBytes bytes, std::string_view name, const DecodeCheck& check) {
  PnmReader reader(bytes, name);
  const int kind = reader.kind();
  const bool bits = kind == 1 || kind == 4;
  const int64_t width = reader.Number("the width"), height = reader.Number("the height");
  CheckImageSize(width, height, name);
  const int maximum = bits ? 1 : reader.Number("the maximum value");
  if (maximum < 1 || maximum > 65535)
    Fail("{}: not a valid P{} image: expected a maximum value from 1 to 65535, found {}", name,
         kind, maximum);

  const int64_t samples = width * height * (kind % 3 == 0 ? 3 : 1);
  int64_t least = samples;                              // P1: one digit each
  if (kind == 2 || kind == 3) least = 2 * samples - 1;  // a digit and a blank
  if (kind == 4) least = (width + 7) / 8 * height;
  if (kind >= 5 && maximum > 255) least = 2 * samples;
  CheckImageBytes(bytes, static_cast<int64_t>(reader.position()) + least, name);

  Image image = Begin(bytes, width, height, 0, check);
  image.rgb.resize(3 * width * height);
  if (bits)
    DecodeBits(reader, bytes, image);
  else
    DecodeSamples(reader, bytes, maximum, name, image);
  return image;
}

}  // namespace graft
