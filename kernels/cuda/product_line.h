// How product_narrow.cu multiplies a line of a tile, 16 rows of W by 128 bytes, with its scales and zeros. For .cu
// files only.
#pragma once

#include "kernels/cuda/product_parts.h"

namespace xlstm::cuda {

template <class F>
struct Line {
  static constexpr int kColumns = kLineBytes * 8 / F::kBits;
  static constexpr int kBlocks = kColumns / kBlockColumns;
};

// Scales and zeros of rows g and g + 8 of a tile. Of a line's spans of kSpan · kBlockColumns columns, each in one
// group, lane t of a quad loads those of t, t + 4, ... for all four.
template <class F, int kSpan>
struct LineGroups {
  static constexpr int kSpans = Line<F>::kBlocks / kSpan;
  static constexpr int kLoads = F::kHasScale ? (kSpans + 3) / 4 : 1;
  uint16_t scales[kLoads][2];
  uint8_t zeros[kLoads][2];

  // `place`: of the line in the row.
  __device__ inline void load(const ProductArgs& args, int tile, int place) {
    if constexpr (F::kHasScale) {
      const int lane = lane_of_warp();
      const int out = tile * kTileOuts + lane / 4;
      const int64_t low = int64_t{least(out, args.out - 1)} * args.groups;
      const int64_t high = int64_t{least(out + kTileOuts / 2, args.out - 1)} * args.groups;
      XLSTM_UNROLL
      for (int i = 0; i < kLoads; ++i) {
        const int span = least(4 * i + lane % 4, kSpans - 1);
        const int group = group_of(args, place * Line<F>::kColumns + span * kSpan * kBlockColumns);
        scales[i][0] = args.scale[low + group];
        scales[i][1] = args.scale[high + group];
        if constexpr (F::kHasZero) {
          zeros[i][0] = args.zero[low + group];
          zeros[i][1] = args.zero[high + group];
        }
      }
    }
  }
  // A zero above its scale. Not before it is needed: this waits for both.
  [[nodiscard]] __device__ inline uint32_t value(int load, int row) const {
    if constexpr (!F::kHasZero) return scales[load][row];
    return static_cast<uint32_t>(zeros[load][row]) << 16 | scales[load][row];
  }
};

// The same of one row of x: lane t has the scales and zeros of a line's blocks 2t and 2t + 1, of row g in [0], of row
// g + 8 in [1]. kPaired: an even number of groups of kBlockColumns columns.
template <class F, bool kPaired>
struct BlockGroups {
  uint32_t scales[2];
  uint32_t zeros[2];

  __device__ inline void load(const ProductArgs& args, int tile, int place) {
    const int lane = lane_of_warp();
    const int block = place * Line<F>::kBlocks + lane % 4 * 2;
    XLSTM_UNROLL
    for (int i = 0; i < 2; ++i) {
      const int out = least(tile * kTileOuts + lane / 4 + i * kTileOuts / 2, args.out - 1);
      const int64_t row = int64_t{out} * args.groups;
      if constexpr (kPaired) {
        const int64_t first = row + least(block, args.groups - 2);
        scales[i] = *reinterpret_cast<const uint32_t*>(args.scale + first);
        zeros[i] = *reinterpret_cast<const uint16_t*>(args.zero + first);
      } else {
        const int group = group_of(args, block * kBlockColumns);
        const int next = group_of(args, (block + 1) * kBlockColumns);
        scales[i] = args.scale[row + group] | static_cast<uint32_t>(args.scale[row + next]) << 16;
        zeros[i] = args.zero[row + group] | static_cast<uint32_t>(args.zero[row + next]) << 8;
      }
    }
  }
};

// The lane's word of block `block` in row g of a line, or in row g + 8.
template <class F>
__device__ inline typename F::Raw word_of(const uint8_t* line, int block, bool high) {
  static_assert(kTileOuts / 2 == 8, "rows g and g + 8 are turned alike");
  const int lane = lane_of_warp();
  const int at = place_in_box(lane / 4, lane % 4 * F::kBits) ^ block * 4 * F::kBits;
  return *reinterpret_cast<const typename F::Raw*>(line + at + (high ? kTileOuts / 2 * kLineBytes : 0));
}

// sums += W · x of block `block` of a line, without scales. `x`: the lane's columns of the line in the row of x that
// its quad has. `low` and `high` hold zeros, as LineGroups::value() has them.
template <class F>
__device__ inline void multiply_block(const uint8_t* line, const __nv_bfloat16* x, int block, uint32_t low,
                                      uint32_t high, float (&sums)[4]) {
  const auto raw_low = word_of<F>(line, block, false);
  const auto raw_high = word_of<F>(line, block, true);
  const uint4 ordered = *reinterpret_cast<const uint4*>(x + block * kBlockColumns);
  const uint32_t factors[4] = {ordered.x, ordered.y, ordered.z, ordered.w};
  uint32_t low_pairs[F::kParts][4];
  uint32_t high_pairs[F::kParts][4];
  F::widen(raw_low, low >> 16, low_pairs);
  F::widen(raw_high, high >> 16, high_pairs);
  add_products<F>(low_pairs, high_pairs, factors, sums);
}

// How a warp multiplies a line: of any number of rows of x.
template <class Format, int kSpan>
struct OfRows {
  using F = Format;
  using Groups = LineGroups<F, kSpan>;
  static constexpr bool kNeedsBlockSums = false;

