// mean_rows: means of chosen rows, such as the decoder rows of a class's label words, and its
// gradient.
#include <charconv>

#include "ops/rows.h"
#include "runtime/words.h"

namespace graft {
namespace {

// One row of a group, with its share of the group's mean.
struct Chosen {
  int64_t group, row;
  double weight;
};

// The texts between separators; there is always at least one.
int64_t ParseRow(std::string_view text, const std::string& groups) {
  int64_t row = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), row);
  if (error != std::errc() || end != text.data() + text.size() || row < 0)
    Fail("groups '{}': expected a row number, found '{}'", groups, text);
  return row;
}

std::vector<Chosen> ParseGroups(const Attrs& attrs) {
  const std::string& text = attrs.As<MeanRowsAttrs>().groups;
  std::vector<Chosen> chosen;
  int64_t group = 0;
  for (const std::string& of_group : SplitAt(text, '|')) {
    const std::vector<std::string> parts = SplitAt(of_group, ',');
    for (const std::string& part : parts) {
      const std::vector<std::string> rows = SplitAt(part, '+');
      for (const std::string& row : rows)
        chosen.push_back(
            {group, ParseRow(row, text), 1.0 / static_cast<double>(parts.size() * rows.size())});
    }
    ++group;
  }
  return chosen;
}

// The columns of [R,C]; [R] counts as R rows of one number.
int64_t Columns(const Extents& e) { return e.rank == 2 ? e[1] : 1; }

void ExpectMatrixOrVector(const TensorType& t, const char* what) {
  if (t.dtype != DType::kF32 || t.shape.empty() || t.shape.size() > 2)
    Fail("{}: expected an f32 matrix or vector, found {}", what, ToString(t));
}

// The type of the means of x.
TensorType Means(const TensorType& x, const Attrs& attrs) {
  ExpectMatrixOrVector(x, "x");
  const std::vector<Chosen> chosen = ParseGroups(attrs);
  for (const Chosen& c : chosen)
    if (!x.shape[0].fixed() || c.row >= x.shape[0].constant)
      Fail("row {} of x, which has {}", c.row, ToString(x.shape[0]));
  TensorType means = x;
  means.shape[0] = Dim(chosen.back().group + 1);
  return means;
}

std::vector<TensorType> InferMeans(Types in, const Attrs& attrs) {
  ExpectInputs(in, 1);
  return {Means(in[0], attrs)};
}

std::vector<TensorType> InferGrad(Types in, const Attrs& attrs) {
  ExpectInputs(in, 2);
  if (const TensorType want = Means(in[1], attrs); !(in[0] == want))
    Fail("dy: expected {}, found {}", ToString(want), ToString(in[0]));
  return {in[1]};
}

const std::vector<Chosen>& State(const KernelArgs& a) {
  return *static_cast<const std::vector<Chosen>*>(a.state);
}

void AddScaled(float* __restrict to, const float* __restrict from, double weight, int64_t count) {
  for (int64_t i = 0; i < count; ++i) to[i] += static_cast<float>(weight * from[i]);
}

void MeansKernel(const KernelArgs& a) noexcept {
  const int64_t cols = Columns(a.in[0].shape);
  float* out = a.out[0].f32();
  ZeroFloats(out, a.out[0].shape.size());
  for (const Chosen& c : State(a))
    AddScaled(out + c.group * cols, a.in[0].f32() + c.row * cols, c.weight, cols);
}

void GradKernel(const KernelArgs& a) noexcept {
  const int64_t cols = Columns(a.out[0].shape);
  float* out = a.out[0].f32();
  ForPieces(a.out[0].shape.size(), 1,
            [&](int64_t begin, int64_t end) { ZeroFloats(out + begin, end - begin); });
  for (const Chosen& c : State(a))
    AddScaled(out + c.row * cols, a.in[0].f32() + c.group * cols, c.weight, cols);
}

template <Kernel kRun>
Prepared Prepare(const PrepareArgs& a) {
  Prepared p;
  p.run = kRun;
  const auto chosen = std::make_shared<const std::vector<Chosen>>(ParseGroups(a.attrs));
  p.state_bytes = chosen->size() * sizeof(Chosen);
  p.state = chosen;
  return p;
}

// The cost counts only the rows that are read, not all of x.
Cost MeansCost(const CostArgs& args) {
  const Extents& out = args.out[0];
  const double n = static_cast<double>(ParseGroups(args.attrs).size() * Columns(out));
  return {2 * n, 4 * (n + static_cast<double>(out.size()))};
}

Attrs Default() { return MeanRowsAttrs{}; }

}  // namespace

