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

// Scales and zeros of a box's groups in shared memory, as Matrix (product.h) has them; groups of kBlockColumns columns
// are the most that a box has.
template <class F>
struct BoxGroups {
  static constexpr int kColumns = kBoxLines * Line<F>::kColumns;
  static constexpr int kMost = F::kHasScale ? kColumns / kBlockColumns : 0;
  static constexpr int kScaleBytes = kTileOuts * static_cast<int>(sizeof(uint16_t));  // of a group
  static constexpr int kZeroBytes = F::kHasZero ? kTileOuts : 0;
  static constexpr int kBytes = kMost * (kScaleBytes + kZeroBytes);

  const uint8_t* memory;  // [kMost] of scales, [kMost] of zeros
  int first;              // group

  // Of rows g and g + 8 in the lower and the upper half.
  [[nodiscard]] __device__ inline uint32_t scales(int group) const {
    return *reinterpret_cast<const uint32_t*>(memory + (group - first) * kScaleBytes + lane_of_warp() / 4 * 4);
  }
  [[nodiscard]] __device__ inline uint32_t zeros(int group) const {
    return *reinterpret_cast<const uint16_t*>(memory + kMost * kScaleBytes + (group - first) * kZeroBytes +
                                              lane_of_warp() / 4 * 2);
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
// its quad has. `zeros`: of rows g and g + 8 in the lower and the upper byte.
template <class F>
__device__ inline void multiply_block(const uint8_t* line, const __nv_bfloat16* x, int block, uint32_t zeros,
                                      float (&sums)[4]) {
  const auto raw_low = word_of<F>(line, block, false);
  const auto raw_high = word_of<F>(line, block, true);
  const uint4 of_block = *reinterpret_cast<const uint4*>(x + block * kBlockColumns);
  const uint32_t factors[4] = {of_block.x, of_block.y, of_block.z, of_block.w};
  uint32_t low_pairs[F::kParts][4];
  uint32_t high_pairs[F::kParts][4];
  F::widen(raw_low, zeros & 0xffU, low_pairs);
  F::widen(raw_high, zeros >> 8, high_pairs);
  add_products<F>(low_pairs, high_pairs, factors, sums);
}

// How a warp multiplies a line: of any number of rows of x. Wherever a line's span of kSpan blocks begins, it is in one
// group.
template <class Format, int kSpan>
struct OfRows {
  using F = Format;
  static constexpr bool kNeedsBlockSums = false;

  static __device__ inline const __nv_bfloat16* part_of_lane(const ProductArgs& args, const __nv_bfloat16* rows,
                                                             int stride) {
    return rows + least(lane_of_warp() / 4, args.rows - 1) * stride + lane_of_warp() % 4 * kLaneColumns;
  }
  // `place`: of the line in the row.
  static __device__ inline void multiply(const ProductArgs& args, const uint8_t* line, const BoxGroups<F>& groups,
                                         int place, const __nv_bfloat16* x, const float* /*block_sums*/,
                                         float (&sums)[4]) {
    const __nv_bfloat16* const of_line = x + place * Line<F>::kColumns;
    XLSTM_UNROLL
    for (int span = 0; span < Line<F>::kBlocks / kSpan; ++span) {
      if constexpr (!F::kHasScale) {
        multiply_block<F>(line, of_line, span, 0, sums);
      } else {
        const int group = group_of(args, place * Line<F>::kColumns + span * kSpan * kBlockColumns);
        const uint32_t scales = groups.scales(group);
        const uint32_t zeros = F::kHasZero ? groups.zeros(group) : 0;
        float part[4] = {};
        XLSTM_UNROLL
        for (int i = 0; i < kSpan; ++i) multiply_block<F>(line, of_line, span * kSpan + i, zeros, part);
        XLSTM_UNROLL
        for (int i = 0; i < 4; ++i) {
          sums[i] = fmaf(half_value(i < 2 ? scales & 0xffffU : scales >> 16), part[i], sums[i]);
        }
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
template <class Format>
struct OfOneRow {
  using F = Format;
  static constexpr bool kNeedsBlockSums = true;
  static_assert(Line<F>::kBlocks == kTileRows);

  static __device__ inline const __nv_bfloat16* part_of_lane(const ProductArgs& /*args*/, const __nv_bfloat16* rows,
                                                             int /*stride*/) {
    return rows + lane_of_warp() * kLaneColumns;
  }
  static __device__ inline void multiply(const ProductArgs& args, const uint8_t* line, const BoxGroups<F>& groups,
                                         int place, const __nv_bfloat16* x, const float* block_sums, float (&sums)[4]) {
    const int t = lane_of_warp() % 4;
    const uint4 of_lane = *reinterpret_cast<const uint4*>(x + place * Line<F>::kColumns);
    const uint32_t factors[4] = {of_lane.x, of_lane.y, of_lane.z, of_lane.w};
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
    const int first_block = place * Line<F>::kBlocks + 2 * t;
    const float2 x_sums = *reinterpret_cast<const float2*>(block_sums + first_block);
    XLSTM_UNROLL
    for (int i = 0; i < 2; ++i) {
      const int group = group_of(args, (first_block + i) * kBlockColumns);
      const uint32_t scales = groups.scales(group);
      const uint32_t zeros = groups.zeros(group);
      const float x_sum = i == 0 ? x_sums.x : x_sums.y;
      sums[0] = fmaf(half_value(scales & 0xffffU), fmaf(-F::above(zeros & 0xffU), x_sum, kept[i]), sums[0]);
      sums[1] = fmaf(half_value(scales >> 16), fmaf(-F::above(zeros >> 8), x_sum, kept[i + 2]), sums[1]);
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