  static __device__ inline const __nv_bfloat16* part_of_lane(const ProductArgs& args, const __nv_bfloat16* rows,
                                                             int stride) {
    return rows + least(lane_of_warp() / 4, args.rows - 1) * stride + lane_of_warp() % 4 * kLaneColumns;
  }
  static __device__ inline void multiply(const uint8_t* line, const __nv_bfloat16* x, const float* /*block_sums*/,
                                         const Groups& groups, float (&sums)[4]) {
    XLSTM_UNROLL
    for (int span = 0; span < Line<F>::kBlocks / kSpan; ++span) {
      if constexpr (!F::kHasScale) {
        multiply_block<F>(line, x, span, 0, 0, sums);
      } else {
        const uint32_t low = __shfl_sync(kAllLanes, groups.value(span / 4, 0), span % 4, 4);
        const uint32_t high = __shfl_sync(kAllLanes, groups.value(span / 4, 1), span % 4, 4);
        float part[4] = {};
        XLSTM_UNROLL
        for (int i = 0; i < kSpan; ++i) multiply_block<F>(line, x, span * kSpan + i, low, high, part);
        XLSTM_UNROLL
        for (int i = 0; i < 4; ++i) sums[i] = fmaf(half_value((i < 2 ? low : high) & 0xffffU), part[i], sums[i]);
      }
    }
  }
  // [rows of x][rows of W]
  static __device__ inline void put(const float (&sums)[4], float* to) {
    const int lane = lane_of_warp();
    XLSTM_UNROLL
    for (int i = 0; i < 4; ++i) to[(lane % 4 * 2 + i % 2) * kTileOuts + lane / 4 + i / 2 * kTileOuts / 2] = sums[i];
  }
};

// Of one row of x by int4 weights. The matrix units take eight columns of B: column i has x of a line's block i, so
// that a product of block i has its sum there, and rubbish elsewhere; each lane keeps the sums of two blocks and scales
// them once for the line. Codes are left (128 + code): what is too much is (128 + zero) · the sum of x.
template <class Format, bool kPaired>
struct OfOneRow {
  using F = Format;
  using Groups = BlockGroups<F, kPaired>;
  static constexpr bool kNeedsBlockSums = true;
  static_assert(Line<F>::kBlocks == kTileRows);

  static __device__ inline const __nv_bfloat16* part_of_lane(const ProductArgs& /*args*/, const __nv_bfloat16* rows,
                                                             int /*stride*/) {
    return rows + lane_of_warp() * kLaneColumns;
  }
  static __device__ inline void multiply(const uint8_t* line, const __nv_bfloat16* x, const float* block_sums,
                                         const Groups& groups, float (&sums)[4]) {
    const int t = lane_of_warp() % 4;
    const uint4 ordered = *reinterpret_cast<const uint4*>(x);
    const uint32_t factors[4] = {ordered.x, ordered.y, ordered.z, ordered.w};
    float kept[4];
    XLSTM_UNROLL
    for (int block = 0; block < Line<F>::kBlocks; ++block) {
      uint32_t low[F::kParts][4];
      uint32_t high[F::kParts][4];
      F::widen_above(word_of<F>(line, block, false), low);
      F::widen_above(word_of<F>(line, block, true), high);
      float part[4] = {};
      add_products<F>(low, high, factors, part);
      kept[block % 2] = t >= block / 2 ? part[block % 2] : kept[block % 2];
      kept[block % 2 + 2] = t >= block / 2 ? part[block % 2 + 2] : kept[block % 2 + 2];
    }
    const float2 x_sums = *reinterpret_cast<const float2*>(block_sums + 2 * t);
    XLSTM_UNROLL
    for (int row = 0; row < 2; ++row) {
      const uint32_t scales = groups.scales[row];
      const uint32_t zeros = groups.zeros[row];
      const float first = fmaf(-F::above(zeros & 0xffU), x_sums.x, kept[2 * row]);
      const float second = fmaf(-F::above(zeros >> 8), x_sums.y, kept[2 * row + 1]);
      sums[row] = fmaf(half_value(scales & 0xffffU), first, sums[row]);
      sums[row] = fmaf(half_value(scales >> 16), second, sums[row]);
    }
  }
  static __device__ inline void put(const float (&sums)[4], float* to) {
    const int lane = lane_of_warp();
    XLSTM_UNROLL
    for (int row = 0; row < 2; ++row) {
      float sum = sums[row];
      sum += __shfl_xor_sync(kAllLanes, sum, 1);
      sum += __shfl_xor_sync(kAllLanes, sum, 2);
      if (lane % 4 == 0) to[lane / 4 + row * kTileOuts / 2] = sum;
    }
  }
};

}  // namespace xlstm::cuda