constinit const OpDef kMeanRows{
    .name = "mean_rows",
    .default_attrs = Default,
    .infer = InferMeans,
    .reference =
        +[](const ReferenceArgs& a) {
          const size_t cols = static_cast<size_t>(Columns(a.in_shape[0]));
          for (const Chosen& c : ParseGroups(a.attrs))
            for (size_t i = 0; i < cols; ++i)
              a.out[0][static_cast<size_t>(c.group) * cols + i] +=
                  c.weight * a.in[0][static_cast<size_t>(c.row) * cols + i];
        },
    .prepare = Prepare<MeansKernel>,
    .gradient =
        +[](const GradientArgs& v) {
          std::vector<ValueId> d(1);
          if (v.need[0]) d[0] = v.g.Add1(kMeanRowsGrad, {v.cotangent[0], v.in[0]}, v.attrs);
          return d;
        },
    .cost = MeansCost,
    .samples =
        +[] {
          return std::vector<Sample>{
              {"one", {{{1, 1}}}, MeanRowsAttrs{"0"}},
              {"odd", {{{5, 3}}}, MeanRowsAttrs{"3+1,4|2"}},
              {"vector", {{{7}}}, MeanRowsAttrs{"6|0,1,2+3+6|5"}},
              {"prime", {{{31, 37}}}, MeanRowsAttrs{"30|7+7,1|2,3|11+13+17"}},
              {"empty", {{{4, 0}}}, MeanRowsAttrs{"3,1|2"}},
              {"bench", {{{30522, 768}}}, MeanRowsAttrs{"2307,2204|6659,2919+4402"}}};
        },
    .error_samples =
        +[] {
          return std::vector<ErrorSample>{
              {{F32({5, 3})}, MeanRowsAttrs{"1|5"}, "row 5 of x, which has 5"},
              {{F32({5, 3})}, MeanRowsAttrs{"1||2"}, "expected a row number, found ''"},
              {{F32({5, 3})}, MeanRowsAttrs{""}, "expected a row number, found ''"},
              {{F32({5, 3})}, MeanRowsAttrs{"-1"}, "expected a row number, found '-1'"},
              {{F32({Dim::Tokens(), 3})}, MeanRowsAttrs{"1"}, "row 1 of x, which has t"},
              {{I32({5})}, MeanRowsAttrs{"1"}, "x: expected an f32 matrix or vector"}};
        },
    .cancels = true};

constinit const OpDef kMeanRowsGrad{
    .name = "mean_rows_grad",
    .default_attrs = Default,
    .infer = InferGrad,
    .reference =
        +[](const ReferenceArgs& a) {
          const size_t cols = static_cast<size_t>(Columns(a.in_shape[1]));
          for (const Chosen& c : ParseGroups(a.attrs))
            for (size_t i = 0; i < cols; ++i)
              a.out[0][static_cast<size_t>(c.row) * cols + i] +=
                  c.weight * a.in[0][static_cast<size_t>(c.group) * cols + i];
        },
    .prepare = Prepare<GradKernel>,
    .gradient =
        +[](const GradientArgs& v) {
          std::vector<ValueId> d(2);  // the values of x are not read
          if (v.need[0]) d[0] = v.g.Add1(kMeanRows, {v.cotangent[0]}, v.attrs);
          return d;
        },
    .cost =
        +[](const CostArgs& args) {
          const double n =
              static_cast<double>(ParseGroups(args.attrs).size() * Columns(args.out[0]));
          return Cost{2 * n, 4 * (2 * n + static_cast<double>(args.out[0].size()))};
        },
    .samples =
        +[] {
          return std::vector<Sample>{
              {"one", {{{1, 1}}, {{1, 1}}}, MeanRowsAttrs{"0"}},
              {"odd", {{{2, 3}}, {{5, 3}}}, MeanRowsAttrs{"3+1,4|2"}},
              {"vector", {{{3}}, {{7}}}, MeanRowsAttrs{"6|0,1,2+3+6|5"}},
              {"prime", {{{4, 37}}, {{31, 37}}}, MeanRowsAttrs{"30|7+7,1|2,3|11+13+17"}},
              {"empty", {{{2, 0}}, {{4, 0}}}, MeanRowsAttrs{"3,1|2"}},
              {"bench", {{{2, 768}}, {{30522, 768}}}, MeanRowsAttrs{"2307,2204|6659,2919+4402"}}};
        },
    .error_samples =
        +[] {
          return std::vector<ErrorSample>{{{F32({3, 3}), F32({5, 3})},
                                           MeanRowsAttrs{"1|2"},
                                           "dy: expected f32[2,3], found f32[3,3]"}};
        },
    .cancels = true};

}  // namespace graft
