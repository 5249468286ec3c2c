// In place of CUDA's headers: kernels/cuda/*.cu as C++ for the CPU. See ../emulator.h.
#pragma once

#include <math.h>

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "emulated_device.h"
#include "emulated_types.h"
#include "kernels/cuda/runtime.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __launch_bounds__(...)
// The blocks that an OS thread runs come one after the other.
#define __shared__ static thread_local

#define XLSTM_DYNAMIC_SHARED(T, name) T* const name = static_cast<T*>(::xlstm::cuda_emulator::dynamic_shared())
#define XLSTM_UNROLL

#define threadIdx (*::xlstm::cuda_emulator::running_thread)
#define blockIdx (::xlstm::cuda_emulator::running_block->index)
#define blockDim (::xlstm::cuda_emulator::running_block->threads)
#define gridDim (::xlstm::cuda_emulator::running_block->grid)

namespace xlstm::cuda_emulator {

constexpr unsigned kFullMask = 0xffffffff;
constexpr int kWarpLanes = 32;

inline void check_mask(unsigned mask, int line) {
  if (mask != kFullMask) refuse("a mask of some lanes only", line);
}

template <class T>
[[nodiscard]] T value_of(const std::byte* slots, int lane) {
  T value;
  std::memcpy(&value, slots + static_cast<size_t>(lane) * kSlotBytes, sizeof(T));
  return value;
}

// Of the lane `source`; the caller's own if that one is out of range.
template <class T>
[[nodiscard]] T take(unsigned mask, T value, int source, bool in_range, const char* operation, int line) {
  static_assert(std::is_arithmetic_v<T> && (sizeof(T) == 4 || sizeof(T) == 8));
  check_mask(mask, line);
  const std::byte* slots = exchange(&value, sizeof(T), operation, line);
  return in_range ? value_of<T>(slots, source) : value;
}

[[nodiscard]] inline unsigned ballot(unsigned mask, bool predicate, const char* operation, int line) {
  check_mask(mask, line);
  const std::byte* slots = exchange(&predicate, sizeof(predicate), operation, line);
  unsigned votes = 0;
  for (int lane = 0; lane < kWarpLanes; ++lane) votes |= unsigned{value_of<bool>(slots, lane)} << lane;
  return votes;
}

template <class T>
[[nodiscard]] bool has_padding() {
#if __has_builtin(__builtin_clear_padding)
  alignas(T) unsigned char bytes[sizeof(T)];
  std::memset(bytes, 0xff, sizeof(T));
  __builtin_clear_padding(reinterpret_cast<T*>(bytes));
  for (const unsigned char byte : bytes) {
    if (byte != 0xff) return true;
  }
#endif
  return false;
}

}  // namespace xlstm::cuda_emulator

inline void __syncthreads(int line = __builtin_LINE()) {
  xlstm::cuda_emulator::barrier(line);
}
inline void __syncwarp(unsigned mask = 0xffffffff, int line = __builtin_LINE()) {
  xlstm::cuda_emulator::check_mask(mask, line);
  (void)xlstm::cuda_emulator::exchange(nullptr, 0, "__syncwarp", line);
}

