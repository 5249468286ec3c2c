// The greatest logits of a row, in order, so that the host need not read all of them to choose a token.
//
// Two commands. In the first a threadgroup takes a block of logits and keeps its kRun greatest; in the second one
// threadgroup a row merges what the blocks kept. A simdgroup works on runs of kRun keys in threadgroup memory and only
// waits for its own lanes until the simdgroups' results meet. Of two sorted runs a[0] ≥ a[1] ≥ … and b the kRun greatest
// are max(a[i], b[kRun - 1 - i]), which is a bitonic run: log2(kRun) steps sort it (K. E. Batcher, "Sorting networks and
// their applications", 1968).
//
// Nothing is computed but comparisons of integers: the result is that of any other exact selection, whatever a GPU does
// with small floats and in whatever order it runs.
#include "kernels/metal/msl.h"
#include "kernels/metal/sampling_args.h"

using namespace xlstm::shader;

namespace {

// Keys have the order of the logits: NaN counts as +inf, zeros are equal whatever their sign, and of equal logits the
// lower id is greater. No key is 0.
inline ulong key_of(uint bits, int id) {
  const uint infinity = 0x7f800000u;
  const uint zero = 0x7fffffffu;  // its rank
  const uint magnitude = bits & 0x7fffffffu;
  const bool is_negative = bits != magnitude && magnitude <= infinity;
  const uint size = min(magnitude, infinity);
  const uint rank = is_negative ? zero - size : zero + size;
  return (ulong(rank) << 32) | ulong(~uint(id));
}

inline int id_of(ulong key) {
  return int(~uint(key & 0xffffffffu));
}

inline void put_greater_first(threadgroup ulong* run, int first, int second) {
  const ulong a = run[first];
  const ulong b = run[second];
  if (a >= b) return;
  run[first] = b;
  run[second] = a;
}

// Sorts each of the bitonic parts of `size` keys, greatest first.
template <int kRun>
inline void sort_bitonic(threadgroup ulong* run, int size, int lane) {
  for (int stride = size / 2; stride > 0; stride /= 2) {
    for (int pair = lane; pair < kRun / 2; pair += 32) {
      const int first = 2 * pair - (pair & (stride - 1));
      put_greater_first(run, first, first + stride);
    }
    simdgroup_barrier(mem_flags::mem_threadgroup);
  }
}

// Reads the run of logits that begins with `first_id`, sorted.
template <int kRun>
inline void load_sorted(threadgroup ulong* run, device const uint* logits, int first_id, int vocab, int lane) {
  for (int i = lane; i < kRun; i += 32) {
    const int id = first_id + i;
    run[i] = id < vocab ? key_of(logits[id], id) : ulong(0);
  }
  simdgroup_barrier(mem_flags::mem_threadgroup);
  for (int size = 2; size <= kRun; size *= 2) {
    // The halves of a part are sorted: the greater keys of both go into its first half.
    for (int pair = lane; pair < kRun / 2; pair += 32) {
      const int in_half = pair & (size / 2 - 1);
      const int first = 2 * pair - in_half;
      put_greater_first(run, first, first + size - 1 - 2 * in_half);
    }
    simdgroup_barrier(mem_flags::mem_threadgroup);
    sort_bitonic<kRun>(run, size / 2, lane);
  }
}

// best = the kRun greatest of `best` and `other`, all sorted. Keys: a pointer to keys.
template <int kRun, typename Keys>
inline void merge(threadgroup ulong* best, Keys other, int lane) {
  for (int i = lane; i < kRun; i += 32) {
    const ulong key = other[kRun - 1 - i];
    if (key > best[i]) best[i] = key;
  }
  simdgroup_barrier(mem_flags::mem_threadgroup);
  sort_bitonic<kRun>(best, kRun, lane);
}

// Merges the simdgroups' runs, which lie `stride` keys apart, into that of simdgroup 0.
template <int kRun>
inline void merge_simdgroups(threadgroup ulong* best, int stride, int simd, int lane) {
  for (int step = 1; step < kSamplingSimds; step *= 2) {
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (simd % (2 * step) == 0) merge<kRun>(best, (threadgroup const ulong*)(best + step * stride), lane);
  }
}

}  // namespace

// kept[row][block] = the keys of the greatest logits of a block. Grid: [blocks, rows].
template <int kRun>
[[kernel]] void greatest_of_blocks(constant GreatestArgs& args [[buffer(0)]], device const uint* logits [[buffer(1)]],
                                   device ulong* kept [[buffer(2)]], XLSTM_THREAD) {
  XLSTM_SHARED(ulong, shared, kSamplingSimds * 2 * kRun);
  threadgroup ulong* best = shared + int(simd) * 2 * kRun;
  threadgroup ulong* incoming = best + kRun;
  device const uint* row = logits + size_t(group.y) * size_t(args.row_stride);
  const int share = kSamplingBlock / kSamplingSimds;
  const int begin = int(group.x) * kSamplingBlock + int(simd) * share;
  load_sorted<kRun>(best, row, begin, args.vocab, int(lane));
  for (int first = begin + kRun; first < min(begin + share, args.vocab); first += kRun) {
    load_sorted<kRun>(incoming, row, first, args.vocab, int(lane));
    merge<kRun>(best, (threadgroup const ulong*)incoming, int(lane));
  }
  merge_simdgroups<kRun>(best, 2 * kRun, int(simd), int(lane));
  if (simd != 0) return;
  device ulong* to = kept + (size_t(group.y) * size_t(args.blocks) + group.x) * size_t(kRun);
  for (int i = int(lane); i < kRun; i += 32) to[i] = best[i];
}

// candidates[row][i] = id and bits of the i-th greatest logit. Grid: [1, rows].
template <int kRun>
[[kernel]] void merge_blocks(constant GreatestArgs& args [[buffer(0)]], device const uint* logits [[buffer(1)]],
                             device const ulong* kept [[buffer(2)]], device uint* candidates [[buffer(3)]],
                             XLSTM_THREAD) {
  XLSTM_SHARED(ulong, shared, kSamplingSimds * kRun);
  threadgroup ulong* best = shared + int(simd) * kRun;
  device const ulong* from = kept + size_t(group.y) * size_t(args.blocks) * size_t(kRun);
  for (int i = int(lane); i < kRun; i += 32) best[i] = 0;
  simdgroup_barrier(mem_flags::mem_threadgroup);
  for (int block = int(simd); block < args.blocks; block += kSamplingSimds) {
    merge<kRun>(best, from + size_t(block) * size_t(kRun), int(lane));
  }
  merge_simdgroups<kRun>(best, kRun, int(simd), int(lane));
  if (simd != 0) return;
  device const uint* row = logits + size_t(group.y) * size_t(args.row_stride);
  device uint* to = candidates + size_t(group.y) * size_t(args.count) * 2;
  for (int i = int(lane); i < args.count; i += 32) {
    const int id = id_of(best[i]);
    to[2 * i] = uint(id);
    to[2 * i + 1] = row[id];
  }
}

XLSTM_KERNEL_TEMPLATE("greatest_of_blocks_64", greatest_of_blocks, kFewCandidates);
XLSTM_KERNEL_TEMPLATE("greatest_of_blocks_256", greatest_of_blocks, kMostCandidates);
XLSTM_KERNEL_TEMPLATE("merge_blocks_64", merge_blocks, kFewCandidates);
XLSTM_KERNEL_TEMPLATE("merge_blocks_256", merge_blocks, kMostCandidates);
