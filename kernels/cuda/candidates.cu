// The greatest logits of a row, in order, so that the host need not read all of them to choose a token.
//
// Two kernels: in the first a block takes a part of a row and keeps as many of its greatest logits as are asked for, in
// the second a block merges what the blocks of a row kept. A warp holds its greatest keys so far, sorted, in registers.
// It collects those that are greater than the least of these; when they are enough they are sorted and merged in. Of
// two sorted runs a[0] ≥ a[1] ≥ … and b[0] ≤ b[1] ≤ … the greater half are max(a[i], b[i]), which is a bitonic run and
// sorted in log2 steps (K. E. Batcher, "Sorting networks and their applications", 1968).
//
// Nothing is computed but comparisons of integers, so the result does not depend on the order of anything.
#include <algorithm>

#include "kernels/cuda/blocks.h"
#include "kernels/cuda/rows.h"
#include "kernels/cuda/warp.h"
#include "xlstm/core/errors.h"

namespace xlstm::cuda {
namespace {

constexpr int kWarps = 8;  // of a block
constexpr int kThreads = kWarps * kLanes;
constexpr int kAhead = 8;  // logits that a lane loads before it looks at the first
constexpr int kGroup = kAhead * kLanes;
// Keys of a sorted run that a lane holds, for up to kLanes times as many candidates.
constexpr int kFewKeys = 2;
constexpr int kMostKeys = static_cast<int>(kMaxCandidates) / kLanes;
// More blocks than a large device runs at once do not make it faster.
constexpr int64_t kEnoughBlocks = 512;

struct CandidateArgs {
  const float* logits;
  int64_t stride;
  uint64_t* kept;  // of every block of every row
  int32_t* out;
  int64_t share;  // logits of a warp: a multiple of kGroup
  int32_t vocab;
  int32_t count;
  int32_t blocks;  // of a row
  int32_t unused;
};

// Keys have the order of the logits: NaN counts as +inf, zeros are equal whatever their sign, and of equal logits the
// lower id is greater. No key is 0.
__device__ inline uint64_t key_of(float logit, int32_t id) {
  constexpr uint32_t kMagnitude = 0x7fffffffU;
  constexpr uint32_t kInfinity = 0x7f800000U;
  constexpr uint32_t kRankOfZero = kMagnitude;
  const uint32_t bits = __float_as_uint(logit);
  const uint32_t magnitude = bits & kMagnitude;
  const bool is_negative = bits != magnitude && magnitude <= kInfinity;
  const uint32_t size = magnitude < kInfinity ? magnitude : kInfinity;
  const uint32_t rank = is_negative ? kRankOfZero - size : kRankOfZero + size;
  return static_cast<uint64_t>(rank) << 32 | static_cast<uint32_t>(~id);
}

__device__ inline uint64_t greater(uint64_t a, uint64_t b) {
  return a > b ? a : b;
}

// keys[j] = the key of logit begin + kLanes · j + lane, 0 from `end` on.
__device__ inline void load_keys(uint64_t (&keys)[kAhead], const float* logits, int64_t begin, int64_t end, int lane) {
  float loaded[kAhead];
  XLSTM_UNROLL
  for (int j = 0; j < kAhead; ++j) {
    const int64_t id = begin + j * kLanes + lane;
    loaded[j] = id < end ? logits[id] : 0.0F;
  }
  XLSTM_UNROLL
  for (int j = 0; j < kAhead; ++j) {
    const int64_t id = begin + j * kLanes + lane;
    keys[j] = id < end ? key_of(loaded[j], static_cast<int32_t>(id)) : 0;
  }
}

// The logits [begin, end) of a row that the caller's warp looks at.
struct Share {
  const float* logits;
  int64_t begin;
  int64_t end;
};

__device__ inline Share share_of(const CandidateArgs& args, int warp) {
  const int64_t begin = (static_cast<int64_t>(blockIdx.y) * kWarps + warp) * args.share;
  const int64_t behind = begin + args.share;
  return {args.logits + static_cast<int64_t>(blockIdx.x) * args.stride, begin,
          behind < args.vocab ? behind : args.vocab};
}

__device__ inline void put_candidate(const CandidateArgs& args, int index, uint64_t key) {
  const int64_t row = blockIdx.x;
  const auto id = static_cast<int32_t>(~static_cast<uint32_t>(key));
  int32_t* to = args.out + 2 * (row * args.count + index);
  to[0] = id;
  to[1] = __float_as_int(args.logits[row * args.stride + id]);
}

__device__ inline uint64_t warp_greatest(uint64_t key) {
  XLSTM_UNROLL
  for (int step = kLanes / 2; step > 0; step /= 2) key = greater(key, __shfl_xor_sync(kAllLanes, key, step));
  return key;
}

// For a count of 1: kept[row][block] = the greatest key of the block's part. Grid: [rows, blocks].
__global__ void __launch_bounds__(kThreads) find_greatest_of_blocks(CandidateArgs args) {
  __shared__ uint64_t of_warps[kWarps];
  start_next();
  wait_for_previous();
  const int warp = static_cast<int>(threadIdx.x) / kLanes;
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const Share share = share_of(args, warp);
  uint64_t greatest = 0;
  for (int64_t begin = share.begin; begin < share.end; begin += kGroup) {
    uint64_t keys[kAhead];
    load_keys(keys, share.logits, begin, share.end, lane);
    XLSTM_UNROLL
    for (int j = 0; j < kAhead; ++j) greatest = greater(greatest, keys[j]);
  }
  greatest = warp_greatest(greatest);
  if (lane == 0) of_warps[warp] = greatest;
  __syncthreads();
  if (warp != 0) return;
  greatest = warp_greatest(lane < kWarps ? of_warps[lane] : 0);
  if (lane == 0) args.kept[static_cast<int64_t>(blockIdx.x) * args.blocks + blockIdx.y] = greatest;
}

// Blocks of one warp. Grid: [rows].
__global__ void __launch_bounds__(kLanes) find_greatest_of_rows(CandidateArgs args) {
  start_next();
  wait_for_previous();
  const auto lane = static_cast<int>(threadIdx.x);
  const uint64_t* kept = args.kept + static_cast<int64_t>(blockIdx.x) * args.blocks;
  uint64_t greatest = 0;
  for (int block = lane; block < args.blocks; block += kLanes) greatest = greater(greatest, kept[block]);
  greatest = warp_greatest(greatest);
  if (lane == 0) put_candidate(args, 0, greatest);
}

// A sorted run of kLanes · kKeys keys in a warp's registers: key i is keys[i % kKeys] of lane i / kKeys. In memory it
// stands at place (i % kKeys) · kLanes + i / kKeys, so that lanes meet different banks.
template <int kKeys>
using Keys = uint64_t[kKeys];

template <int kKeys>
__device__ inline void store_run(const Keys<kKeys>& keys, uint64_t* run, int lane) {
  XLSTM_UNROLL
  for (int j = 0; j < kKeys; ++j) run[j * kLanes + lane] = keys[j];
}

template <int kKeys>
__device__ inline void load_reversed(Keys<kKeys>& keys, const uint64_t* run, int lane) {
  XLSTM_UNROLL
  for (int j = 0; j < kKeys; ++j) keys[j] = run[(kKeys - 1 - j) * kLanes + kLanes - 1 - lane];
}

__device__ inline void put_in_order(uint64_t& first, uint64_t& second, bool is_descending) {
  const uint64_t a = first;
  const uint64_t b = second;
  const bool swap = (a < b) == is_descending;
  first = swap ? b : a;
  second = swap ? a : b;
}

// Sorts the bitonic parts that each stand in so many lanes.
template <int kKeys>
__device__ inline void sort_bitonic(Keys<kKeys>& keys, int lanes, int lane, bool is_descending) {
  for (int stride = lanes / 2; stride > 0; stride /= 2) {
    const bool keeps_greater = ((lane & stride) == 0) == is_descending;
    XLSTM_UNROLL
    for (int j = 0; j < kKeys; ++j) {
      const uint64_t other = __shfl_xor_sync(kAllLanes, keys[j], stride);
      keys[j] = (keys[j] < other) == keeps_greater ? other : keys[j];
    }
  }
  XLSTM_UNROLL
  for (int stride = kKeys / 2; stride > 0; stride /= 2) {
    XLSTM_UNROLL
    for (int j = 0; j < kKeys; ++j) {
      if ((j & stride) == 0) put_in_order(keys[j], keys[j | stride], is_descending);
    }
  }
}

// Least first. Neighbouring parts are sorted in opposite directions, so that the two are one bitonic part.
template <int kKeys>
__device__ inline void sort_ascending(Keys<kKeys>& keys, int lane) {
  XLSTM_UNROLL
  for (int size = 2; size < kKeys; size *= 2) {
    XLSTM_UNROLL
    for (int stride = size / 2; stride > 0; stride /= 2) {
      XLSTM_UNROLL
      for (int j = 0; j < kKeys; ++j) {
        if ((j & stride) == 0) put_in_order(keys[j], keys[j | stride], (j & size) != 0);
      }
    }
  }
  for (int lanes = 1; lanes <= kLanes; lanes *= 2) sort_bitonic<kKeys>(keys, lanes, lane, (lane & lanes) != 0);
}

// best = the greatest of both, greatest first; `ascending` is least first.
template <int kKeys>
__device__ inline void take_greater(Keys<kKeys>& best, const Keys<kKeys>& ascending, int lane) {
  XLSTM_UNROLL
  for (int j = 0; j < kKeys; ++j) best[j] = greater(best[j], ascending[j]);
  sort_bitonic<kKeys>(best, kLanes, lane, true);
}

// The same of `count` keys in any order, which the warp's lanes have just written.
template <int kKeys>
__device__ inline void take_unsorted(Keys<kKeys>& best, const uint64_t* from, int count, int lane) {
  Keys<kKeys> keys;
  __syncwarp();
  XLSTM_UNROLL
  for (int j = 0; j < kKeys; ++j) keys[j] = j * kLanes + lane < count ? from[j * kLanes + lane] : 0;
  __syncwarp();
  sort_ascending<kKeys>(keys, lane);
  take_greater<kKeys>(best, keys, lane);
}

// Merges the warps' runs into that of warp 0. `runs`: [kWarps] places, `stride` keys apart, each the warp's own so far.
template <int kKeys>
__device__ inline void merge_warps(Keys<kKeys>& best, uint64_t* runs, int stride, int warp, int lane) {
  for (int step = 1; step < kWarps; step *= 2) {
    if (warp % (2 * step) == step) store_run<kKeys>(best, runs + warp * stride, lane);
    __syncthreads();
    if (warp % (2 * step) != 0) continue;
    Keys<kKeys> other;
    load_reversed<kKeys>(other, runs + (warp + step) * stride, lane);
    take_greater<kKeys>(best, other, lane);
  }
}

// The greatest keys of a warp's share. `collected`: room for kLanes · kKeys + kGroup keys.
template <int kKeys>
__device__ inline void find_greatest_of_share(Keys<kKeys>& best, const Share& share, uint64_t* collected, int lane) {
  constexpr int kRun = kLanes * kKeys;
  const unsigned lanes_before = (1U << lane) - 1;
  uint64_t least = 0;  // of the best; no key is 0
  int count = 0;
  for (int64_t begin = share.begin; begin < share.end; begin += kGroup) {
    uint64_t keys[kAhead];
    load_keys(keys, share.logits, begin, share.end, lane);
    XLSTM_UNROLL
    for (int j = 0; j < kAhead; ++j) {
      const bool is_candidate = keys[j] > least;
      const unsigned candidates = __ballot_sync(kAllLanes, is_candidate);
      if (is_candidate) collected[count + __popc(candidates & lanes_before)] = keys[j];
      count += __popc(candidates);
    }
    const bool is_last = begin + kGroup >= share.end;
    while (count >= kRun || (is_last && count > 0)) {
      const int taken = count < kRun ? count : kRun;
      count -= taken;
      take_unsorted<kKeys>(best, collected + count, taken, lane);
      least = __shfl_sync(kAllLanes, best[kKeys - 1], kLanes - 1);
    }
  }
}

// kept[row][block] = the run of the greatest keys of the block's part. Grid: [rows, blocks].
template <int kKeys>
__global__ void __launch_bounds__(kThreads) keep_greatest(CandidateArgs args) {
  constexpr int kRun = kLanes * kKeys;
  constexpr int kRoom = kRun + kGroup;
  __shared__ uint64_t collected[kWarps * kRoom];
  start_next();
  wait_for_previous();
  const int warp = static_cast<int>(threadIdx.x) / kLanes;
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  Keys<kKeys> best = {};
  find_greatest_of_share<kKeys>(best, share_of(args, warp), collected + warp * kRoom, lane);
  merge_warps<kKeys>(best, collected, kRoom, warp, lane);
  if (warp != 0) return;
  store_run<kKeys>(best, args.kept + (static_cast<int64_t>(blockIdx.x) * args.blocks + blockIdx.y) * kRun, lane);
}

// Grid: [rows].
template <int kKeys>
__global__ void __launch_bounds__(kThreads) merge_kept(CandidateArgs args) {
  constexpr int kRun = kLanes * kKeys;
  __shared__ uint64_t runs[kWarps * kRun];
  start_next();
  wait_for_previous();
  const int warp = static_cast<int>(threadIdx.x) / kLanes;
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const uint64_t* kept = args.kept + static_cast<int64_t>(blockIdx.x) * args.blocks * kRun;
  Keys<kKeys> best = {};
  Keys<kKeys> next = {};  // on their way while those before them are sorted
  if (warp < args.blocks) load_reversed<kKeys>(next, kept + static_cast<int64_t>(warp) * kRun, lane);
  for (int block = warp; block < args.blocks; block += kWarps) {
    Keys<kKeys> other;
    XLSTM_UNROLL
    for (int j = 0; j < kKeys; ++j) other[j] = next[j];
    const int64_t later = block + kWarps;
    if (later < args.blocks) load_reversed<kKeys>(next, kept + later * kRun, lane);
    take_greater<kKeys>(best, other, lane);
  }
  merge_warps<kKeys>(best, runs, kRun, warp, lane);
  if (warp != 0) return;
  XLSTM_UNROLL
  for (int j = 0; j < kKeys; ++j) {
    const int index = lane * kKeys + j;
    if (index < args.count) put_candidate(args, index, best[j]);
  }
}

// Of a block, which has a group for each warp at least.
int64_t most_blocks(int64_t vocab) {
  return blocks_of(vocab, int64_t{kGroup} * kWarps);
}

int64_t keys_of_block(int64_t count) {
  if (count == 1) return 1;
  return kLanes * (count <= kLanes * kFewKeys ? kFewKeys : kMostKeys);
}

template <int kKeys>
void find_sorted(Queue& queue, const Grid& parts, const Grid& rows, const CandidateArgs& args) {
  run<keep_greatest<kKeys>>(queue, parts, args);
  run<merge_kept<kKeys>>(queue, rows, args);
}

}  // namespace

int64_t candidate_scratch(int64_t rows, int64_t vocab, int64_t count) {
  const int64_t blocks = std::min(kEnoughBlocks, rows * most_blocks(vocab));
  return std::max(blocks, rows) * keys_of_block(count);
}

void find_candidates(Queue& queue, const Candidates& args) {
  XLSTM_ASSERT(args.count >= 1 && args.count <= kMaxCandidates && args.count <= args.vocab);
  XLSTM_ASSERT(args.vocab <= args.stride && args.vocab <= INT32_MAX && args.rows <= INT32_MAX);
  if (args.rows == 0) return;
  const int64_t wanted = std::clamp(kEnoughBlocks / args.rows, int64_t{1}, most_blocks(args.vocab));
  const int64_t share = blocks_of(args.vocab, wanted * kWarps * kGroup) * kGroup;
  const int64_t blocks = blocks_of(args.vocab, share * kWarps);
  const CandidateArgs own = {args.logits,
                             args.stride,
                             args.scratch,
                             args.out,
                             share,
                             static_cast<int32_t>(args.vocab),
                             static_cast<int32_t>(args.count),
                             static_cast<int32_t>(blocks),
                             0};
  const auto rows = static_cast<unsigned>(args.rows);
  const Grid parts = {.x = rows, .y = static_cast<unsigned>(blocks), .threads = kThreads};
  if (args.count == 1) {
    run<find_greatest_of_blocks>(queue, parts, own);
    run<find_greatest_of_rows>(queue, {.x = rows, .threads = kLanes}, own);
  } else if (args.count <= kLanes * kFewKeys) {
    find_sorted<kFewKeys>(queue, parts, {.x = rows, .threads = kThreads}, own);
  } else {
    find_sorted<kMostKeys>(queue, parts, {.x = rows, .threads = kThreads}, own);
  }
}

}  // namespace xlstm::cuda
