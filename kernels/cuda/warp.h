// What kernels of all kinds need: sums over a warp, the sigmoid, the soft cap. For .cu files only.
#pragma once

#include "kernels/cuda/kernel.h"

namespace xlstm::cuda {

constexpr unsigned kAllLanes = 0xffffffffU;
constexpr int kLanes = 32;

__device__ inline int warp_of_block() {
  return static_cast<int>(threadIdx.x) / kLanes;
}
__device__ inline int lane_of_warp() {
  return static_cast<int>(threadIdx.x) % kLanes;
}

// In every lane of the warp, the same in each.
__device__ inline float warp_sum(float value) {
  XLSTM_UNROLL
  for (int step = kLanes / 2; step > 0; step /= 2) value += __shfl_xor_sync(kAllLanes, value, step);
  return value;
}

// Neither infinite nor tiny where x is large.
__device__ inline float sigmoid(float x) {
  const float small = expf(-fabsf(x));
  return (x < 0 ? small : 1.0F) / (1 + small);
}

// cap · tanh(x / cap); cap 0 means none.
__device__ inline float capped(float x, float cap) {
  return cap > 0 ? cap * tanhf(x / cap) : x;
}

// 0 where x is -inf.
__device__ inline float silu(float x) {
  const float slope = sigmoid(x);
  return slope == 0 ? 0 : x * slope;
}

}  // namespace xlstm::cuda
