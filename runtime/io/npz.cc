// Reads ZIP as in APPNOTE.TXT 6.3 (PKWARE): members, then the directory, then the end records.
#include "runtime/io/npz.h"

#include <zlib.h>

#include <algorithm>

#include "runtime/error.h"
#include "runtime/io/foreign_file.h"
#include "runtime/io/npy_header.h"

namespace graft {
namespace {

constexpr uint32_t kLocalMark = 0x04034B50, kEntryMark = 0x02014B50, kEndMark = 0x06054B50,
                   kEnd64Mark = 0x06064B50, kLocator64Mark = 0x07064B50;
constexpr uint64_t kLocalSize = 30, kEntrySize = 46, kEndSize = 22, kEnd64Size = 56,
                   kLocator64Size = 20, kMaxComment = 0xFFFF;
constexpr uint64_t kIn64 = 0xFFFFFFFF;  // "see the 64-bit field"
// The flags of encryption, patched data, strong encryption and masked headers.
constexpr uint64_t kRefusedFlags = 1 | 1 << 5 | 1 << 6 | 1 << 13;

// Reads little-endian numbers at checked positions.
class ZipBytes {
 public:
  ZipBytes(std::span<const std::byte> bytes, const std::string& path)
      : bytes_(bytes), path_(path) {}

  uint64_t size() const { return bytes_.size(); }
  std::span<const std::byte> Range(uint64_t at, uint64_t count) const {
    if (at > bytes_.size() || count > bytes_.size() - at)
      Fail("{}: a ZIP record of {} bytes at {} is outside the file of {}", path_, count, at,
           bytes_.size());
    return bytes_.subspan(at, count);
  }
  uint64_t Number(uint64_t at, uint64_t count) const {
    uint64_t value = 0;
    const auto bytes = Range(at, count);
    for (size_t i = count; i-- > 0;) value = value << 8 | static_cast<uint64_t>(bytes[i]);
    return value;
  }
  uint64_t U16(uint64_t at) const { return Number(at, 2); }
  uint64_t U32(uint64_t at) const { return Number(at, 4); }
  uint64_t U64(uint64_t at) const { return Number(at, 8); }
  std::string_view Text(uint64_t at, uint64_t count) const {
    const auto bytes = Range(at, count);
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }

