// NumPy's .npy files, and stored (uncompressed) .npz archives of them.
#pragma once
#include <cstddef>
#include <cstdint>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "runtime/io/atomic_file.h"
#include "runtime/io/file_tensor.h"

namespace graft {

// An array inside the bytes of a .npy file, not converted yet.
struct NpyView {
  FileDType dtype = FileDType::kF32;
  std::vector<int64_t> shape;
  bool fortran_order = false;
  std::span<const std::byte> bytes;
  int64_t size() const { return static_cast<int64_t>(bytes.size() * 8) / BitSize(dtype); }
};

// Versions 1 to 3; the header is read as one dictionary of a string, a boolean and a tuple and
// nothing else. Refused: Python objects, records, strings, complex and big-endian numbers, and any
// difference between the size that the header says and the bytes that are there.
NpyView ParseNpy(std::span<const std::byte> bytes, const std::string& where);

struct NpyArray {
  std::vector<int64_t> shape;
  std::vector<float> values;  // in C order
};
NpyArray ToFloatArray(const NpyView& view);
NpyArray ReadNpy(const std::string& path);

// Atomic. The array is named by the file and not by `array.name`.
void WriteNpy(const std::string& path, const TensorToWrite& array);

// Writes an .npz one array at a time, keeping only the directory in memory; equal arrays give equal
// bytes. The file is there after Close(), and without it never was.
class NpzWriter {
 public:
  explicit NpzWriter(const FilePlace& place) : file_(place) {}
  void Add(const TensorToWrite& array);  // found as archive[array.name]
  void Close();

 private:
  struct Member {
    std::string name;
    uint32_t crc = 0;
    uint64_t size = 0, offset = 0;
  };
  AtomicFile file_;
  std::vector<Member> members_;
  std::set<std::string> names_;
};

}  // namespace graft
