// Barriers, and the functions of a simdgroup, which is a warp here.
#pragma once

#include "msl/types.h"

namespace metal {

enum class mem_flags : unsigned { mem_none = 0, mem_device = 1, mem_threadgroup = 2 };
constexpr XLSTM_MSL mem_flags operator|(mem_flags a, mem_flags b) {
  return mem_flags(unsigned(a) | unsigned(b));
}

XLSTM_MSL void threadgroup_barrier(mem_flags) {
  __syncthreads();
}
XLSTM_MSL void simdgroup_barrier(mem_flags) {
  __syncwarp();
}

// Every lane takes part: a kernel that leaves one out is reported by compute-sanitizer's synccheck.
constexpr unsigned kXlstmAllLanes = 0xffffffffU;

#define XLSTM_MSL_MOVE(function, of_cuda)           \
  template <class T>                                \
  XLSTM_MSL T function(T value, uint lanes) {       \
    return ::of_cuda(kXlstmAllLanes, value, lanes); \
  }
XLSTM_MSL_MOVE(simd_broadcast, __shfl_sync)
XLSTM_MSL_MOVE(simd_shuffle, __shfl_sync)
XLSTM_MSL_MOVE(simd_shuffle_xor, __shfl_xor_sync)
XLSTM_MSL_MOVE(simd_shuffle_down, __shfl_down_sync)
XLSTM_MSL_MOVE(simd_shuffle_up, __shfl_up_sync)
#undef XLSTM_MSL_MOVE

template <class T>
XLSTM_MSL T simd_broadcast_first(T value) {
  return simd_broadcast(value, 0);
}

#define XLSTM_MSL_REDUCTION(function, expression)              \
  template <class T>                                           \
  XLSTM_MSL T function(T a) {                                  \
    static_assert(sizeof(T) == 4, "float, int and uint only"); \
    for (uint distance = 16; distance > 0; distance /= 2) {    \
      const T b = simd_shuffle_xor(a, distance);               \
      a = expression;                                          \
    }                                                          \
    return a;                                                  \
  }
XLSTM_MSL_REDUCTION(simd_sum, a + b)
XLSTM_MSL_REDUCTION(simd_max, max(a, b))
XLSTM_MSL_REDUCTION(simd_min, min(a, b))
#undef XLSTM_MSL_REDUCTION

}  // namespace metal