inline void __threadfence_system() {
  std::atomic_thread_fence(std::memory_order_seq_cst);
}

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, int line = __builtin_LINE()) {
  const auto lane = static_cast<int>(xlstm::cuda_emulator::current_lane());
  const int first = lane / width * width;
  return xlstm::cuda_emulator::take(mask, value, first + (source & (width - 1)), true, "__shfl_sync", line);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32, int line = __builtin_LINE()) {
  const auto lane = static_cast<int>(xlstm::cuda_emulator::current_lane());
  const int source = lane ^ lanes;
  const bool in_range = source < lane / width * width + width;
  return xlstm::cuda_emulator::take(mask, value, source, in_range, "__shfl_xor_sync", line);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, int line = __builtin_LINE()) {
  const auto lane = static_cast<int>(xlstm::cuda_emulator::current_lane());
  const int source = lane + static_cast<int>(delta);
  const bool in_range = source < lane / width * width + width;
  return xlstm::cuda_emulator::take(mask, value, source, in_range, "__shfl_down_sync", line);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, int line = __builtin_LINE()) {
  const auto lane = static_cast<int>(xlstm::cuda_emulator::current_lane());
  const int source = lane - static_cast<int>(delta);
  return xlstm::cuda_emulator::take(mask, value, source, source >= lane / width * width, "__shfl_up_sync", line);
}
inline unsigned __ballot_sync(unsigned mask, bool predicate, int line = __builtin_LINE()) {
  return xlstm::cuda_emulator::ballot(mask, predicate, "__ballot_sync", line);
}
inline int __any_sync(unsigned mask, bool predicate, int line = __builtin_LINE()) {
  return xlstm::cuda_emulator::ballot(mask, predicate, "__any_sync", line) != 0 ? 1 : 0;
}
inline int __all_sync(unsigned mask, bool predicate, int line = __builtin_LINE()) {
  return xlstm::cuda_emulator::ballot(mask, predicate, "__all_sync", line) == 0xffffffff ? 1 : 0;
}

inline float __expf(float x) {
  return expf(x);
}
inline float __fdividef(float x, float y) {
  return x / y;
}
template <class T>
T __ldg(const T* address) {
  return *address;
}
template <class T>
T atomicAdd(T* address, T value) {
  return std::atomic_ref<T>(*address).fetch_add(value);
}
inline int __clz(int32_t bits) {
  return std::countl_zero(static_cast<uint32_t>(bits));
}
inline int __ffs(int32_t bits) {
  return bits == 0 ? 0 : std::countr_zero(static_cast<uint32_t>(bits)) + 1;
}
inline int __popc(uint32_t bits) {
  return std::popcount(bits);
}

namespace xlstm::cuda {

inline float rsqrtf(float x) {  // some C libraries have one
  return 1.0F / sqrtf(x);
}

inline void wait_for_previous() {
  cuda_emulator::wait_for_previous();
}
inline void start_next() {}
inline void wait_for_turn(const Turn& turn, int block) {
  if (block < turn.blocks_before) cuda_emulator::wait_for_turn(turn.numbers + block, turn.number);
}

inline void mma_bf16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], int line = __builtin_LINE()) {
  struct Fragments {
    uint32_t a[4];
    uint32_t b[2];
  };
  const Fragments mine{{a[0], a[1], a[2], a[3]}, {b[0], b[1]}};
  const std::byte* slots = cuda_emulator::exchange(&mine, sizeof(mine), "mma_bf16", line);
  const auto of_half = [](uint32_t pair, int upper) {
    return __uint_as_float(upper != 0 ? pair & 0xffff0000U : pair << 16);
  };
  const auto lane = static_cast<int>(cuda_emulator::current_lane());
  for (int quad = 0; quad < 4; ++quad) {  // of four lanes, which hold columns of A and rows of B
    const auto rows = cuda_emulator::value_of<Fragments>(slots, lane / 4 * 4 + quad);
    for (int i = 0; i < 2; ++i) {
      const auto column = cuda_emulator::value_of<Fragments>(slots, (lane % 4 * 2 + i) * 4 + quad);
      for (int k = 0; k < 4; ++k) {
        const float factor = of_half(column.b[k / 2], k % 2);
        c[i] += of_half(rows.a[k / 2 * 2], k % 2) * factor;
        c[i + 2] += of_half(rows.a[k / 2 * 2 + 1], k % 2) * factor;
      }
    }
  }
}

