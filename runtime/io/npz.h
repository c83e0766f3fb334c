// Reads NumPy's .npz archives: a ZIP of .npy members, stored or deflated, 64-bit records included.
//
// A file that opens is sound in its directory: every record and every member lies inside the file
// and none overlaps another, local headers agree with the directory, no name occurs twice, nothing
// is encrypted, every member is a .npy of numbers whose declared shape fills it exactly. Memory
// grows with the directory only; reading an array takes what its shape says, and that is at most
// kMaxRatio times its packed size (or kSmall), and of all arrays as many times the size of the file
// (or kSmall), so a bomb is refused when the file is opened.
#pragma once
#include <memory>

#include "runtime/io/mapped_file.h"
#include "runtime/io/npy.h"

namespace graft {

class NpzFile {
 public:
  // An array of more bytes than kSmall may be at most kMaxRatio times as large as its packed bytes.
  // Weights hardly deflate; only arrays of constants come near.
  static constexpr uint64_t kSmall = 64 << 20, kMaxRatio = 32;

  struct Array {
    std::string name;  // without .npy
    FileDType dtype = FileDType::kF32;
    std::vector<int64_t> shape;
    // Where the member is, and what the directory says of it.
    uint64_t offset = 0, packed = 0, size = 0;
    uint32_t crc = 0;
    bool deflated = false;
  };

  static NpzFile Open(const std::string& path);
  // Makes the same checks of bytes in memory, which live as long as `owner`. `path` is for
  // messages.
  static NpzFile Parse(const std::string& path, std::span<const std::byte> bytes,
                       std::shared_ptr<const void> owner);

  const std::string& path() const { return path_; }
  const std::vector<Array>& arrays() const { return arrays_; }  // sorted by name
  const Array* Find(std::string_view name) const;
  // Returns the array in C order. Throws Error for data that does not inflate to the declared size
  // or has another checksum.
  NpyArray Read(const Array& array) const;

 private:
  std::vector<std::byte> Unpack(const Array& array, size_t most) const;

  std::string path_;
  std::shared_ptr<const void> owner_;
  std::span<const std::byte> bytes_;
  std::vector<Array> arrays_;
};

}  // namespace graft