 private:
  std::span<const std::byte> bytes_;
  const std::string& path_;
};

struct CentralDirectory {
  uint64_t begin = 0, size = 0, count = 0;
};

// Finds the end record: the last thing in the file, but for a comment whose length it tells.
uint64_t FindEnd(const ZipBytes& b, const std::string& path) {
  if (b.size() >= kEndSize)
    for (uint64_t comment = 0; comment <= std::min(kMaxComment, b.size() - kEndSize); ++comment) {
      const uint64_t at = b.size() - kEndSize - comment;
      if (b.U32(at) == kEndMark && b.U16(at + 20) == comment) return at;
    }
  Fail("{}: not an .npz file (no end record of a ZIP archive)", path);
}

CentralDirectory ReadEnd(const ZipBytes& b, const std::string& path) {
  uint64_t end = FindEnd(b, path);
  if (b.U16(end + 4) != 0 || b.U16(end + 6) != 0)
    Fail("{}: a ZIP archive in several parts; expected a single file", path);
  CentralDirectory d{b.U32(end + 16), b.U32(end + 12), b.U16(end + 10)};
  if (d.begin == kIn64 || d.size == kIn64 || d.count == 0xFFFF) {
    if (end < kLocator64Size || b.U32(end - kLocator64Size) != kLocator64Mark)
      Fail("{}: the 64-bit end record of the ZIP archive is missing", path);
    const uint64_t at = b.U64(end - kLocator64Size + 8);
    if (b.U32(at) != kEnd64Mark || b.U64(at + 4) < kEnd64Size - 12)
      Fail("{}: the 64-bit end record of the ZIP archive is not where its locator says", path);
    d = {b.U64(at + 48), b.U64(at + 40), b.U64(at + 32)};
    end = at;
  }
  if (d.begin > end || d.size != end - d.begin)
    Fail("{}: the ZIP directory of {} bytes at {} does not end at {}", path, d.size, d.begin, end);
  if (d.count > d.size / kEntrySize)
    Fail("{}: {} members in a ZIP directory of {} bytes", path, d.count, d.size);
  return d;
}

// Fields of 32 bits that did not fit are in the extra field 1, in this order.
void Read64(const ZipBytes& b, uint64_t extra, uint64_t length, const std::string& where,
            NpzFile::Array* a) {
  uint64_t* const fields[] = {&a->size, &a->packed, &a->offset};
  if (std::none_of(std::begin(fields), std::end(fields), [](uint64_t* f) { return *f == kIn64; }))
    return;
  for (uint64_t at = extra; at + 4 <= extra + length;) {
    const uint64_t id = b.U16(at), size = b.U16(at + 2);
    uint64_t next = at + 4;
    const uint64_t end = next + size;
    if (end > extra + length) break;
    if (id != 1) {
      at = end;
      continue;
    }
    for (uint64_t* field : fields) {
      if (*field != kIn64) continue;
      if (next + 8 > end) Fail("{}: cut short in the 64-bit sizes", where);
      *field = b.U64(next);
      next += 8;
    }
    return;
  }
  Fail("{}: the 64-bit sizes are missing", where);
}

void CheckPacking(const NpzFile::Array& a, uint64_t method, const std::string& where) {
  if (method != 0 && method != 8)
    Fail("{}: compression method {}; supported: stored (0) and deflated (8)", where, method);
  if (!a.deflated && a.packed != a.size)
    Fail("{}: stored, but {} bytes packed and {} unpacked", where, a.packed, a.size);
  if (a.size > NpzFile::kSmall && a.size / NpzFile::kMaxRatio > a.packed)
    Fail("{}: {} bytes would unpack to {}; more than {} times is refused", where, a.packed, a.size,
         NpzFile::kMaxRatio);
}

// Reads the directory's entry at `at`, and moves `at` behind it.
NpzFile::Array ReadEntry(const ZipBytes& b, const CentralDirectory& d, uint64_t* at,
                         const std::string& path) {
  const uint64_t entry = *at, end = d.begin + d.size;
  if (end - entry < kEntrySize || b.U32(entry) != kEntryMark)
    Fail("{}: expected an entry of the ZIP directory at {}", path, entry);
  const uint64_t name = b.U16(entry + 28), extra = b.U16(entry + 30), comment = b.U16(entry + 32);
  if (name + extra + comment > end - entry - kEntrySize)
    Fail("{}: the ZIP directory is cut short at {}", path, entry);
  *at = entry + kEntrySize + name + extra + comment;

  NpzFile::Array a;
  a.name = b.Text(entry + kEntrySize, name);
  const std::string where = path + ": " + a.name;
  if (!a.name.ends_with(".npy") || a.name.find('\0') != a.name.npos)
    Fail("{}: expected members named *.npy only", where);
  const uint64_t flags = b.U16(entry + 8), method = b.U16(entry + 10);
  if (flags & kRefusedFlags)
    Fail("{}: encrypted or patched members are not supported (flags {:#x})", where, flags);
  a.crc = static_cast<uint32_t>(b.U32(entry + 16));
  a.packed = b.U32(entry + 20), a.size = b.U32(entry + 24), a.offset = b.U32(entry + 42);
  a.deflated = method == 8;
  Read64(b, entry + kEntrySize + name, extra, where, &a);
  CheckPacking(a, method, where);

  // The local header must say the same as the directory; the data stands behind it and before the
  // directory.
  const uint64_t local = a.offset;
  if (local > d.begin || d.begin - local < kLocalSize || b.U32(local) != kLocalMark)
    Fail("{}: no member at {}", where, local);
  const uint64_t local_name = b.U16(local + 26), local_extra = b.U16(local + 28);
  if (b.U16(local + 6) != flags || b.U16(local + 8) != method || local_name != name ||
      b.Text(local + kLocalSize, local_name) != a.name)
    Fail("{}: the header at {} differs from the directory", where, local);
  a.offset = local + kLocalSize + local_name + local_extra;
  if (a.offset > d.begin || a.packed > d.begin - a.offset)
    Fail("{}: {} bytes at {} reach into the ZIP directory", where, a.packed, a.offset);
  a.name.resize(a.name.size() - 4);
  return a;
}

// Bounds what all arrays unpack to, as many small ones may unpack to what one large one may not.
void CheckSum(const std::vector<NpzFile::Array>& arrays, uint64_t file_size,
              const std::string& path) {
  uint64_t sum = 0;
  for (const NpzFile::Array& a : arrays)
    if (__builtin_add_overflow(sum, a.size, &sum)) sum = UINT64_MAX;
  if (sum > NpzFile::kSmall && sum / NpzFile::kMaxRatio > file_size)
    Fail("{}: a file of {} bytes would unpack to {}; more than {} times is refused", path,
         file_size, sum, NpzFile::kMaxRatio);
}

// Refuses overlapping members, by which a small file could hold far more than it has bytes.
void CheckApart(std::vector<NpzFile::Array>& arrays, const std::string& path) {
  std::ranges::sort(arrays, {}, &NpzFile::Array::offset);
  for (size_t i = 1; i < arrays.size(); ++i)
    if (arrays[i - 1].offset + arrays[i - 1].packed > arrays[i].offset - kLocalSize)
      Fail("{}: members '{}' and '{}' overlap", path, arrays[i - 1].name, arrays[i].name);
  std::ranges::sort(arrays, {}, &NpzFile::Array::name);
  for (size_t i = 1; i < arrays.size(); ++i)
    if (arrays[i - 1].name == arrays[i].name)
      Fail("{}: two arrays are named '{}'", path, arrays[i].name);
}

// The first `most` bytes of what `packed` inflates to, or all of them.
std::vector<std::byte> Inflate(std::span<const std::byte> packed, uint64_t size, size_t most,
                               const std::string& where) {
  std::vector<std::byte> out(std::min<uint64_t>(size, most));
  z_stream stream{};
  if (inflateInit2(&stream, -MAX_WBITS) != Z_OK) Fail("{}: no memory to inflate", where);
  const std::unique_ptr<z_stream, int (*)(z_stream*)> end(&stream, inflateEnd);
  constexpr size_t kStep = 1 << 30;  // zlib counts in 32 bits
  size_t in = 0, made = 0;
  int state = Z_OK;
  const bool whole = out.size() == size;
  // One spare byte catches data that goes on beyond the declared size.
  std::byte spare{};
  while (state == Z_OK) {
    const size_t give = std::min(kStep, packed.size() - in);
    const size_t room = std::min(kStep, out.size() - made);
    if (room == 0 && !whole) return out;
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(packed.data() + in));
    stream.avail_in = static_cast<uInt>(give);
    stream.next_out = reinterpret_cast<Bytef*>(room ? out.data() + made : &spare);
    stream.avail_out = static_cast<uInt>(room ? room : 1);
    state = inflate(&stream, Z_NO_FLUSH);
    in += give - stream.avail_in;
    const size_t got = (room ? room : 1) - stream.avail_out;
    if (room == 0 && got) Fail("{}: inflates to more than the {} bytes declared", where, size);
    made += got;
  }
  if (state != Z_STREAM_END || made != out.size() || (whole && in != packed.size()))
    Fail("{}: the deflated data is damaged (expected {} bytes, found {})", where, size, made);
  return out;
}

}  // namespace

