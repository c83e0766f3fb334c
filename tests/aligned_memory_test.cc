#include "runtime/aligned_memory.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <thread>
#include <vector>

namespace graft::testing::aligned_memory_test {
namespace {

using Piece = std::shared_ptr<std::byte>;

bool IsFilled(const Piece& piece, size_t bytes, int with) {
  for (size_t i = 0; i < bytes; ++i)
    if (piece.get()[i] != static_cast<std::byte>(with)) return false;
  return true;
}

// Sizes that have memory of their own, that share regions, and that begin new ones.
TEST(AlignedMemory, PiecesAreApartAndAligned) {
  std::vector<std::pair<Piece, size_t>> pieces;
  for (int i = 0; i < 40; ++i)
    for (const size_t bytes : {size_t{1}, size_t{20000}, size_t{600} << 10, size_t{3} << 20}) {
      pieces.emplace_back(AllocatePiece(bytes + static_cast<size_t>(i), "a test"), bytes);
      EXPECT_EQ(reinterpret_cast<uintptr_t>(pieces.back().first.get()) % kAlignment, 0u);
      std::memset(pieces.back().first.get(), i, bytes);
    }
  for (size_t i = 0; i < pieces.size(); ++i)
    EXPECT_TRUE(IsFilled(pieces[i].first, pieces[i].second, static_cast<int>(i / 4))) << i;
}

TEST(AlignedMemory, APieceLivesWithoutTheOthers) {
  Piece kept;
  {
    std::vector<Piece> pieces;
    for (int i = 0; i < 100; ++i) pieces.push_back(AllocatePiece(100 << 10, "a test"));
    kept = pieces[50];
    std::memset(kept.get(), 7, 100 << 10);
  }
  const Piece other = AllocatePiece(100 << 10, "a test");
  std::memset(other.get(), 8, 100 << 10);
  EXPECT_TRUE(IsFilled(kept, 100 << 10, 7));
}

TEST(AlignedMemory, ThreadsGetPiecesOfTheirOwn) {
  std::vector<std::vector<Piece>> pieces(4);
  std::vector<std::thread> threads;
  for (size_t t = 0; t < pieces.size(); ++t)
    threads.emplace_back([&mine = pieces[t], t] {
      for (int i = 0; i < 50; ++i) {
        mine.push_back(AllocatePiece(70 << 10, "a test"));
        std::memset(mine.back().get(), static_cast<int>(t), 70 << 10);
      }
    });
  for (std::thread& thread : threads) thread.join();
  for (size_t t = 0; t < pieces.size(); ++t)
    for (const Piece& piece : pieces[t])
      EXPECT_TRUE(IsFilled(piece, 70 << 10, static_cast<int>(t)));
}

}  // namespace
}  // namespace graft::testing::aligned_memory_test
