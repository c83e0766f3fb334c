// ZIP archives and .npy arrays made by hand, true or not.
#pragma once
#include <gtest/gtest.h>
#include <zlib.h>

#include <string>
#include <vector>

#include "tests/test_util.h"

namespace graft {

inline std::string Number(uint64_t x, int size) {
  std::string bytes;
  for (int i = 0; i < size; ++i) bytes += static_cast<char>(x >> 8 * i & 255);
  return bytes;
}

inline std::string Npy(const std::string& header, const std::string& data) {
  std::string text = header;
  while ((10 + text.size()) % 64 != 63) text += ' ';
  text += '\n';
  return std::string("\x93NUMPY\1\0", 8) + Number(text.size(), 2) + text + data;
}

inline std::string Floats(const std::vector<float>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * 4};
}

inline std::string Deflated(const std::string& data) {
  z_stream s{};
  EXPECT_EQ(deflateInit2(&s, 9, Z_DEFLATED, -MAX_WBITS, 9, Z_DEFAULT_STRATEGY), Z_OK);
  std::string out(deflateBound(&s, data.size()), '\0');
  s.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(data.data()));
  s.avail_in = static_cast<uInt>(data.size());
  s.next_out = reinterpret_cast<Bytef*>(out.data());
  s.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(deflate(&s, Z_FINISH), Z_STREAM_END);
  out.resize(s.total_out);
  deflateEnd(&s);
  return out;
}

// A member as its headers describe it, whether that is true or not.
struct Member {
  std::string name, data;  // data as in the file
  uint64_t size = 0;       // unpacked
  uint32_t crc = 0;
  uint64_t flags = 0, method = 0;
  std::string local_name = {};  // if it differs
  int64_t offset = -1;          // of another member
};

inline Member Stored(const std::string& name, const std::string& npy) {
  const auto* bytes = reinterpret_cast<const Bytef*>(npy.data());
  return {name, npy, npy.size(), static_cast<uint32_t>(crc32_z(0, bytes, npy.size()))};
}
inline Member Packed(const std::string& name, const std::string& npy) {
  Member m = Stored(name, npy);
  m.data = Deflated(npy), m.method = 8;
  return m;
}

inline std::string Zip(const std::vector<Member>& members, const std::string& comment = "") {
  std::string file, directory;
  for (const Member& m : members) {
    const uint64_t offset = m.offset < 0 ? file.size() : static_cast<uint64_t>(m.offset);
    const std::string common = Number(m.flags, 2) + Number(m.method, 2) + Number(0, 4) +
                               Number(m.crc, 4) + Number(m.data.size(), 4) + Number(m.size, 4);
    const std::string& local = m.local_name.empty() ? m.name : m.local_name;
    if (m.offset < 0)
      file += "PK\3\4" + Number(20, 2) + common + Number(local.size(), 2) + Number(0, 2) + local +
              m.data;
    directory += "PK\1\2" + Number(20, 2) + Number(20, 2) + common + Number(m.name.size(), 2) +
                 std::string(12, '\0') + Number(offset, 4) + m.name;
  }
  const size_t begin = file.size();
  return file + directory + "PK\5\6" + Number(0, 4) + Number(members.size(), 2) +
         Number(members.size(), 2) + Number(directory.size(), 4) + Number(begin, 4) +
         Number(comment.size(), 2) + comment;
}

}  // namespace graft
