// NumPy's .npy files, and .npz archives of them, which are written uncompressed.
#pragma once
#include <cstddef>
#include <cstdint>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "runtime/io/atomic_file.h"
#include "runtime/io/file_tensor.h"
#include "runtime/io/mapped_file.h"

namespace graft {

// An array inside the bytes of a .npy file, not converted yet.
struct NpyView {
  FileDType dtype = FileDType::kF32;
  std::vector<int64_t> shape;
  bool fortran_order = false;
  std::span<const std::byte> bytes;
  int64_t size() const { return static_cast<int64_t>(bytes.size() * 8) / BitSize(dtype); }
};

// Reads versions 1 to 3. The header is read as one dictionary of a string, a boolean and a tuple
// and nothing else. Python objects, records, strings, complex and big-endian numbers are refused,
// and so is any difference between the size that the header says and the bytes that are there.
NpyView ParseNpy(std::span<const std::byte> bytes, const std::string& where);

struct NpyArray {
  std::vector<int64_t> shape;
  std::vector<float> values;  // in C order
};
NpyArray ToFloatArray(const NpyView& view);
NpyArray ReadNpy(const std::string& path);

// An array whose rows, along the first axis, are read when they are asked for, so that a file of
// any size takes no memory.
class NpyRows {
 public:
  // Opens what ReadNpy reads. Throws Error for an array without an axis.
  static NpyRows Open(const std::string& path);
  const std::vector<int64_t>& shape() const { return view_.shape; }
  int64_t count() const { return view_.shape[0]; }
  int64_t row_size() const { return row_size_; }
  // Writes row_size() values to `out`. Allocates nothing; several threads may call it at once.
  void Read(int64_t row, float* out) const;

 private:
  std::shared_ptr<const MappedFile> file_;
  NpyView view_;
  int64_t row_size_ = 0;
};

// The write is atomic. The array is named by the file and not by `array.name`.
void WriteNpy(const std::string& path, const TensorToWrite& array);

// Writes an .npz one array at a time, and keeps only its directory in memory. Equal arrays give
// equal bytes. No file exists before Close().
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