std::vector<std::byte> NpzFile::Unpack(const Array& a, size_t most) const {
  const auto packed = bytes_.subspan(a.offset, a.packed);
  if (a.deflated) return Inflate(packed, a.size, most, path_ + ": " + a.name);
  const auto head = packed.first(std::min<uint64_t>(a.size, most));
  return {head.begin(), head.end()};
}

NpzFile NpzFile::Parse(const std::string& path, std::span<const std::byte> bytes,
                       std::shared_ptr<const void> owner) {
  NpzFile file;
  file.path_ = path, file.bytes_ = bytes, file.owner_ = std::move(owner);
  const ZipBytes b(bytes, file.path_);
  const CentralDirectory d = ReadEnd(b, path);
  uint64_t at = d.begin;
  for (uint64_t i = 0; i < d.count; ++i) file.arrays_.push_back(ReadEntry(b, d, &at, path));
  if (at != d.begin + d.size)
    Fail("{}: {} bytes of the ZIP directory belong to no member", path, d.begin + d.size - at);
  CheckApart(file.arrays_, path);
  CheckSum(file.arrays_, bytes.size(), path);
  for (Array& a : file.arrays_) {
    const std::string where = path + ": " + a.name;
    size_t data = 0;
    NpyView view = ParseNpyHeader(file.Unpack(a, 12 + kMaxNpyHeader), a.size, where, &data);
    a.dtype = view.dtype, a.shape = std::move(view.shape);
  }
  return file;
}

NpzFile NpzFile::Open(const std::string& path) {
  const auto file = MappedFile::Open(path);
  if (!IsZipOfArrays(file->bytes())) RefuseForeignFile(path, file->bytes());
  return Parse(path, file->bytes(), file);
}

const NpzFile::Array* NpzFile::Find(std::string_view name) const {
  const auto it = std::ranges::lower_bound(arrays_, name, {}, &Array::name);
  return it == arrays_.end() || it->name != name ? nullptr : &*it;
}

NpyArray NpzFile::Read(const Array& a) const {
  const std::string where = path_ + ": " + a.name;
  std::vector<std::byte> unpacked;
  std::span<const std::byte> bytes = bytes_.subspan(a.offset, a.packed);
  if (a.deflated) bytes = unpacked = Unpack(a, a.size);
  const auto* data = reinterpret_cast<const Bytef*>(bytes.data());
  if (crc32_z(0, data, bytes.size()) != a.crc)
    Fail("{}: the checksum is wrong; the file is damaged", where);
  return ToFloatArray(ParseNpy(bytes, where));
}

}  // namespace graft
