#include "runtime/io/npy.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "runtime/error.h"
#include "runtime/io/mapped_file.h"
#include "runtime/io/npy_header.h"

namespace graft {
namespace {

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr size_t kMaxRank = 32;  // NumPy's own

struct TypeName {
  std::string_view descr;
  FileDType dtype;
};
constexpr TypeName kTypeNames[] = {
    {"|b1", FileDType::kBool}, {"|u1", FileDType::kU8},  {"|i1", FileDType::kI8},
    {"<u2", FileDType::kU16},  {"<i2", FileDType::kI16}, {"<f2", FileDType::kF16},
    {"<u4", FileDType::kU32},  {"<i4", FileDType::kI32}, {"<f4", FileDType::kF32},
    {"<u8", FileDType::kU64},  {"<i8", FileDType::kI64}, {"<f8", FileDType::kF64},
};

// Parses a dictionary such as {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }.
class HeaderParser {
 public:
  HeaderParser(std::string_view text, const std::string& where) : text_(text), where_(where) {}

  NpyView Parse() {
    NpyView view;
    bool descr = false, order = false, shape = false;
    Expect('{');
    while (!Accept('}')) {
      const std::string_view key = String();
      Expect(':');
      bool* seen = key == "descr"           ? &descr
                   : key == "fortran_order" ? &order
                   : key == "shape"         ? &shape
                                            : nullptr;
      if (seen == nullptr) Fail("{}: .npy header: unknown key '{}'", where_, key);
      if (*seen) Fail("{}: .npy header: duplicate key '{}'", where_, key);
      *seen = true;
      if (seen == &descr) view.dtype = Type();
      if (seen == &order) view.fortran_order = Bool();
      if (seen == &shape) view.shape = Tuple();
      if (!Accept(',')) {
        Expect('}');
        break;
      }
    }
    SkipSpace();
    if (!text_.empty()) Broken("nothing after the dictionary");
    if (!descr || !order || !shape)
      Fail("{}: .npy header: expected 'descr', 'fortran_order' and 'shape'", where_);
    return view;
  }

 private:
  [[noreturn]] void Broken(const char* expected) {
    Fail("{}: .npy header: expected {} at '{}'", where_, expected, text_.substr(0, 20));
  }
  void SkipSpace() {
    text_.remove_prefix(std::min(text_.find_first_not_of(" \t\r\n"), text_.size()));
  }
  bool Accept(char c) {
    SkipSpace();
    if (!text_.starts_with(c)) return false;
    text_.remove_prefix(1);
    return true;
  }
  void Expect(char c) {
    const char expected[] = {'\'', c, '\'', 0};
    if (!Accept(c)) Broken(expected);
  }

  std::string_view String() {
    SkipSpace();
    if (text_.empty() || (text_[0] != '\'' && text_[0] != '"')) Broken("a string");
    const size_t end = text_.find(text_[0], 1);
    if (end == text_.npos) Broken("the end of a string");
    const std::string_view value = text_.substr(1, end - 1);
    if (value.find('\\') != value.npos) Broken("a string without escapes");
    text_.remove_prefix(end + 1);
    return value;
  }

  FileDType Type() {
    SkipSpace();
    if (text_.starts_with('[')) Fail("{}: arrays of records are not supported", where_);
    const std::string_view descr = String();
    for (const TypeName& type : kTypeNames)
      if (type.descr == descr) return type.dtype;
    if (descr.find('O') != descr.npos)
      Fail("{}: an array of Python objects; reading it could run code, so it is refused", where_);
    Fail("{}: expected a little-endian number such as '<f4', found '{}'", where_, descr);
  }

  bool Bool() {
    SkipSpace();
    for (const bool value : {false, true})
      if (const std::string_view word = value ? "True" : "False"; text_.starts_with(word)) {
        text_.remove_prefix(word.size());
        return value;
      }
    Broken("True or False");
  }

  std::vector<int64_t> Tuple() {
    std::vector<int64_t> shape;
    Expect('(');
    while (!Accept(')')) {
      SkipSpace();
      int64_t extent = 0;
      const auto [end, error] = std::from_chars(text_.data(), text_.data() + text_.size(), extent);
      if (error != std::errc() || extent < 0) Broken("an extent of the shape");
      text_.remove_prefix(end - text_.data());
      if (shape.size() == kMaxRank) Fail("{}: more than {} dimensions", where_, kMaxRank);
      shape.push_back(extent);
      if (!Accept(',')) {
        Expect(')');
        break;
      }
    }
    return shape;
  }

