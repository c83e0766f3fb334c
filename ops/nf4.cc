#include "ops/nf4.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "runtime/threads.h"

namespace graft {
namespace {

// For a smaller scale the reciprocal would be infinite, and zeros would become NaN.
constexpr float kLeastScale = 1e-38f;

template <size_t n>
std::array<float, n - 1> Midpoints(const std::array<float, n>& sorted) {
  std::array<float, n - 1> middle;
  for (size_t i = 0; i + 1 < n; ++i) middle[i] = (sorted[i] + sorted[i + 1]) / 2;
  return middle;
}

float AbsMax(std::span<const float> values) {
  float most = 0;
  for (const float x : values) most = std::max(most, std::fabs(x));
  return most;
}

// The codes of a block, one for each element: the number of midpoints below it.
void Encode(std::span<const float> values, float absmax, uint8_t* codes) {
  static const std::array<float, 15> kMiddle = Midpoints(kNf4Levels);
  const float inverse = 1.0f / std::max(absmax, kLeastScale);
  std::fill_n(codes, values.size(), uint8_t{0});
  for (const float middle : kMiddle)
    for (size_t i = 0; i < values.size(); ++i) codes[i] += values[i] * inverse > middle;
}

std::array<float, 256> MakeScaleMap() {
  std::array<float, 256> map{};
  size_t n = 0;
  for (int i = 0; i < 7; ++i) {
    const int parts = 1 << i;
    const float step = (1.0f - 0.1f) / static_cast<float>(parts);
    const float power = static_cast<float>(std::pow(10.0, i - 6));
    // Counts as torch.linspace does: from the nearer end, with each boundary rounded once.
    const auto boundary = [&](int k) {
      return static_cast<float>(k < (parts + 1) / 2 ? double{0.1f} + double{step} * k
                                                    : 1.0 - double{step} * (parts - k));
    };
    for (int k = 0; k < parts; ++k) {
      const float x = (boundary(k) + boundary(k + 1)) / 2 * power;
      map[n++] = x, map[n++] = -x;
    }
  }
  map[n++] = 0, map[n++] = 1;
  std::ranges::sort(map);
  return map;
}

void CheckBlock(int64_t block) {
  if (block < kNf4LeastBlock || block > kNf4MostBlock ||
      !std::has_single_bit(static_cast<uint64_t>(block)))
    FailUsage("nf4: expected a block that is a power of two from {} to {}, found {}",
              kNf4LeastBlock, kNf4MostBlock, block);
}

// Quantises the scales to 8 bits. The mean is summed in double and in order, so that it has one
// value.
void QuantizeScales(const std::vector<float>& absmax, Nf4Tensor& out) {
  static const std::array<float, 255> kMiddle = Midpoints(Nf4ScaleMap());
  double sum = 0;
  for (const float x : absmax) sum += double{x};
  const size_t n = absmax.size(), group = static_cast<size_t>(kNf4ScaleBlock);
  out.offset = n == 0 ? 0 : static_cast<float>(sum / static_cast<double>(n));
  out.absmax_codes.resize(n);
  for (size_t begin = 0; begin < n; begin += group) {
    std::vector<float> rest(
        absmax.begin() + static_cast<std::ptrdiff_t>(begin),
        absmax.begin() + static_cast<std::ptrdiff_t>(std::min(n, begin + group)));
    for (float& x : rest) x -= out.offset;
    out.absmax2.push_back(AbsMax(rest));
    const float inverse = 1.0f / std::max(out.absmax2.back(), kLeastScale);
    for (size_t i = 0; i < rest.size(); ++i)
      out.absmax_codes[begin + i] = static_cast<uint8_t>(
          std::ranges::lower_bound(kMiddle, rest[i] * inverse) - kMiddle.begin());
  }
}

float ScaleOf(const Nf4Tensor& t, size_t block) {
  if (!t.double_quantised) return t.absmax[block];
  const float product =
      Nf4ScaleMap()[t.absmax_codes[block]] * t.absmax2[block / static_cast<size_t>(kNf4ScaleBlock)];
  return product + t.offset;
}

}  // namespace

const std::array<float, 256>& Nf4ScaleMap() {
  static const std::array<float, 256> kMap = MakeScaleMap();
  return kMap;
}

Nf4Tensor QuantizeNf4(std::span<const float> values, int64_t block, bool double_quantised,
                      std::string_view name) {
  CheckBlock(block);
  if (const auto bad = std::ranges::find_if(values, [](float x) { return !std::isfinite(x); });
      bad != values.end())
    Fail("'{}' holds {} at {}: only finite values can be quantised", name, *bad,
         bad - values.begin());
  Nf4Tensor out{static_cast<int64_t>(values.size()), block, double_quantised};
  out.codes.resize((values.size() + 1) / 2);
  const size_t length = static_cast<size_t>(block);
  const FixedChunks blocks(out.count, block);
  std::vector<float> absmax(blocks.count());
  ParallelFor(blocks.count(), [&](int64_t b) {
    const size_t begin = static_cast<size_t>(b) * length;
    const auto mine = values.subspan(begin, std::min(length, values.size() - begin));
    const float scale = absmax[b] = AbsMax(mine);
    std::array<uint8_t, static_cast<size_t>(kNf4MostBlock)> codes;
    Encode(mine, scale, codes.data());
    if (mine.size() % 2 != 0) codes[mine.size()] = 7;  // the level 0
    for (size_t i = 0; i < mine.size(); i += 2)
      out.codes[(begin + i) / 2] = static_cast<uint8_t>(codes[i] << 4 | codes[i + 1]);
  });
  if (double_quantised)
    QuantizeScales(absmax, out);
  else
    out.absmax = std::move(absmax);
  return out;
}

void DequantizeNf4(const Nf4Tensor& tensor, std::span<float> out) {
  GRAFT_CHECK(static_cast<int64_t>(out.size()) == tensor.count);
  for (size_t i = 0; i < out.size(); ++i) {
    const uint8_t byte = tensor.codes[i / 2];
    const float level = kNf4Levels[i % 2 == 0 ? byte >> 4 : byte & 15];
    out[i] = level * ScaleOf(tensor, i / static_cast<size_t>(tensor.block));
  }
}

Nf4Sizes Nf4SizesOf(const Nf4Attrs& format) {
  CheckBlock(format.block);
  if (format.rows < 0 || format.cols < 0 || format.rows > kMaxDim || format.cols > kMaxDim)
    Fail("nf4: expected a weight of at most {} rows and columns, found [{},{}]", kMaxDim,
         format.rows, format.cols);
  const int64_t count = format.rows * format.cols;
  Nf4Sizes sizes{CeilDiv(count, 2), CeilDiv(count, format.block), 0, 0};
  const int64_t scale_bytes = format.double_quantised ? 1 : static_cast<int64_t>(sizeof(float));
  sizes.bytes = sizes.codes + sizes.blocks * scale_bytes;
  if (!format.double_quantised) return sizes;
  sizes.absmax2 = CeilDiv(sizes.blocks, kNf4ScaleBlock);
  sizes.bytes += (sizes.absmax2 + 1) * static_cast<int64_t>(sizeof(float));
  return sizes;
}

std::vector<std::string> Nf4ParamNames(const std::string& name, bool double_quantised) {
  std::vector<std::string> names{name + ".nf4", name + ".nf4.absmax"};
  if (double_quantised)
    names.push_back(name + ".nf4.absmax2"), names.push_back(name + ".nf4.offset");
  return names;
}

std::vector<TensorType> Nf4ParamTypes(const Nf4Attrs& format) {
  const Nf4Sizes sizes = Nf4SizesOf(format);
  if (!format.double_quantised) return {{DType::kU8, {sizes.codes}}, {DType::kF32, {sizes.blocks}}};
  return {{DType::kU8, {sizes.codes}},
          {DType::kU8, {sizes.blocks}},
          {DType::kF32, {sizes.absmax2}},
          {DType::kF32, {1}}};
}

void QuantizeParam(ParamStore& params, const std::string& name, const Nf4Attrs& format) {
  const std::vector<std::string> names = Nf4ParamNames(name, format.double_quantised);
  const std::vector<TensorType> types = Nf4ParamTypes(format);
  if (!params.Has(name) && params.Has(names[0])) {
    for (size_t i = 0; i < names.size(); ++i)
      if (const TensorType have = params.Get(names[i]).type(); !(have == types[i]))
        Fail("parameter '{}': expected {} of a weight [{},{}] in blocks of {}, found {}", names[i],
             ToString(types[i]), format.rows, format.cols, format.block, ToString(have));
    return;
  }
  const ParamStore::Entry& matrix = params.Get(name);
  if (!(matrix.type() == TensorType{DType::kF32, {format.rows, format.cols}}))
    Fail("parameter '{}': expected f32[{},{}], found {}", name, format.rows, format.cols,
         ToString(matrix.type()));
  const Nf4Tensor t = QuantizeNf4(matrix.values(), format.block, format.double_quantised, name);
  const auto size = [](const auto& values) { return static_cast<int64_t>(values.size()); };
  params.SetU8(names[0], {size(t.codes)}, t.codes);
  if (format.double_quantised) {
    params.SetU8(names[1], {size(t.absmax_codes)}, t.absmax_codes);
    params.Set(names[2], {size(t.absmax2)}, t.absmax2);
    params.Set(names[3], {1}, {&t.offset, 1});
  } else {
    params.Set(names[1], {size(t.absmax)}, t.absmax);
  }
  params.Erase(name);
}

ValueId Nf4Weight(Graph& g, const std::string& name, const Nf4Attrs& format, Where at) {
  const std::vector<std::string> names = Nf4ParamNames(name, format.double_quantised);
  const std::vector<TensorType> types = Nf4ParamTypes(format);
  std::vector<ValueId> in;
  for (size_t i = 0; i < names.size(); ++i)
    in.push_back(g.AddParam(names[i], types[i].shape, false, types[i].dtype));
  const ValueId w = g.Add1(kNf4Dequantize, std::move(in), format, at);
  g.SetName(w, name);
  return w;
}

ValueList Nf4Matmul(Graph& g, ValueId a, ValueId w, std::span<const ValueId> epilogue,
                    const MatmulAttrs& p, Where at) {
  const NodeId maker = g.value(w).producer;
  GRAFT_CHECK(maker.valid() && g.node(maker).op == &kNf4Dequantize);
  const Node& weight = g.node(maker);
  std::vector<ValueId> in{a};
  in.insert(in.end(), weight.in.begin(), weight.in.end());
  in.insert(in.end(), epilogue.begin(), epilogue.end());
  return g.Add(kNf4Matmul, std::move(in), Nf4MatmulAttrs{weight.attrs.As<Nf4Attrs>(), p}, at);
}

}  // namespace graft
