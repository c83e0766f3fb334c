// Writes ZIP archives of stored members. All of them have the 64-bit records, so that large files
// take no path that small ones do not test; Python's zipfile and unzip read them.
#include <zlib.h>

#include "runtime/error.h"
#include "runtime/io/npy.h"
#include "runtime/io/npy_header.h"

namespace graft {
namespace {

constexpr uint32_t kInExtra = 0xFFFFFFFF;  // "see the 64-bit record"

class Record {
 public:
  Record& U16(uint64_t x) { return Put(x, 2); }
  Record& U32(uint64_t x) { return Put(x, 4); }
  Record& U64(uint64_t x) { return Put(x, 8); }
  Record& Text(std::string_view text) { return bytes_ += text, *this; }
  std::string_view bytes() const { return bytes_; }

 private:
  Record& Put(uint64_t x, int size) {  // little-endian
    for (int i = 0; i < size; ++i) bytes_ += static_cast<char>(x >> 8 * i & 255);
    return *this;
  }
  std::string bytes_;
};

// Puts version 4.5, the flag of UTF-8 names, no compression, midnight of 1980-01-01 (files hold no
// clock), CRC and sizes.
void PutCommon(Record* record, uint32_t crc, size_t name_size, size_t extra_size) {
  record->U16(45).U16(0x800).U16(0).U16(0).U16(0x21).U32(crc).U32(kInExtra).U32(kInExtra);
  record->U16(name_size).U16(extra_size);
}

// Continues the checksum `crc` over these bytes. zlib takes a null pointer for a new beginning.
uint32_t Crc(uLong crc, const void* bytes, size_t size) {
  return static_cast<uint32_t>(size ? crc32_z(crc, static_cast<const Bytef*>(bytes), size) : crc);
}

}  // namespace

void NpzWriter::Add(const TensorToWrite& array) {
  Member member{.name = array.name + ".npy", .offset = file_.position()};
  if (member.name.size() > 0xFFFF)
    Fail("{}: array name of {} bytes", file_.path(), array.name.size());
  if (!names_.insert(member.name).second)
    Fail("{}: two arrays are named '{}'", file_.path(), array.name);
  const std::string header = MakeNpyHeader(array);
  member.size = header.size() + array.bytes.size();
  member.crc = Crc(0, header.data(), header.size());
  member.crc = Crc(member.crc, array.bytes.data(), array.bytes.size());
  Record local;
  local.U32(0x04034B50);
  PutCommon(&local, member.crc, member.name.size(), 20);
  local.Text(member.name).U16(1).U16(16).U64(member.size).U64(member.size);
  file_.Write(local.bytes());
  file_.Write(header);
  file_.Write(array.bytes);
  members_.push_back(std::move(member));
}

void NpzWriter::Close() {
  const uint64_t begin = file_.position();
  Record directory;
  for (const Member& m : members_) {
    directory.U32(0x02014B50).U16(45);
    PutCommon(&directory, m.crc, m.name.size(), 28);
    directory.U16(0).U16(0).U16(0).U32(0).U32(kInExtra);  // comment, disk, attributes, offset
    directory.Text(m.name).U16(1).U16(24).U64(m.size).U64(m.size).U64(m.offset);
  }
  const uint64_t size = directory.bytes().size(), count = members_.size();
  const bool empty = count == 0;  // NumPy knows an empty archive by the last record alone
  if (!empty) {
    directory.U32(0x06064B50).U64(44).U16(45).U16(45).U32(0).U32(0);
    directory.U64(count).U64(count).U64(size).U64(begin);
    directory.U32(0x07064B50).U32(0).U64(begin + size).U32(1);  // where the record above is
  }
  const uint64_t count16 = empty ? 0 : 0xFFFF, in_extra = empty ? 0 : kInExtra;
  directory.U32(0x06054B50).U16(0).U16(0).U16(count16).U16(count16);
  directory.U32(in_extra).U32(in_extra).U16(0);
  file_.Write(directory.bytes());
  file_.Commit();
}

}  // namespace graft
