// What tests/image_*_test.cc and tests/data_*_test.cc share: fixtures, checksums, real data.
#pragma once
#include <gtest/gtest.h>
#include <zlib.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <span>
#include <sstream>
#include <string>
#include <vector>

#include "data/image.h"
#include "tests/test_util.h"

namespace graft {

inline const std::filesystem::path kImageFixtures =
    std::filesystem::path(GRAFT_SOURCE_DIR) / "tests/fixtures/images";

inline uint32_t Crc32(const void* data, size_t size) {
  return static_cast<uint32_t>(crc32_z(0, static_cast<const Bytef*>(data), size));
}

inline std::string Crc(const Image& image) {
  return fmt::format("{:08x}", Crc32(image.rgb.data(), image.rgb.size()));
}

// Rows of a tab-separated fixture.
inline std::vector<std::vector<std::string>> ReadTable(const std::string& name) {
  std::vector<std::vector<std::string>> rows;
  std::ifstream file(kImageFixtures / name);
  for (std::string line; std::getline(file, line);) {
    std::istringstream cells(line);
    rows.emplace_back();
    for (std::string cell; std::getline(cells, cell, '\t');) rows.back().push_back(cell);
  }
  return rows;
}

// noise() of make_image_fixtures.py.
inline Image NoiseImage(uint32_t seed, int width, int height) {
  Image image{width, height, std::vector<uint8_t>(static_cast<size_t>(3 * width * height))};
  uint32_t state = seed;
  for (uint8_t& value : image.rgb) {
    state = state * 1664525u + 1013904223u;
    value = static_cast<uint8_t>(state >> 24);
  }
  return image;
}

inline std::span<const std::byte> AsBytes(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

// The folder of real data: $GRAFT_DATA, else ../shared beside the source.
inline std::filesystem::path SharedData() {
  if (const char* set = std::getenv("GRAFT_DATA")) return set;
  return std::filesystem::path(GRAFT_SOURCE_DIR) / "../shared";
}

#define GRAFT_NEED_SHARED_DATA()                                      \
  if (!std::filesystem::exists(SharedData() / "data/vtab-1k")) {      \
    GTEST_SKIP() << "no data/vtab-1k under $GRAFT_DATA or ../shared"; \
  }

}  // namespace graft
