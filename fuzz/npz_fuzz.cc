// Reads an .npz archive, or an .npy file (an input that begins with its magic).
#include <zlib.h>

#include "fuzz/target.h"
#include "runtime/io/npz.h"

namespace graft::fuzz {
namespace {

void CheckSize(const NpyArray& array) {
  int64_t size = 1;
  for (const int64_t extent : array.shape) size *= extent;
  GRAFT_CHECK(static_cast<size_t>(size) == array.values.size());
}

void TestNpz(std::span<const std::byte> bytes) {
  const NpzFile file = NpzFile::Parse("file", bytes, nullptr);
  for (const NpzFile::Array& array : file.arrays()) {
    GRAFT_CHECK(file.Find(array.name) == &array);
    GRAFT_CHECK(array.size <= std::max(NpzFile::kSmall, array.packed * NpzFile::kMaxRatio + 32));
    if (array.size > 16 << 20) continue;  // allowed, but slow to try
    Accepts([&] { CheckSize(file.Read(array)); });
    if (array.deflated) continue;
    NpzFile::Array right = array;  // with the checksum of the data that is there
    right.crc = static_cast<uint32_t>(
        crc32_z(0, reinterpret_cast<const Bytef*>(bytes.data()) + array.offset, array.packed));
    Accepts([&] { CheckSize(file.Read(right)); });
  }
}

}  // namespace
}  // namespace graft::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace graft::fuzz;
  if (TextOf(data, size).starts_with("\x93NUMPY"))
    Accepts([&] { CheckSize(graft::ToFloatArray(graft::ParseNpy(BytesOf(data, size), "file"))); });
  else
    Accepts([&] { TestNpz(BytesOf(data, size)); });
  return 0;
}