  std::string_view text_;
  const std::string& where_;
};

// Converts from Fortran order to C order. The first index of `in` runs fastest.
void Transpose(const std::vector<int64_t>& shape, const std::vector<float>& in,
               std::vector<float>* out) {
  std::vector<size_t> stride(shape.size(), 1), index(shape.size(), 0);
  for (size_t i = 1; i < shape.size(); ++i)
    stride[i] = stride[i - 1] * static_cast<size_t>(shape[i - 1]);
  size_t from = 0;
  for (float& x : *out) {
    x = in[from];
    for (size_t i = shape.size(); i-- > 0;) {  // counts up in C order
      from += stride[i];
      if (++index[i] < static_cast<size_t>(shape[i])) break;
      from -= stride[i] * static_cast<size_t>(shape[i]);
      index[i] = 0;
    }
  }
}

}  // namespace

NpyView ParseNpyHeader(std::span<const std::byte> head, uint64_t total, const std::string& where,
                       size_t* data_begin) {
  const std::string_view text(reinterpret_cast<const char*>(head.data()), head.size());
  if (!text.starts_with(kMagic) || text.size() < 10) Fail("{}: not a .npy file", where);
  const auto byte = [&](size_t i) { return static_cast<size_t>(head[i]); };
  const size_t version = byte(6), begin = version == 1 ? 10 : 12;
  if (version < 1 || version > 3 || text[7] != 0)
    Fail("{}: .npy version {}.{} is unknown", where, version, byte(7));
  if (text.size() < begin) Fail("{}: cut short in the .npy header", where);
  size_t length = byte(8) | byte(9) << 8;
  if (version > 1) length |= byte(10) << 16 | byte(11) << 24;
  if (length > kMaxNpyHeader || length > text.size() - begin)
    Fail("{}: .npy header of {} bytes in a file of {}; at most {} are read", where, length, total,
         kMaxNpyHeader);
  NpyView view = HeaderParser(text.substr(begin, length), where).Parse();
  *data_begin = begin + length;
  const uint64_t found = total - *data_begin;
  const int64_t expected = TensorBytes(view.dtype, view.shape);
  if (expected < 0 || static_cast<uint64_t>(expected) != found)
    Fail("{}: {} of shape [{}] needs {} bytes, found {}", where, ToString(view.dtype),
         fmt::join(view.shape, ","), expected < 0 ? "too many" : std::to_string(expected), found);
  return view;
}

NpyView ParseNpy(std::span<const std::byte> bytes, const std::string& where) {
  size_t begin = 0;
  NpyView view = ParseNpyHeader(bytes, bytes.size(), where, &begin);
  view.bytes = bytes.subspan(begin);
  return view;
}

NpyArray ToFloatArray(const NpyView& view) {
  NpyArray array{view.shape, std::vector<float>(static_cast<size_t>(view.size()))};
  ToFloat(view.dtype, view.bytes, array.values);
  if (view.fortran_order && view.shape.size() > 1) {
    std::vector<float> transposed(array.values.size());
    Transpose(view.shape, array.values, &transposed);
    array.values = std::move(transposed);
  }
  return array;
}

NpyArray ReadNpy(const std::string& path) {
  const auto file = MappedFile::Open(path);
  return ToFloatArray(ParseNpy(file->bytes(), path));
}

NpyRows NpyRows::Open(const std::string& path) {
  NpyRows rows;
  rows.file_ = MappedFile::Open(path);
  rows.view_ = ParseNpy(rows.file_->bytes(), path);
  if (rows.shape().empty()) Fail("{}: expected rows, found a single number", path);
  rows.row_size_ = 1;
  for (size_t i = 1; i < rows.shape().size(); ++i) rows.row_size_ *= rows.shape()[i];
  return rows;
}

void NpyRows::Read(int64_t row, float* out) const {
  GRAFT_CHECK(row >= 0 && row < count(), "row {} of {}", row, count());
  const int64_t element = BitSize(view_.dtype) / 8;
  const std::span<float> values(out, static_cast<size_t>(row_size_));
  if (!view_.fortran_order || shape().size() == 1)
    return ToFloat(view_.dtype, view_.bytes.subspan(row * row_size_ * element, row_size_ * element),
                   values);
  // In Fortran order the first index runs fastest, so the values of a row are far apart.
  std::array<int64_t, kMaxRank> index{};
  int64_t at = row;
  for (float& value : values) {
    ToFloat(view_.dtype, view_.bytes.subspan(at * element, element), {&value, 1});
    int64_t stride = view_.size();
    for (size_t i = shape().size(); i-- > 1;) {  // counts up in C order
      stride /= shape()[i];
      at += stride;
      if (++index[i] < shape()[i]) break;
      at -= stride * shape()[i];
      index[i] = 0;
    }
  }
}

std::string MakeNpyHeader(const TensorToWrite& array) {
  GRAFT_CHECK(TensorBytes(array.dtype, array.shape) == std::ssize(array.bytes), "'{}' has {} bytes",
              array.name, array.bytes.size());
  std::string_view descr;
  for (const TypeName& type : kTypeNames)
    if (type.dtype == array.dtype) descr = type.descr;
  if (descr.empty()) Fail("'{}': NumPy has no {}", array.name, ToString(array.dtype));
  std::string dictionary =
      fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': ({}{}), }}", descr,
                  fmt::join(array.shape, ", "), array.shape.size() == 1 ? "," : "");
  // The data begins at a multiple of 64, so that NumPy can map it; 10 bytes come before.
  dictionary.resize((10 + dictionary.size() + 1 + 63) / 64 * 64 - 10 - 1, ' ');
  dictionary += '\n';
  GRAFT_CHECK(dictionary.size() <= 0xFFFF, "rank {}", array.shape.size());
  std::string header(kMagic);
  header += '\1';
  header += '\0';
  header += static_cast<char>(dictionary.size() & 255);
  header += static_cast<char>(dictionary.size() >> 8);
  return header + dictionary;
}

void WriteNpy(const std::string& path, const TensorToWrite& array) {
  const std::string header = MakeNpyHeader(array);
  AtomicFile file(path);
  file.Write(header);
  file.Write(array.bytes);
  file.Commit();
}

}  // namespace graft
