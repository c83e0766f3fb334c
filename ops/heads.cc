// Heads as rows: [R,HC] <-> [RH,C], equal numbers in equal order. What is done to every row, such
// as a norm, is then done to every head.
#include "ops/rows.h"

namespace graft {
namespace {

int64_t FixedColumns(const TensorType& x) {
  if (!x.shape[1].fixed()) Fail("x: the number of columns depends on the batch: {}", ToString(x));
  return x.shape[1].constant;
}

int64_t Heads(const TensorType& x, const Attrs& attrs) {
  ExpectMatrix(x, "x");
  const int64_t heads = attrs.As<HeadsAttrs>().heads;
  if (heads < 1 || heads > kMaxDim) Fail("expected at least one head, found {}", heads);
  return heads;
}

std::vector<TensorType> InferSplitHeads(Types in, const Attrs& attrs) {
  ExpectInputs(in, 1);
  const int64_t heads = Heads(in[0], attrs), cols = FixedColumns(in[0]);
  if (cols % heads != 0) Fail("{} columns do not divide into {} heads", cols, heads);
  const Shape shape{in[0].shape[0] * heads, cols / heads};
  CheckDims(shape);
  return {F32(shape)};
}

std::vector<TensorType> InferJoinHeads(Types in, const Attrs& attrs) {
  ExpectInputs(in, 1);
  const int64_t heads = Heads(in[0], attrs);
  const Dim& rows = in[0].shape[0];
  if (rows.constant % heads || rows.sequences % heads || rows.tokens % heads)
    Fail("{} rows do not divide into {} heads", ToString(rows), heads);
  const Shape shape{{rows.constant / heads, rows.sequences / heads, rows.tokens / heads},
                    FixedColumns(in[0]) * heads};
  CheckDims(shape);
  return {F32(shape)};
}

// Copies the numbers, unless the result has the memory of x.
void SameNumbersKernel(const KernelArgs& a) noexcept {
  const float* x = a.in[0].f32();
  float* y = a.out[0].f32();
  if (x == y) return;
  ForPieces(a.in[0].shape[0], a.in[0].shape[1], [&](int64_t first, int64_t last) {
    const int64_t cols = a.in[0].shape[1];
    CopyFloats(y + first * cols, x + first * cols, (last - first) * cols);
  });
}

void RefSameNumbers(const ReferenceArgs& a) {
  std::copy(a.in[0].begin(), a.in[0].end(), a.out[0].begin());
}

}  // namespace

constinit const OpDef kSplitHeads{
    .name = "split_heads",
    .default_attrs = +[] { return Attrs(HeadsAttrs{}); },
    .infer = InferSplitHeads,
    .reference = RefSameNumbers,
    .kernel = SameNumbersKernel,
    .gradient =
        +[](const GradientArgs& v) {
          return std::vector<ValueId>{
              JoinHeads(v.g, v.cotangent[0], v.attrs.As<HeadsAttrs>().heads)};
        },
    .cost = MoveCost<>,
    .samples =
        +[] {
          return std::vector<Sample>{{"one", {{{1, 1}}}, HeadsAttrs{1}},
                                     {"odd", {{{3, 15}}}, HeadsAttrs{5}},
                                     {"prime", {{{23, 77}}}, HeadsAttrs{7}},
                                     {"empty", {{{0, 4}}}, HeadsAttrs{2}},
                                     {"bench", {{{1576, 768}}}, HeadsAttrs{12}}};
        },
    .error_samples =
        +[] {
          return std::vector<ErrorSample>{
              {{F32({3, 7})}, HeadsAttrs{2}, "7 columns do not divide into 2 heads"},
              {{F32({3, 7})}, HeadsAttrs{0}, "expected at least one head, found 0"}};
        },
    .in_place = 0};

constinit const OpDef kJoinHeads{
    .name = "join_heads",
    .default_attrs = +[] { return Attrs(HeadsAttrs{}); },
    .infer = InferJoinHeads,
    .reference = RefSameNumbers,
    .kernel = SameNumbersKernel,
    .gradient =
        +[](const GradientArgs& v) {
          return std::vector<ValueId>{
              SplitHeads(v.g, v.cotangent[0], v.attrs.As<HeadsAttrs>().heads)};
        },
    .cost = MoveCost<>,
    .samples =
        +[] {
          return std::vector<Sample>{{"one", {{{1, 1}}}, HeadsAttrs{1}},
                                     {"odd", {{{15, 3}}}, HeadsAttrs{5}},
                                     {"prime", {{{77, 23}}}, HeadsAttrs{7}},
                                     {"empty", {{{0, 4}}}, HeadsAttrs{2}},
                                     {"bench", {{{18912, 64}}}, HeadsAttrs{12}}};
        },
    .error_samples =
        +[] {
          return std::vector<ErrorSample>{
              {{F32({7, 3})}, HeadsAttrs{2}, "7 rows do not divide into 2 heads"}};
        },
    .in_place = 0};

}  // namespace graft
