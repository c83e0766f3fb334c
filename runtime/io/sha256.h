// SHA-256 (FIPS 180-4), which tells to which base checkpoint an adapter belongs.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace graft {

class Sha256 {
 public:
  enum class Code { kFastest, kPlain };  // kPlain uses no instructions of its own, for tests
  explicit Sha256(Code code = Code::kFastest) : code_(code) {}
  void Update(std::span<const std::byte> bytes);
  std::string Hex();  // 64 lower-case digits; ends the computation

 private:
  void Hash(const std::byte* bytes, size_t blocks);

  Code code_;
  std::array<uint32_t, 8> state_{0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A,
                                 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19};
  std::array<std::byte, 64> block_{};
  size_t filled_ = 0;
  uint64_t length_ = 0;
};

std::string Sha256Hex(std::span<const std::byte> bytes);
std::string Sha256OfFile(const std::string& path);

}  // namespace graft
