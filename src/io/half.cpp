#include "xlstm/io/half.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "xlstm/core/errors.h"

namespace xlstm {
namespace {

// Loads the element at `index`; bytes may be unaligned.
template <class T>
T load(const std::byte* bytes, size_t index) {
  T value;
  std::memcpy(&value, bytes + index * sizeof(T), sizeof(T));
  return value;
}

// `a` if the condition holds, else `b`, without a branch: compilers don't vectorise loops over conditional float work.
inline uint32_t select(bool condition, uint32_t a, uint32_t b) {
  const uint32_t mask = 0U - static_cast<uint32_t>(condition);
  return (a & mask) | (b & ~mask);
}

inline float widen_f16(uint16_t bits) {
  const uint32_t magnitude = bits & 0x7fffU;
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000U) << 16;
  const uint32_t normal = (magnitude << 13) + (112U << 23);  // exponent bias 15 → 127
  const uint32_t special = (magnitude << 13) | 0x7f800000U;  // infinity and NaN
  const float scaled =
      static_cast<float>(static_cast<int32_t>(magnitude)) * 0x1p-24F;  // subnormal: a multiple of 2^-24, exact
  const uint32_t finite = select(magnitude < 0x0400U, std::bit_cast<uint32_t>(scaled), normal);
  return std::bit_cast<float>(sign | select(magnitude >= 0x7c00U, special, finite));
}

inline uint16_t narrow_f16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const uint32_t sign = (bits >> 16) & 0x8000U;
  const uint32_t magnitude = bits & 0x7fffffffU;
  // Adding just under half of the last kept bit, plus that bit itself, rounds to nearest even.
  const uint32_t rounded = (magnitude - (112U << 23) + 0x0fffU + ((magnitude >> 13) & 1U)) >> 13;
  // Below 2^-14 the float addition of 0.5 rounds to multiples of 2^-24, which is binary16's subnormal spacing.
  const uint32_t subnormal =
      std::bit_cast<uint32_t>(std::bit_cast<float>(std::min(magnitude, 0x38800000U)) + 0.5F) - 0x3f000000U;
  uint32_t out = select(magnitude < 0x38800000U, subnormal, rounded);
  out = select(magnitude >= 0x477ff000U, 0x7c00U, out);  // 65520 and above round to infinity
  out = select(magnitude > 0x7f800000U, 0x7e00U, out);
  return static_cast<uint16_t>(sign | out);
}

inline float widen_bf16(uint16_t bits) {
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

inline uint16_t narrow_bf16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const uint32_t rounded = (bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16;
  const uint32_t nan = (bits >> 16) | 0x0040U;  // quiet, so that a payload in the lower half cannot turn into infinity
  return static_cast<uint16_t>((bits & 0x7fffffffU) > 0x7f800000U ? nan : rounded);
}

// True if an element among `count` ones from `bytes` has all bits of `exponent` set.
template <class T>
bool any_special(const std::byte* bytes, size_t count, T exponent) {
  unsigned found = 0;
  for (size_t i = 0; i < count; ++i) found |= (load<T>(bytes, i) & exponent) == exponent ? 1U : 0U;
  return found != 0;
}

template <class T>
std::optional<int64_t> find_special(std::span<const std::byte> bytes, T exponent) {
  constexpr size_t kBlock = 4096;
  const size_t count = bytes.size() / sizeof(T);
  for (size_t start = 0; start < count; start += kBlock) {
    const size_t size = std::min(kBlock, count - start);
    if (!any_special<T>(bytes.data() + start * sizeof(T), size, exponent)) continue;
    for (size_t i = start; i < start + size; ++i) {
      if ((load<T>(bytes.data(), i) & exponent) == exponent) return static_cast<int64_t>(i);
    }
  }
  return std::nullopt;
}

}  // namespace

float f16_to_float(uint16_t bits) {
  return widen_f16(bits);
}
uint16_t float_to_f16(float value) {
  return narrow_f16(value);
}
float bf16_to_float(uint16_t bits) {
  return widen_bf16(bits);
}
uint16_t float_to_bf16(float value) {
  return narrow_bf16(value);
}

void to_float32(DType dtype, std::span<const std::byte> source, std::span<float> destination) {
  XLSTM_ASSERT(dtype == DType::F32 || dtype == DType::F16 || dtype == DType::BF16);
  XLSTM_ASSERT(source.size() == destination.size() * dtype_size(dtype));
  if (source.empty()) return;
  const std::byte* in = source.data();
  float* out = destination.data();
  const size_t count = destination.size();
  if (dtype == DType::F32) {
    std::memcpy(out, in, source.size());
  } else if (dtype == DType::F16) {
    for (size_t i = 0; i < count; ++i) out[i] = widen_f16(load<uint16_t>(in, i));
  } else {
    for (size_t i = 0; i < count; ++i) out[i] = widen_bf16(load<uint16_t>(in, i));
  }
}

void from_float32(DType dtype, std::span<const float> source, std::span<std::byte> destination) {
  XLSTM_ASSERT(dtype == DType::F32 || dtype == DType::F16 || dtype == DType::BF16);
  XLSTM_ASSERT(destination.size() == source.size() * dtype_size(dtype));
  if (source.empty()) return;
  std::byte* out = destination.data();
  const auto store = [out](size_t i, uint16_t bits) { std::memcpy(out + i * sizeof bits, &bits, sizeof bits); };
  if (dtype == DType::F32) {
    std::memcpy(out, source.data(), destination.size());
  } else if (dtype == DType::F16) {
    for (size_t i = 0; i < source.size(); ++i) store(i, narrow_f16(source[i]));
  } else {
    for (size_t i = 0; i < source.size(); ++i) store(i, narrow_bf16(source[i]));
  }
}

std::optional<int64_t> first_non_finite(DType dtype, std::span<const std::byte> bytes) {
  switch (dtype) {
    case DType::F64: return find_special<uint64_t>(bytes, 0x7ff0000000000000U);
    case DType::F32: return find_special<uint32_t>(bytes, 0x7f800000U);
    case DType::F16: return find_special<uint16_t>(bytes, 0x7c00U);
    case DType::BF16: return find_special<uint16_t>(bytes, 0x7f80U);
    default: return std::nullopt;
  }
}

std::optional<int64_t> first_non_finite(const TensorView& tensor) {
  return first_non_finite(tensor.dtype, tensor.bytes);
}

}  // namespace xlstm
