// How weights of each format become bfloat16, which the matrix units multiply. For .cu files only.
#pragma once

#include <cstring>

#include "kernels/cuda/kernel.h"

namespace xlstm::cuda {

// Formats of weights. A lane has kBits bytes of a row, kLaneColumns columns, which become kParts times four pairs of
// bfloat16, in the order of the columns (which is what the codes' order in Matrix is for).

struct Bfloat16Weights {
  static constexpr int kBits = 16;
  static constexpr int kParts = 1;
  static constexpr bool kHasScale = false;
  static constexpr bool kHasZero = false;
  static constexpr bool kScalesSums = false;
  using Raw = uint4;

  static __device__ inline void widen(const Raw& raw, uint32_t /*zero*/, uint32_t (&pairs)[kParts][4]) {
    pairs[0][0] = raw.x;
    pairs[0][1] = raw.y;
    pairs[0][2] = raw.z;
    pairs[0][3] = raw.w;
  }
};

// The 11 bits of a half are 8 in one bfloat16 and the rest in another.
struct Float16Weights {
  static constexpr int kBits = 16;
  static constexpr int kParts = 2;
  static constexpr bool kHasScale = false;
  static constexpr bool kHasZero = false;
  static constexpr bool kScalesSums = false;
  using Raw = uint4;

  static __device__ inline float widened(uint32_t half) {
    return __half2float(__ushort_as_half(static_cast<unsigned short>(half)));
  }
  static __device__ inline void widen(const Raw& raw, uint32_t /*zero*/, uint32_t (&pairs)[kParts][4]) {
    const uint32_t words[4] = {raw.x, raw.y, raw.z, raw.w};
    XLSTM_UNROLL
    for (int i = 0; i < 4; ++i) {
      const float even = widened(words[i] & 0xffffU);
      const float odd = widened(words[i] >> 16);
      const uint32_t even_upper = __float_as_uint(even) & 0xffff0000U;
      const uint32_t odd_upper = __float_as_uint(odd) & 0xffff0000U;
      pairs[0][i] = even_upper >> 16 | odd_upper;
      const uint32_t even_rest = __float_as_uint(even - __uint_as_float(even_upper));
      const uint32_t odd_rest = __float_as_uint(odd - __uint_as_float(odd_upper));
      pairs[1][i] = even_rest >> 16 | (odd_rest & 0xffff0000U);
    }
  }
};

// a - b of two pairs of bfloat16.
__device__ inline uint32_t difference(uint32_t a, uint32_t b) {
  __nv_bfloat162 from;
  __nv_bfloat162 what;
  memcpy(&from, &a, sizeof(from));
  memcpy(&what, &b, sizeof(what));
  const __nv_bfloat162 result = __hsub2(from, what);
  uint32_t bits;
  memcpy(&bits, &result, sizeof(bits));
  return bits;
}

// 128 in bfloat16, twice: its last bits count ones.
constexpr uint32_t kPairOf128 = 0x43004300U;

struct Int8Weights {
  static constexpr int kBits = 8;
  static constexpr int kParts = 1;
  static constexpr bool kHasScale = true;
  static constexpr bool kHasZero = false;
  static constexpr bool kScalesSums = false;
  using Raw = uint2;

  // Bytes 0 and 2. The sign bit of 128 + seven bits taken as 128 more is what is to be subtracted.
  static __device__ inline uint32_t widened(uint32_t bytes) {
    return difference(pick_bits<0x007f007fU, kPairOf128>(bytes), pick_bits<0x00800080U, kPairOf128>(bytes));
  }
  static __device__ inline void widen(const Raw& raw, uint32_t /*zero*/, uint32_t (&pairs)[kParts][4]) {
    pairs[0][0] = widened(raw.x);
    pairs[0][1] = widened(raw.x >> 8);
    pairs[0][2] = widened(raw.y);
    pairs[0][3] = widened(raw.y >> 8);
  }
};

// With one scale for each row, which its sum gets.
struct Int8RowWeights : Int8Weights {
  static constexpr bool kHasScale = false;
  static constexpr bool kScalesSums = true;
};

struct Int4Weights {
  static constexpr int kBits = 4;
  static constexpr int kParts = 1;
  static constexpr bool kHasScale = true;
  static constexpr bool kHasZero = true;
  static constexpr bool kScalesSums = false;
  using Raw = uint32_t;

  static __device__ inline void widen(const Raw& raw, uint32_t zero, uint32_t (&pairs)[kParts][4]) {
    const uint32_t offset = kPairOf128 | zero * 0x00010001U;
    widen_above(raw, pairs);
    XLSTM_UNROLL
    for (uint32_t& pair : pairs[0]) pair = difference(pair, offset);
  }
  // The same, with 128 + zero too much.
  static __device__ inline void widen_above(const Raw& raw, uint32_t (&pairs)[kParts][4]) {
    XLSTM_UNROLL
    for (int i = 0; i < 4; ++i) pairs[0][i] = pick_bits<0x000f000fU, kPairOf128>(raw >> 4 * i);
  }
  // 128 + zero.
  static __device__ inline float above(uint32_t zero) { return __uint_as_float(0x43000000U | zero << 16); }
};

// sums += W · x of a lane's columns: `low` and `high` are those of rows g and g + 8 of a tile.
template <class F>
__device__ inline void add_products(const uint32_t (&low)[F::kParts][4], const uint32_t (&high)[F::kParts][4],
                                    const uint32_t (&x)[4], float (&sums)[4]) {
  XLSTM_UNROLL
  for (int part = 0; part < F::kParts; ++part) {
    XLSTM_UNROLL
    for (int i = 0; i < 4; i += 2) {
      const uint32_t a[4] = {low[part][i], high[part][i], low[part][i + 1], high[part][i + 1]};
      const uint32_t b[2] = {x[i], x[i + 1]};
      mma_bf16(sums, a, b);
    }
  }
}

__device__ inline float half_value(uint32_t bits) {
  return __half2float(__ushort_as_half(static_cast<unsigned short>(bits)));
}

}  // namespace xlstm::cuda
