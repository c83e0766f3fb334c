// A hash of a sequence of fields.
#pragma once
#include <fmt/format.h>

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "runtime/io/sha256.h"

namespace graft {

// Fields each follow their length, so that no two sequences of fields give the same bytes.
class FieldHash {
 public:
  void Add(std::string_view text) {
    const std::string length = fmt::format("{}:", text.size());
    hash_.Update(std::as_bytes(std::span(length)));
    hash_.Update(std::as_bytes(std::span(text)));
  }
  void Add(int64_t number) { Add(std::string_view(std::to_string(number))); }
  std::string Hex() { return hash_.Hex(); }

 private:
  Sha256 hash_;
};

}  // namespace graft
