// What the matrix products share, for shaders only: weights widened to float32, and how a sum becomes a result.
#pragma once

#include "kernels/metal/msl.h"
#include "kernels/metal/product_args.h"

namespace xlstm {
namespace shader {

// How a matrix row is read. A lane loads a unit of kUnit neighbouring columns at once, 16 bytes or 8, and widens four
// of them at a time, exactly. kPerWord: columns of a 32-bit word.

struct Float32 {
  typedef float4 Unit;
  enum : int { kUnit = 4, kPerWord = 1, kHasScale = 0, kHasZero = 0 };
  static inline float4 quad(Unit unit, int) { return unit; }
};

struct Float16 {
  typedef uint4 Unit;
  enum : int { kUnit = 8, kPerWord = 2, kHasScale = 0, kHasZero = 0 };
  static inline float4 quad(Unit unit, int q) {
    const half2 a = as_type<half2>(q == 0 ? unit.x : unit.z);
    const half2 b = as_type<half2>(q == 0 ? unit.y : unit.w);
    return float4(float(a.x), float(a.y), float(b.x), float(b.y));
  }
};

// A bfloat16 is the upper half of a float32.
struct Bfloat16 {
  typedef uint4 Unit;
  enum : int { kUnit = 8, kPerWord = 2, kHasScale = 0, kHasZero = 0 };
  static inline float4 quad(Unit unit, int q) {
    const uint a = q == 0 ? unit.x : unit.z;
    const uint b = q == 0 ? unit.y : unit.w;
    return float4(as_type<float>(a << 16), as_type<float>(a & 0xffff0000u), as_type<float>(b << 16),
                  as_type<float>(b & 0xffff0000u));
  }
};

struct Int8 {
  typedef uint2 Unit;
  enum : int { kUnit = 8, kPerWord = 4, kHasScale = 1, kHasZero = 0 };
  static inline float4 quad(Unit unit, int q) {
    const char4 codes = as_type<char4>(q == 0 ? unit.x : unit.y);
    return float4(float(codes.x), float(codes.y), float(codes.z), float(codes.w));
  }
};

struct Int4 {
  typedef uint2 Unit;
  enum : int { kUnit = 16, kPerWord = 8, kHasScale = 1, kHasZero = 1 };
  static inline float4 quad(Unit unit, int q) {
    const uint codes = (q < 2 ? unit.x : unit.y) >> (q % 2 * 16);
    return float4(float(codes & 15u), float(codes >> 4 & 15u), float(codes >> 8 & 15u), float(codes >> 12 & 15u));
  }
};

// The group of column k. Half a step keeps the product away from whole numbers, where rounding could decide.
inline int group_of(constant ProductArgs& args, int k) {
  return int((float(k / kColumnPad) + 0.5f) * args.group_step);
}

// x[k .. k + 4), of an x row that may begin at any address; columns from `in` on are 0.
template <bool kWhole>
inline float4 quad_of(device const float* x, int k, int in) {
  if (kWhole || k + 4 <= in) return float4(x[k], x[k + 1], x[k + 2], x[k + 3]);
  return float4(k < in ? x[k] : 0.0f, k + 1 < in ? x[k + 1] : 0.0f, k + 2 < in ? x[k + 2] : 0.0f, 0.0f);
}

inline float finish_plain(constant ProductArgs& args, device const float* bias, float sum, int column) {
  const float value = args.has_bias ? sum + bias[column] : sum;
  return args.cap > 0 ? args.cap * tanh(value / args.cap) : value;
}

inline float finish_gate_up(constant ProductArgs& args, device const float* bias, float2 sums, int column) {
  const float gate = args.has_bias ? sums.x + bias[column] : sums.x;
  const float up = args.has_bias ? sums.y + bias[args.gate_rows + column] : sums.y;
  return gate / (1 + exp(-gate)) * up;
}

inline void put(constant ProductArgs& args, device float* y, int row, int column, float value) {
  const size_t index = size_t(row) * size_t(args.y_stride) + size_t(column);
  y[index] = args.add ? y[index] + value : value;
}

}  // namespace shader
}  // namespace xlstm