inline void mma_tf32(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], int line = __builtin_LINE()) {
  struct Fragments {
    float a[4];
    float b[2];
  };
  const auto cut = [](uint32_t bits) { return __uint_as_float(bits & ~0x1fffU); };
  const Fragments mine{{cut(a[0]), cut(a[1]), cut(a[2]), cut(a[3])}, {cut(b[0]), cut(b[1])}};
  const std::byte* slots = cuda_emulator::exchange(&mine, sizeof(mine), "mma_tf32", line);
  const auto lane = static_cast<int>(cuda_emulator::current_lane());
  for (int quad = 0; quad < 4; ++quad) {
    const auto rows = cuda_emulator::value_of<Fragments>(slots, lane / 4 * 4 + quad);
    for (int i = 0; i < 2; ++i) {
      const auto column = cuda_emulator::value_of<Fragments>(slots, (lane % 4 * 2 + i) * 4 + quad);
      for (int k = 0; k < 2; ++k) {
        c[i] += rows.a[k * 2] * column.b[k];
        c[i + 2] += rows.a[k * 2 + 1] * column.b[k];
      }
    }
  }
}

inline void copy_async_16(void* shared, const void* global, int line = __builtin_LINE()) {
  if (reinterpret_cast<uintptr_t>(shared) % 16 != 0 || reinterpret_cast<uintptr_t>(global) % 16 != 0) {
    cuda_emulator::refuse("copy_async_16 of a misaligned address", line);
  }
  cuda_emulator::copy_async(shared, global);
}
template <uint32_t kMask, uint32_t kMore>
uint32_t pick_bits(uint32_t bits) {
  return (bits & kMask) | kMore;
}
inline void prefetch_line(const void* /*global*/) {}
inline void commit_copies() {
  cuda_emulator::commit_copies();
}
template <int kLater>
void wait_for_copies() {
  cuda_emulator::wait_for_copies(kLater);
}

inline void init_barrier(SharedBarrier* barrier, int arrivals) {
  cuda_emulator::init_barrier(barrier, arrivals);
}
inline void publish_barriers() {
  cuda_emulator::publish_barriers();
}
inline void arrive(SharedBarrier* barrier, int line = __builtin_LINE()) {
  cuda_emulator::arrive_at(barrier, 0, line);
}
inline void arrive_announcing(SharedBarrier* barrier, int bytes, int line = __builtin_LINE()) {
  cuda_emulator::arrive_at(barrier, bytes, line);
}
inline void wait_at(SharedBarrier* barrier, int parity, int line = __builtin_LINE()) {
  cuda_emulator::wait_at(barrier, parity, line);
}
inline void copy_bulk(void* shared, const void* global, int bytes, SharedBarrier* barrier,
                      int line = __builtin_LINE()) {
  if (reinterpret_cast<uintptr_t>(shared) % 16 != 0 || reinterpret_cast<uintptr_t>(global) % 16 != 0 || bytes < 16 ||
      bytes % 16 != 0) {
    cuda_emulator::refuse("copy_bulk of misaligned addresses or bytes", line);
  }
  cuda_emulator::copy_bulk(shared, global, static_cast<size_t>(bytes), barrier, line);
}
inline void copy_box(void* shared, const TensorMap* map, int line_of_row, int row, SharedBarrier* barrier,
                     int line = __builtin_LINE()) {
  if (reinterpret_cast<uintptr_t>(shared) % 1024 != 0) cuda_emulator::refuse("copy_box to a misaligned address", line);
  cuda_emulator::copy_box(shared, map, line_of_row, row, barrier, line);
}
inline void acquire_map(const TensorMap* /*map*/) {}
inline void prefetch_box(const TensorMap* /*map*/, int /*line*/, int /*row*/) {}
template <int kId, int kThreads>
void sync_threads(int line = __builtin_LINE()) {
  static_assert(kId >= 1 && kId <= 15 && kThreads % cuda_emulator::kWarpLanes == 0);
  cuda_emulator::barrier_of_some(kId, kThreads, line);
}

template <auto kKernel, class Args>
void invoke(const Grid& grid, const void* args, StreamHandle stream, bool early) {
  static_assert(std::is_trivially_copyable_v<Args> && alignof(Args) <= 8);
  static const cuda_emulator::Kernel kernel{
      [](const void* arguments) { kKernel(*static_cast<const Args*>(arguments)); },
      static_cast<const char*>(__PRETTY_FUNCTION__), sizeof(Args), cuda_emulator::has_padding<Args>()};
  cuda_emulator::launch(kernel, grid, args, stream, early);
}

}  // namespace xlstm::cuda
