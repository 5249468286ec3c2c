#include "tests/cuda_emulator/samples.h"

#include "kernels/cuda/kernel.h"

namespace xlstm::cuda::samples {
namespace {

struct TakeTurn {
  Turn turn;
  int32_t* counts;
  int64_t passes;
};

constexpr unsigned kAllLanes = 0xffffffff;
constexpr unsigned kSumThreads = 128;
constexpr unsigned kSumValues = 2 * kSumThreads;

__global__ void try_warp_functions(WarpFunctions args) {
  wait_for_previous();
  const auto lane = static_cast<int>(threadIdx.x);
  const int32_t mine = args.in[lane];
  int64_t* out = args.out + lane * WarpFunctions::kResults;
  out[0] = __shfl_sync(kAllLanes, mine, (lane * 7 + 3) % 32);
  out[1] = __shfl_xor_sync(kAllLanes, mine, 5);
  out[2] = __shfl_up_sync(kAllLanes, mine, 3);
  out[3] = __shfl_down_sync(kAllLanes, mine, 3);
  out[4] = __shfl_sync(kAllLanes, mine, 2, 8);
  out[5] = __shfl_sync(kAllLanes, int64_t{mine} << 32 | mine, (lane + 1) % 32);
  out[6] = __ballot_sync(kAllLanes, mine % 2 != 0);
  out[7] = __any_sync(kAllLanes, mine == args.in[4]);
  out[8] = __all_sync(kAllLanes, mine == args.in[4]);
}

__global__ void try_matrix_units(MatrixUnits args) {
  wait_for_previous();
  const auto lane = static_cast<int>(threadIdx.x);
  const int g = lane / 4;
  const int t = lane % 4;
  float* c[4] = {args.c + g * 8 + 2 * t, args.c + g * 8 + 2 * t + 1, args.c + (g + 8) * 8 + 2 * t,
                 args.c + (g + 8) * 8 + 2 * t + 1};
  float sums[4] = {*c[0], *c[1], *c[2], *c[3]};
  uint32_t a[4];
  uint32_t b[2];
  if (args.bfloat16 != 0) {
    const auto* left = static_cast<const uint16_t*>(args.a);
    const auto* right = static_cast<const uint16_t*>(args.b);
    for (int i = 0; i < 4; ++i) {
      const uint16_t* pair = left + (g + i % 2 * 8) * 16 + 2 * t + i / 2 * 8;
      a[i] = pair[0] | uint32_t{pair[1]} << 16;
    }
    for (int i = 0; i < 2; ++i) {
      const uint16_t* first = right + (2 * t + i * 8) * 8 + g;
      b[i] = first[0] | uint32_t{first[8]} << 16;
    }
    mma_bf16(sums, a, b);
  } else {
    const auto* left = static_cast<const float*>(args.a);
    const auto* right = static_cast<const float*>(args.b);
    for (int i = 0; i < 4; ++i) a[i] = __float_as_uint(left[(g + i % 2 * 8) * 8 + t + i / 2 * 4]);
    for (int i = 0; i < 2; ++i) b[i] = __float_as_uint(right[(t + i * 4) * 8 + g]);
    mma_tf32(sums, a, b);
  }
  for (int i = 0; i < 4; ++i) *c[i] = sums[i];
}

// Each thread copies some values, adds a pair that others copied, and the first adds the pairs.
__global__ void sum_block(Sums args) {
  XLSTM_DYNAMIC_SHARED(float, shared);
  __shared__ float pairs[kSumThreads];
  if (args.fault != kNoWaitForPrevious) wait_for_previous();
  start_next();
  const unsigned thread = threadIdx.x;
  const float* in = args.in + int64_t{blockIdx.x} * kSumValues;
  const unsigned skew = args.fault == kMisalignedCopy ? 1 : 0;
  if (thread < kSumValues / 4) copy_async_16(shared + 4 * thread, in + 4 * thread + skew);
  if (thread == 0 && args.fault == kSecondCopy) copy_async_16(shared, in);
  commit_copies();
  if (args.fault != kNoWaitForCopies) wait_for_copies<0>();
  if (args.fault == kPastShared && thread == 77) shared[kSumValues] = 1;
  if (args.fault == kLanesDiverge && thread % 32 == 3) return;
  if (args.fault == kWarpsDiverge && thread / 32 == 1) return;
  if (args.fault != kNoBarrier) __syncthreads();
  if (args.fault == kMisalignedVector) {
    const float4 four = *reinterpret_cast<const float4*>(shared + thread);
    pairs[thread] = four.x + four.w;
  } else {
    pairs[thread] = shared[thread] + shared[kSumValues - 1 - thread];
  }
  __syncthreads();
  if (thread != 0) return;
  float sum = 0;
  for (unsigned i = 0; i < kSumThreads; ++i) sum += pairs[i];
  args.out[blockIdx.x] = sum;
}

constexpr int kStreamLines = kBoxLines;
constexpr int kStreamBoxes = 2;

__device__ void copy_boxes(const Stream& args, uint8_t* slot, SharedBarrier* full, SharedBarrier* empty) {
  for (int box = 0; box < kStreamBoxes; ++box) {
    if (box > 0) wait_at(empty, box - 1);
    if (threadIdx.x % 32 == 0) {
      arrive_announcing(full, args.fault == kWrongBytes ? kBoxBytes + 16 : kBoxBytes);
      if (args.fault == kArrivesTwice) arrive(full);
      copy_box(slot + (args.fault == kMisplacedBox ? 128 : 0), args.map, box * kBoxLines, 0, full);
    }
    __syncwarp();
    if (args.fault == kLeavesCopies) return;
  }
}

__device__ void add_lines(const Stream& args, const uint8_t* slot, SharedBarrier* full, SharedBarrier* empty) {
  const auto lane = static_cast<int>(threadIdx.x % 32);
  const auto line = static_cast<int>(threadIdx.x / 32);
  for (int box = 0; box < (args.fault == kLeavesCopies ? 0 : kStreamBoxes); ++box) {
    if (args.fault != kNoPhaseWait) wait_at(full, box);
    int sum = 0;
    for (int row = 0; row < kBoxRows; ++row) {
      for (int i = 0; i < kLineBytes / 32; ++i) sum += slot[line * kBoxLineBytes + place_in_box(row, lane + 32 * i)];
    }
    for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(kAllLanes, sum, step);
    if (lane == 0) args.out[box * kBoxLines + line] = sum;
    __syncwarp();
    if (lane == 0 && args.fault != kNoRelease) arrive(empty);
    sync_threads<1, kStreamLines * 32>();
  }
}

__global__ void stream(Stream args) {
  XLSTM_DYNAMIC_SHARED(uint8_t, memory);
  __shared__ SharedBarrier barriers[2];
  wait_for_previous();
  uint8_t* const slot = memory + (kBoxAlignment - reinterpret_cast<uintptr_t>(memory) % kBoxAlignment) % kBoxAlignment;
  if (threadIdx.x == 0) {
    init_barrier(barriers, 1);
    init_barrier(barriers + 1, kStreamLines);
    if (args.fault == kInitsTwice) init_barrier(barriers, 2);
    if (args.fault == kWritesOver) barriers[1] = 0;
    if (args.fault != kUnpublished) publish_barriers();
  }
  __syncthreads();
  if (args.fault == kBarrierOfTooMany && threadIdx.x < 32) sync_threads<2, 64>();
  if (threadIdx.x / 32 == kStreamLines) {
    copy_boxes(args, slot, barriers, barriers + 1);
  } else {
    add_lines(args, slot, barriers, barriers + 1);
  }
}

__global__ void add_values(AddStaged args) {
  wait_for_previous();
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < args.count) args.out[i] += static_cast<float>(args.values[i] * args.factor);
}

__global__ void add_one_to_each(AddOne args) {
  start_next();
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  float value = 0;
  if (args.early != 0 && i < args.count) value = args.in[i];
  wait_for_previous();
  if (args.early == 0 && i < args.count) value = args.in[i];
  if (i < args.count) args.out[i] = value + 1;
}

__global__ void count_turns(TakeTurn args) {
  start_next();
  const auto block = static_cast<int>(blockIdx.x);
  wait_for_turn(args.turn, block);
  wait_for_previous();
  if (threadIdx.x != 0) return;
  if (args.counts[block] == args.turn.number) ++args.counts[block];
  if (args.passes != 0) pass_turn(args.turn, block);
}

__global__ void diverge_if(Diverge args) {
  wait_for_previous();
  if (*args.flag != 0 && threadIdx.x == 3) return;
  __syncthreads();
}

__global__ void store_value(Padded args) {
  wait_for_previous();
  *args.out = static_cast<float>(args.value);
}

}  // namespace

