#include "runtime/params.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

#include "tests/test_util.h"

namespace graft::params_test {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<float> Iota(int n) {
  std::vector<float> v(n);
  std::iota(v.begin(), v.end(), 0.f);
  return v;
}

bool Aligned(const float* p) { return reinterpret_cast<uintptr_t>(p) % 64 == 0; }

TEST(ParamStore, SetAllocateViewAndGet) {
  ParamStore store;
  store.Set("b", {2, 3}, Iota(6));
  float* a = store.Allocate("a", {5});
  const auto owner = std::make_shared<std::vector<float>>(Iota(4));
  store.SetView("c", {4}, owner, owner->data());
  EXPECT_TRUE(Aligned(store.data("b")) && Aligned(a));
  EXPECT_THAT(store.values("a"), ElementsAre(0, 0, 0, 0, 0));
  EXPECT_THAT(store.values("b"), ElementsAre(0, 1, 2, 3, 4, 5));
  EXPECT_EQ(store.data("c"), owner->data());
  EXPECT_EQ(ToString(store.Get("b").type()), "f32[2,3]");
  EXPECT_THAT(store.names(), ElementsAre("a", "b", "c"));
  EXPECT_EQ(store.bytes().owned, 44u);
  EXPECT_EQ(store.bytes().viewed, 16u);
}

TEST(ParamStore, MissingNamesSuggest) {
  ParamStore store;
  store.Allocate("blocks.0.attn.q.weight", {1});
  EXPECT_EQ(MessageOf([&] { store.data("blocks.0.attn.q.wieght"); }),
            "no parameter is named 'blocks.0.attn.q.wieght'; did you mean "
            "'blocks.0.attn.q.weight'?");
  EXPECT_THAT(MessageOf([&] { store.Mutable("x"); }), HasSubstr("no parameter is named 'x'"));
  EXPECT_THAT(MessageOf([&] { store.Erase("x"); }), HasSubstr("no parameter"));
  EXPECT_EQ(store.Find("x"), nullptr);
}

TEST(ParamStore, CopySharesUntilWritten) {
  ParamStore a;
  a.Set("w", {3}, Iota(3));
  ParamStore b = a;
  EXPECT_EQ(a.data("w"), b.data("w"));
  b.Mutable("w")[0] = 9;
  EXPECT_THAT(a.values("w"), ElementsAre(0, 1, 2));
  EXPECT_THAT(b.values("w"), ElementsAre(9, 1, 2));
  const float* before = a.data("w");
  EXPECT_EQ(a.Mutable("w"), before);  // nobody else has it now
}

// A snapshot taken in the middle of training does not see the steps that follow.
TEST(ParamStore, PointersToWriteDoNotReachCopies) {
  ParamStore a;
  float* w = a.Allocate("w", {2});
  a.Set("frozen", {2}, Iota(2));
  const ParamStore snapshot = a;
  w[0] = 1;
  EXPECT_THAT(snapshot.values("w"), ElementsAre(0, 0));
  EXPECT_EQ(snapshot.data("frozen"), a.data("frozen"));
  EXPECT_EQ(a.Mutable("w"), w);
  ParamStore moved = std::move(a);
  EXPECT_EQ(moved.data("w"), w);
  moved.Freeze();
  const ParamStore shared = moved;
  EXPECT_EQ(shared.data("w"), w);
}

TEST(ParamStore, ViewsAreCopiedWhenWritten) {
  const auto owner = std::make_shared<const std::vector<float>>(Iota(4));
  ParamStore store;
  store.SetView("w", {4}, owner, owner->data());
  float* w = store.Mutable("w");
  w[1] = 7;
  EXPECT_NE(w, owner->data());
  EXPECT_EQ((*owner)[1], 1);
  EXPECT_EQ(owner.use_count(), 1);  // the mapping is no longer needed
}

TEST(ParamStore, SetFromItself) {
  ParamStore store;
  store.Set("w", {4}, Iota(4));
  store.Set("w", {2}, store.values("w").subspan(2));
  EXPECT_THAT(store.values("w"), ElementsAre(2, 3));
}

TEST(ParamStore, SharingOutlivesItsSource) {
  ParamStore base, copy;
  base.Set("w", {4}, Iota(4));
  copy.SetShared("v", base, "w");
  EXPECT_EQ(copy.data("v"), base.data("w"));
  base.Mutable("w")[0] = -1;  // the sharer keeps what it had
  base.Erase("w");
  EXPECT_FALSE(base.Has("w"));
  EXPECT_THAT(copy.values("v"), ElementsAre(0, 1, 2, 3));
}

TEST(ParamStore, SharingAnEntryBeingWrittenCopies) {
  ParamStore store;
  float* w = store.Allocate("w", {2});
  store.SetShared("v", store, "w");
  w[0] = 3;
  EXPECT_THAT(store.values("v"), ElementsAre(0, 0));
}

TEST(ParamStore, BytesKeepTheirTypeAndNeverChange) {
  ParamStore store;
  const std::vector<uint8_t> bytes{1, 2, 3, 250, 251};
  store.SetU8("q", {5}, bytes);
  const auto owner = std::make_shared<const std::vector<uint8_t>>(bytes);
  store.SetViewU8("view", {2, 2}, owner, owner->data() + 1);  // at any address
  EXPECT_EQ(ToString(store.Get("q").type()), "u8[5]");
  EXPECT_THAT(store.Get("q").u8(), ElementsAre(1, 2, 3, 250, 251));
  EXPECT_THAT(ToDoubles(store.Get("view")), ElementsAre(2, 3, 250, 251));
  EXPECT_EQ(store.bytes().owned, 5u);
  EXPECT_EQ(store.bytes().viewed, 4u);
  ParamStore copy = store;
  copy.SetShared("again", store, "q");
  for (const char* name : {"q", "again"})
    EXPECT_EQ(copy.Get(name).u8().data(), store.Get("q").u8().data());
  EXPECT_DEATH(store.values("q"), "the parameter is u8");
  EXPECT_DEATH(store.Mutable("q"), "'q' is u8");
  store.Set("f", {2}, Iota(2));
  EXPECT_DEATH(store.Get("f").u8(), "the parameter is f32");
}

TEST(ParamStore, EmptyAndImpossibleShapes) {
  ParamStore store;
  store.Set("empty", {0, 3}, {});
  EXPECT_NE(store.Mutable("empty"), nullptr);
  store.SetShared("none", store, "empty");
  const ParamStore copy = store;
  EXPECT_EQ(copy.size(), 2u);
  EXPECT_THAT(MessageOf([&] {
                store.Allocate("x", {int64_t{1} << 40, int64_t{1} << 40});
              }),
              HasSubstr("no shape that memory can hold"));
  EXPECT_THAT(MessageOf([&] { store.Allocate("x", {-1}); }), HasSubstr("no shape"));
}

}  // namespace
}  // namespace graft::params_test
