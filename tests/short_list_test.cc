#include "runtime/short_list.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/rng.h"
#include "runtime/tensor_type.h"
#include "tests/test_util.h"

namespace graft::short_list_test {
namespace {

using ::testing::HasSubstr;

// Every change beside the same one of a std::vector, about the length at which the heap is used.
TEST(ShortList, IsAVector) {
  ShortList<int, 3> list;
  std::vector<int> vector;
  const StreamKey stream{MakeKey(1, Purpose::kData, "short_list")};
  for (uint64_t i = 0; i < 5000; ++i) {
    const uint64_t word = RandomWord(stream, i);
    const size_t at = vector.empty() ? 0 : word / 8 % vector.size();
    const int item = static_cast<int>(i);
    if (word % 4 == 0 && !vector.empty()) {
      vector.erase(vector.begin() + static_cast<ptrdiff_t>(at)), list.erase(list.begin() + at);
    } else if (word % 4 == 1 && !vector.empty()) {
      vector.pop_back(), list.pop_back();
    } else if (word % 4 == 2) {
      vector.insert(vector.begin() + static_cast<ptrdiff_t>(at), item);
      list.insert(list.begin() + at, item);
    } else {
      vector.push_back(item), list.push_back(item);
    }
    if (i % 1000 == 999) vector.clear(), list.clear();
    ASSERT_EQ(std::vector<int>(list.begin(), list.end()), vector) << i;
    ASSERT_EQ(list.size(), vector.size());
    ASSERT_EQ(list.empty(), vector.empty());
    ASSERT_TRUE(list == (ShortList<int, 3>(vector))) << i;
  }
}

TEST(ShortList, CopiesAreApartAndMovesKeepAll) {
  for (const std::vector<int>& items : {std::vector{1, 2}, std::vector{1, 2, 3, 4, 5}}) {
    ShortList<int, 3> list(items), copy = list;
    copy[0] = 7;
    EXPECT_EQ(list[0], 1);
    EXPECT_FALSE(list == copy);
    const ShortList<int, 3> moved = std::move(list);
    EXPECT_TRUE(moved == (ShortList<int, 3>(items)));
    EXPECT_EQ(moved.back(), items.back());
  }
}

// What is left of items that were erased does not count.
TEST(ShortList, EqualityIsOfTheItems) {
  ShortList<int, 3> list{1, 2, 3};
  list.pop_back();
  EXPECT_TRUE(list == (ShortList<int, 3>{1, 2}));
  EXPECT_FALSE(list == (ShortList<int, 3>{1, 2, 3}));
}

TEST(Shape, HasAtMostFourDimensions) {
  Shape shape{1, 2, 3, Dim::Tokens()};
  EXPECT_EQ(shape.size(), 4u);
  EXPECT_THAT(MessageOf([&] { shape.push_back(5); }),
              HasSubstr("shape [1,2,3,t]: expected at most 4 dimensions, found more"));
  EXPECT_EQ(shape, (Shape{1, 2, 3, Dim::Tokens()}));
}

}  // namespace
}  // namespace graft::short_list_test
