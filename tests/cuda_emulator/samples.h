// Kernels to try the emulator with; see samples.cu.
#pragma once

#include <cstdint>

#include "kernels/cuda/queue.h"

namespace xlstm::cuda::samples {

// Each lane's value goes through functions of a warp: out[lane] = {shuffled, from the lane ^ 5, from 3 up, from 3 down,
// of lane 2 among 8, 64 bits from the next lane, votes for odd ones, any, all}.
struct WarpFunctions {
  const int32_t* in;
  int64_t* out;
  static constexpr int64_t kResults = 9;
};
void warp_functions(Queue& queue, const WarpFunctions& args);

// c [16, 8] += a [16, depth] · b [depth, 8] (row-major): of bfloat16 by depth 16, or tf32 by depth 8.
struct MatrixUnits {
  const void* a;
  const void* b;
  float* c;
  int64_t bfloat16;
};
void multiply_by_matrix_units(Queue& queue, const MatrixUnits& args);

// out[i] = sum of 256 values that a block of 128 threads reads from in[256·block …) by way of shared memory.
struct Sums {
  const float* in;
  float* out;
  int64_t fault;  // one of Fault
};
enum SumsFault : int64_t {
  kSound,
  kNoBarrier,
  kNoWaitForCopies,
  kPastShared,
  kLanesDiverge,
  kWarpsDiverge,
  kMisalignedCopy,
  kSecondCopy,  // to where the first may still go
  kMisalignedVector,
  kNoWaitForPrevious,
};
void sum_blocks(Queue& queue, unsigned blocks, const Sums& args);

// out[i] = the sum of line i % 4 of box i / 4, of a matrix of 8 lines and `rows` rows of bytes, by way of shared
// memory: one warp copies two boxes into one slot, four warps add a line each. `fault`: one of StreamFault.
struct Stream {
  const TensorMap* map;
  int32_t* out;  // [8]
  int64_t fault;
};
enum StreamFault : int64_t {
  kSoundStream,
  kNoPhaseWait,       // sums what is not there yet
  kNoRelease,         // never says that a slot has been read
  kWrongBytes,        // announces more than it copies
  kUnpublished,       // uses barriers that others may not see
  kInitsTwice,        // a barrier
  kWritesOver,        // a barrier
  kArrivesTwice,      // more arrivals than the barrier has
  kLeavesCopies,      // ends before its copies
  kMisplacedBox,      // a destination that is not aligned
  kBarrierOfTooMany,  // sync_threads() of more threads than come
};
void stream_boxes(Queue& queue, const Stream& args);

// out[i] += values[i] · factor
struct AddStaged {
  const int32_t* values;
  float* out;
  int64_t count;
  int64_t factor;
};
void add_staged(Queue& queue, const AddStaged& args);

// out[i] = in[i] + 1, read after waiting for the kernel before or, by `early`, before that.
struct AddOne {
  const float* in;
  float* out;
  int64_t count;
  int64_t early;
};
void add_one(Queue& queue, const AddOne& args);

// Adds one to counts[block] if that is the number of the kernel's turn; it passes the turn on, or forgets to.
void take_turn(Queue& queue, unsigned blocks, int32_t* counts, bool passes);

// Lanes diverge if *flag is not zero.
struct Diverge {
  const int32_t* flag;
};
void diverge(Queue& queue, const Diverge& args);

struct Padded {
  float* out;
  int32_t value;
};
void run_with_padding(Queue& queue, const Padded& args);

}  // namespace xlstm::cuda::samples
