#include "kernels/cpu/input_rows.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/cpu/simd_targets.h"
//
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/input_rows.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
//
#include "kernels/cpu/simd_common-inl.h"

HWY_BEFORE_NAMESPACE();
namespace xlstm::cpu {
namespace HWY_NAMESPACE {

// Units of a row that are converted at a time before they are spread over the block.
constexpr int64_t kPiece = 64;

// to[unit · rows] for `count` units.
HWY_INLINE void spread(const uint32_t* from, int64_t count, int64_t rows, uint32_t* to) {
  for (int64_t i = 0; i < count; ++i) to[i * rows] = from[i];
}

void write_float32(const float* x, int64_t in, int64_t units, int64_t rows, uint32_t* to) {
  if (rows == 1) {
    std::memcpy(to, x, static_cast<size_t>(in) * 4);
  } else {
    for (int64_t i = 0; i < in; ++i) std::memcpy(to + i * rows, x + i, 4);
  }
  for (int64_t i = in; i < units; ++i) to[i * rows] = 0;
}

void write_bfloat16(const float* x, int64_t in, int64_t units, int64_t rows, uint32_t* to) {
  Bfloat16 piece[2 * kPiece];
  uint32_t words[kPiece];
  for (int64_t unit = 0; unit < units; unit += kPiece) {
    const int64_t begin = 2 * unit;
    const int64_t count = std::min(2 * kPiece, in - begin);
    int64_t i = 0;
    for (; i + kLanes <= count; i += kLanes) store(load(x + begin + i), piece + i);
    if (i < count) store_part(load_part(x + begin + i, count - i), piece + i, count - i);
    if (count % 2 != 0) piece[count].bits = 0;
    const int64_t here = (count + 1) / 2;
    uint32_t* const target = rows == 1 ? to + unit : words;
    std::memcpy(target, piece, static_cast<size_t>(here) * 4);
    if (rows > 1) spread(words, here, rows, to + unit * rows);
  }
}

// Infinity or NaN if there is one: as integers, the bits of magnitudes are in the order finite, infinity, NaN.
HWY_INLINE float largest_magnitude(const float* x, int64_t count) {
  const hn::RebindToSigned<FloatTag> ints;
  const auto magnitude = [&ints](FloatVec value) HWY_ATTR { return hn::BitCast(ints, hn::Abs(value)); };
  auto most = hn::Zero(ints);
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) most = hn::Max(most, magnitude(load(x + i)));
  if (i < count) most = hn::Max(most, magnitude(load_part(x + i, count - i)));
  const int32_t bits = hn::GetLane(hn::MaxOfLanes(ints, most));
  float largest = 0;
  std::memcpy(&largest, &bits, sizeof largest);
  return largest;
}

// Codes round(x · inverse) of finite values; returns their sum.
HWY_INLINE int32_t quantize(const float* x, int64_t count, float inverse, int8_t* codes) {
  const hn::RebindToSigned<FloatTag> ints;
  const hn::Rebind<int8_t, FloatTag> bytes;
  const FloatVec factor = hn::Set(kFloat, inverse);
  auto sum = hn::Zero(ints);
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    const auto code = hn::NearestInt(hn::Mul(load(x + i), factor));
    sum = hn::Add(sum, code);
    hn::StoreU(hn::DemoteTo(bytes, code), bytes, codes + i);
  }
  int32_t total = hn::GetLane(hn::SumOfLanes(ints, sum));
  for (; i < count; ++i) {
    const auto code = static_cast<int32_t>(std::nearbyint(x[i] * inverse));
    codes[i] = static_cast<int8_t>(code);
    total += code;
  }
  return total;
}

// Layout of a block: units [units][rows], scales [rows], sums [groups][rows].
void write_int8(const float* x, const InputLayout::Shape& row, int64_t index, int64_t rows, uint32_t* block) {
  const float largest = largest_magnitude(x, row.in);
  const bool finite = std::isfinite(largest);
  // No code stands for infinity or NaN: the scale makes every result NaN.
  const float scale = finite ? largest / 127 : std::numeric_limits<float>::quiet_NaN();
  // A row of values too small to divide by counts as zeros.
  const float inverse = largest > 1e-36F ? 127 / largest : 0;
  auto* scales = reinterpret_cast<float*>(block + row.units * rows);
  auto* sums = reinterpret_cast<int32_t*>(block + (row.units + 1) * rows);
  scales[index] = scale;
  int8_t codes[4 * kPiece];
  uint32_t words[kPiece];
  uint32_t* to = block + index;
  for (int64_t g = 0; g < row.groups; ++g) {
    const int64_t end = std::min(row.in, (g + 1) * row.group);
    int32_t sum = 0;
    for (int64_t begin = g * row.group; begin < end; begin += 4 * kPiece) {
      const int64_t count = std::min(4 * kPiece, end - begin);
      const int64_t here = (count + 3) / 4;
      std::memset(codes, 0, static_cast<size_t>(4 * here));
      if (finite) sum += quantize(x + begin, count, inverse, codes);
      uint32_t* const target = rows == 1 ? to + begin / 4 : words;
      std::memcpy(target, codes, static_cast<size_t>(here) * 4);
      if (rows > 1) spread(words, here, rows, to + begin / 4 * rows);
    }
    sums[g * rows + index] = sum;
  }
  for (int64_t unit = (row.in + 3) / 4; unit < row.units; ++unit) to[unit * rows] = 0;
}

}  // namespace HWY_NAMESPACE
}  // namespace xlstm::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace xlstm::cpu {

HWY_EXPORT(write_float32);
HWY_EXPORT(write_bfloat16);
HWY_EXPORT(write_int8);

InputLayout::InputLayout(const PanelKernel& kernel, const PanelLayout& matrix)
    : kind_(kernel.input), block_rows_(kernel.block_rows), shape_{matrix.in, 0, matrix.group, matrix.groups()} {
  const int64_t whole = (matrix.in + 7) / 8 * 8;  // int4 codes and bfloat16 pairs reach a little beyond `in`
  shape_.units = kind_ == InputKind::kFloat32 ? whole : kind_ == InputKind::kBfloat16 ? (matrix.in + 1) / 2 : whole / 4;
}

void InputLayout::locate(const std::byte* prepared, int64_t block, int64_t rows, PanelArgs* args) const {
  const auto* begin = reinterpret_cast<const uint32_t*>(prepared + block * block_bytes());
  args->x = begin;
  if (kind_ != InputKind::kInt8) return;
  args->x_scale = reinterpret_cast<const float*>(begin + shape_.units * rows);
  args->x_sum = reinterpret_cast<const int32_t*>(begin + (shape_.units + 1) * rows);
}

void InputLayout::write(const float* x, int64_t row, int64_t rows, std::byte* block) const {
  auto* const begin = reinterpret_cast<uint32_t*>(block);
  switch (kind_) {
    case InputKind::kFloat32: return HWY_DYNAMIC_DISPATCH(write_float32)(x, shape_.in, shape_.units, rows, begin + row);
    case InputKind::kBfloat16:
      return HWY_DYNAMIC_DISPATCH(write_bfloat16)(x, shape_.in, shape_.units, rows, begin + row);
    case InputKind::kInt8: return HWY_DYNAMIC_DISPATCH(write_int8)(x, shape_, row, rows, begin);
  }
}

}  // namespace xlstm::cpu
#endif
