// CUDA's vector and 16-bit float types, and what converts them.
#pragma once

#include <bit>
#include <cstdint>

// clang-format off
struct alignas(8) int2 { int32_t x, y; };
struct alignas(16) int4 { int32_t x, y, z, w; };
struct alignas(8) uint2 { uint32_t x, y; };
struct alignas(16) uint4 { uint32_t x, y, z, w; };
struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
// clang-format on

inline int2 make_int2(int32_t x, int32_t y) {
  return {x, y};
}
inline int4 make_int4(int32_t x, int32_t y, int32_t z, int32_t w) {
  return {x, y, z, w};
}
inline uint2 make_uint2(uint32_t x, uint32_t y) {
  return {x, y};
}
inline uint4 make_uint4(uint32_t x, uint32_t y, uint32_t z, uint32_t w) {
  return {x, y, z, w};
}
inline float2 make_float2(float x, float y) {
  return {x, y};
}
inline float4 make_float4(float x, float y, float z, float w) {
  return {x, y, z, w};
}

inline uint32_t __float_as_uint(float value) {
  return std::bit_cast<uint32_t>(value);
}
inline int32_t __float_as_int(float value) {
  return std::bit_cast<int32_t>(value);
}
inline float __uint_as_float(uint32_t bits) {
  return std::bit_cast<float>(bits);
}
inline float __int_as_float(int32_t bits) {
  return std::bit_cast<float>(bits);
}

struct __nv_bfloat16 {
  uint16_t bits;
};
struct alignas(4) __nv_bfloat162 {
  __nv_bfloat16 x, y;
};
struct __half {
  uint16_t bits;
};

inline __nv_bfloat16 __ushort_as_bfloat16(uint16_t bits) {
  return {bits};
}
inline uint16_t __bfloat16_as_ushort(__nv_bfloat16 value) {
  return value.bits;
}
inline float __bfloat162float(__nv_bfloat16 value) {
  return __uint_as_float(uint32_t{value.bits} << 16);
}
// To nearest, ties to even; a NaN becomes CUDA's.
inline __nv_bfloat16 __float2bfloat16_rn(float value) {
  constexpr uint16_t kNan = 0x7fff;
  if (value != value) return {kNan};
  const uint32_t bits = __float_as_uint(value);
  const uint32_t half = 0x7fff + (bits >> 16 & 1);
  return {static_cast<uint16_t>((bits + half) >> 16)};
}
inline __nv_bfloat16 __float2bfloat16(float value) {
  return __float2bfloat16_rn(value);
}
inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y) {
  return {__float2bfloat16_rn(x), __float2bfloat16_rn(y)};
}
inline float2 __bfloat1622float2(__nv_bfloat162 value) {
  return {__bfloat162float(value.x), __bfloat162float(value.y)};
}

inline __nv_bfloat162 __hsub2(__nv_bfloat162 a, __nv_bfloat162 b) {
  return __floats2bfloat162_rn(__bfloat162float(a.x) - __bfloat162float(b.x),
                               __bfloat162float(a.y) - __bfloat162float(b.y));
}

inline __half __ushort_as_half(uint16_t bits) {
  return {bits};
}
inline uint16_t __half_as_ushort(__half value) {
  return value.bits;
}
inline float __half2float(__half value) {
  const uint32_t sign = uint32_t{value.bits & 0x8000U} << 16;
  const uint32_t exponent = value.bits >> 10 & 0x1f;
  const uint32_t fraction = value.bits & 0x3ff;
  constexpr uint32_t kMaxExponent = 0x1f;
  if (exponent == kMaxExponent) return __uint_as_float(sign | 0x7f800000U | fraction << 13);
  if (exponent != 0) return __uint_as_float(sign | (exponent + 112) << 23 | fraction << 13);
  constexpr float kSmallest = 0x1p-24F;
  const float magnitude = static_cast<float>(fraction) * kSmallest;
  return sign != 0 ? -magnitude : magnitude;
}
// To nearest, ties to even.
inline __half __float2half_rn(float value) {
  const uint32_t bits = __float_as_uint(value);
  const auto sign = static_cast<uint16_t>(bits >> 16 & 0x8000);
  const float magnitude = __uint_as_float(bits & 0x7fffffff);
  constexpr uint16_t kInfinity = 0x7c00;
  if (magnitude != magnitude) return {0x7fff};
  if (magnitude >= 65520.0F) return {static_cast<uint16_t>(sign | kInfinity)};
  constexpr float kNormal = 0x1p-14F;
  if (magnitude < kNormal) {
    // The sum's last bit is worth as much as the smallest half.
    const uint32_t rounded = __float_as_uint(magnitude + 0.5F) - __float_as_uint(0.5F);
    return {static_cast<uint16_t>(sign | rounded)};
  }
  const uint32_t rounded = (bits & 0x7fffffff) + 0xfff + (bits >> 13 & 1);
  return {static_cast<uint16_t>(sign | ((rounded >> 13) - (112U << 10)))};
}
inline __half __float2half(float value) {
  return __float2half_rn(value);
}
