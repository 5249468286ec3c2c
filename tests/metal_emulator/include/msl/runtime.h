// What compiled shaders call in the emulator. Each function belongs to the thread of the grid that is running.
#pragma once

#include <cstddef>
#include <cstdint>

namespace xlstm::emulator {

// Where the lanes of a simdgroup, or all threads of a threadgroup, meet.
enum class Op : uint8_t {
  kThreadgroupBarrier,
  kSimdgroupBarrier,
  kSumFloat,
  kSumInt,
  kMaxFloat,
  kMaxInt,
  kMaxUint,
  kMinFloat,
  kMinInt,
  kMinUint,
  kBroadcast,
  kBroadcastFirst,
  kShuffle,
  kShuffleXor,
  kShuffleDown,
  kShuffleUp,
  kMultiplyMatrices,
  kEnd,  // the thread returned from the kernel
};

// `line`: the source line of the call, which all who meet must share.
void threadgroup_barrier(unsigned mem_flags, int line);
void simdgroup_barrier(unsigned mem_flags, int line);

// One 32-bit value from each lane; `lanes` says from which lane, or how far away, it comes (moves only).
uint32_t meet(Op op, uint32_t bits, uint32_t lanes, int line);

// Two adjacent elements of an 8×8 matrix, which a lane holds. By value, so that they stay in registers.
struct Pair {
  float first;
  float second;
};

// a · b + c
Pair multiply_matrices(Pair a, Pair b, Pair c, int line);

struct SharedDeclaration {
  size_t bytes = 0;
  size_t element_bytes = 0;  // of the scalars that it consists of
  const char* name = nullptr;
  int line = 0;
};

// The threadgroup's array of this declaration.
void* shared_memory(const SharedDeclaration& declaration);

// The running thread's lane.
unsigned current_lane();

}  // namespace xlstm::emulator
