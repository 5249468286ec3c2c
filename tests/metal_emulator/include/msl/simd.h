// Barriers and the functions of a simdgroup.
#pragma once

#include <array>
#include <bit>
#include <cstring>

#include "msl/runtime.h"
#include "msl/types.h"

namespace metal {

enum class mem_flags : unsigned { mem_none = 0, mem_device = 1, mem_threadgroup = 2 };
constexpr mem_flags operator|(mem_flags a, mem_flags b) {
  return static_cast<mem_flags>(static_cast<unsigned>(a) | static_cast<unsigned>(b));
}

inline void threadgroup_barrier(mem_flags flags, int line = __builtin_LINE()) {
  xlstm::emulator::threadgroup_barrier(static_cast<unsigned>(flags), line);
}
inline void simdgroup_barrier(mem_flags flags, int line = __builtin_LINE()) {
  xlstm::emulator::simdgroup_barrier(static_cast<unsigned>(flags), line);
}

#define XLSTM_MSL_REDUCTION(function, op, type)                                                   \
  inline type function(type value, int line = __builtin_LINE()) {                                 \
    return std::bit_cast<type>(                                                                   \
        xlstm::emulator::meet(xlstm::emulator::Op::op, std::bit_cast<uint32_t>(value), 0, line)); \
  }
XLSTM_MSL_REDUCTION(simd_sum, kSumFloat, float)
XLSTM_MSL_REDUCTION(simd_sum, kSumInt, int)
XLSTM_MSL_REDUCTION(simd_sum, kSumInt, uint)
XLSTM_MSL_REDUCTION(simd_max, kMaxFloat, float)
XLSTM_MSL_REDUCTION(simd_max, kMaxInt, int)
XLSTM_MSL_REDUCTION(simd_max, kMaxUint, uint)
XLSTM_MSL_REDUCTION(simd_min, kMinFloat, float)
XLSTM_MSL_REDUCTION(simd_min, kMinInt, int)
XLSTM_MSL_REDUCTION(simd_min, kMinUint, uint)
#undef XLSTM_MSL_REDUCTION

template <class T>
T xlstm_move(xlstm::emulator::Op op, const T& value, uint lanes, int line) {
  std::array<uint32_t, (sizeof(T) + 3) / 4> words{};
  std::memcpy(words.data(), &value, sizeof(T));
  for (uint32_t& word : words) word = xlstm::emulator::meet(op, word, lanes, line);
  T result;
  std::memcpy(static_cast<void*>(&result), words.data(), sizeof(T));
  return result;
}

#define XLSTM_MSL_MOVE(function, op)                                \
  template <class T>                                                \
  T function(T value, uint lanes, int line = __builtin_LINE()) {    \
    return xlstm_move(xlstm::emulator::Op::op, value, lanes, line); \
  }
XLSTM_MSL_MOVE(simd_broadcast, kBroadcast)
XLSTM_MSL_MOVE(simd_shuffle, kShuffle)
XLSTM_MSL_MOVE(simd_shuffle_xor, kShuffleXor)
XLSTM_MSL_MOVE(simd_shuffle_down, kShuffleDown)
XLSTM_MSL_MOVE(simd_shuffle_up, kShuffleUp)
#undef XLSTM_MSL_MOVE

template <class T>
T simd_broadcast_first(T value, int line = __builtin_LINE()) {
  return xlstm_move(xlstm::emulator::Op::kBroadcastFirst, value, 0, line);
}

}  // namespace metal