void warp_functions(Queue& queue, const WarpFunctions& args) {
  run<try_warp_functions>(queue, {}, args);
}

void multiply_by_matrix_units(Queue& queue, const MatrixUnits& args) {
  run<try_matrix_units>(queue, {}, args);
}

void sum_blocks(Queue& queue, unsigned blocks, const Sums& args) {
  run<sum_block>(queue, {.x = blocks, .threads = kSumThreads, .shared_bytes = kSumValues * sizeof(float)}, args);
}

void stream_boxes(Queue& queue, const Stream& args) {
  constexpr unsigned kThreads = (kStreamLines + 1) * 32;
  run<stream>(queue, {.threads = kThreads, .shared_bytes = kBoxBytes + kBoxAlignment}, args);
}

void add_staged(Queue& queue, const AddStaged& args) {
  constexpr unsigned kThreads = 64;
  const auto blocks = static_cast<unsigned>((args.count + kThreads - 1) / kThreads);
  run<add_values>(queue, {.x = blocks, .threads = kThreads}, args);
}

void add_one(Queue& queue, const AddOne& args) {
  constexpr unsigned kThreads = 32;
  const auto blocks = static_cast<unsigned>((args.count + kThreads - 1) / kThreads);
  run<add_one_to_each>(queue, {.x = blocks, .threads = kThreads}, args);
}

void take_turn(Queue& queue, unsigned blocks, int32_t* counts, bool passes) {
  run<count_turns>(queue, {.x = blocks}, TakeTurn{queue.take_turn(blocks), counts, passes ? 1 : 0});
}

void diverge(Queue& queue, const Diverge& args) {
  run<diverge_if>(queue, {}, args);
}

void run_with_padding(Queue& queue, const Padded& args) {
  run<store_value>(queue, {}, args);
}

}  // namespace xlstm::cuda::samples
