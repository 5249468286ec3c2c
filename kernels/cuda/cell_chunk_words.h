// Operands of the matrix units as 32-bit words, for the kernels of cell_chunk.h only.
//
// A word is two bfloat16 values or one float32. For both, a product of 16 rows and 8 columns over 8 words takes the
// same words from the same lanes (mma_bf16 and mma_tf32 in kernel.h): of lane l, with g = l / 4 and t = l % 4, words t
// and t+4 of rows g and g+8 and of column g.
#pragma once

#include <cstdint>

#include "kernels/cuda/cell_chunk.h"
#include "kernels/cuda/warp.h"

namespace xlstm::cuda {

constexpr int kStepWords = 8;   // that one product is over
constexpr int kPieceSteps = 4;  // of what a block keeps in shared memory at a time
constexpr int kPieceWords = kPieceSteps * kStepWords;
constexpr int kWarpRows = 32;  // of a warp's sums
constexpr int kRowTiles = kWarpRows / 16;

__device__ inline int lane_id() {
  return static_cast<int>(threadIdx.x % kLanes);
}
__device__ inline int warp_id() {
  return static_cast<int>(threadIdx.x / kLanes);
}

__device__ inline int blocks_of(int count, int block) {
  return (count + block - 1) / block;
}
__device__ inline int smaller(int a, int b) {
  return a < b ? a : b;
}

struct Bfloat16Words {
  static constexpr bool kBfloat16 = true;
  static constexpr int kValues = static_cast<int>(chunk_word(true));
  static constexpr int kTile = static_cast<int>(chunk_tile(true));

  __device__ static uint32_t word(float first, float second) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(first, second);
    return *reinterpret_cast<const uint32_t*>(&pair);
  }
  // word · the float32 values that it stands for
  __device__ static float dot(uint32_t word, const float* values, float sum) {
    sum = fmaf(__uint_as_float(word << 16), values[0], sum);
    return fmaf(__uint_as_float(word & 0xffff0000U), values[1], sum);
  }
  __device__ static void multiply(float (&sum)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    mma_bf16(sum, a, b);
  }
};

// x = high + low with 11 and 12 significant bits: of the products of such pairs only low·low, 2^-22 of the whole, is
// left out.
struct Float32Words {
  static constexpr bool kBfloat16 = false;
  static constexpr int kValues = static_cast<int>(chunk_word(false));
  static constexpr int kTile = static_cast<int>(chunk_tile(false));

  __device__ static float dot(uint32_t word, const float* values, float sum) {
    return fmaf(__uint_as_float(word), values[0], sum);
  }
  template <int kCount>
  __device__ static void split(const uint32_t (&x)[kCount], uint32_t (&high)[kCount], uint32_t (&low)[kCount]) {
    constexpr uint32_t kHalf = 1U << 12;  // of the last bit that stays
    XLSTM_UNROLL
    for (int i = 0; i < kCount; ++i) {
      high[i] = (x[i] + kHalf) & ~(2 * kHalf - 1);
      low[i] = __float_as_uint(__uint_as_float(x[i]) - __uint_as_float(high[i]));
    }
  }
  __device__ static void multiply(float (&sum)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    uint32_t a_high[4];
    uint32_t a_low[4];
    uint32_t b_high[2];
    uint32_t b_low[2];
    split(a, a_high, a_low);
    split(b, b_high, b_low);
    mma_tf32(sum, a_low, b_high);
    mma_tf32(sum, a_high, b_low);
    mma_tf32(sum, a_high, b_high);
  }
};

// Where element `line` of word `word` stands, from the first: lines are rows of A and columns of B.
template <int kLineStride, int kWordStride>
struct Layout {
  static constexpr int kLine = kLineStride;
  static constexpr int kWord = kWordStride;
};

// sums += A · B over `steps` ≤ kPieceSteps steps: kWarpRows rows, 8·kColumnTiles columns of a warp. In sums, value e of
// tile (i, j) is row 16·i + g + 8·(e / 2), column 8·j + 2·t + e % 2.
template <class Words, class A, class B, int kColumnTiles>
__device__ __forceinline__ void multiply(const uint32_t* a, const uint32_t* b, int steps,
                                         float (&sums)[kRowTiles][kColumnTiles][4]) {
  const int line = lane_id() / 4;
  const int word = lane_id() % 4;
  a += line * A::kLine + word * A::kWord;
  b += line * B::kLine + word * B::kWord;
  XLSTM_UNROLL
  for (int step = 0; step < kPieceSteps; ++step) {
    if (step >= steps) break;
    uint32_t rows[kRowTiles][4];
    XLSTM_UNROLL
    for (int i = 0; i < kRowTiles; ++i) {
      const uint32_t* from = a + 16 * i * A::kLine + step * kStepWords * A::kWord;
      rows[i][0] = from[0];
      rows[i][1] = from[8 * A::kLine];
      rows[i][2] = from[4 * A::kWord];
      rows[i][3] = from[8 * A::kLine + 4 * A::kWord];
    }
    XLSTM_UNROLL
    for (int j = 0; j < kColumnTiles; ++j) {
      const uint32_t* from = b + 8 * j * B::kLine + step * kStepWords * B::kWord;
      const uint32_t columns[2] = {from[0], from[4 * B::kWord]};
      XLSTM_UNROLL
      for (int i = 0; i < kRowTiles; ++i) Words::multiply(sums[i][j], rows[i], columns);
    }
  }
}

// Copies kRows rows of kWords words by a block of kThreads threads. Addresses and strides are multiples of 16 bytes.
template <int kRows, int kWords, int kThreads>
__device__ inline void copy_rows(uint32_t* to, int to_stride, const uint32_t* from, int64_t from_stride) {
  constexpr int kCopyWords = 4;
  constexpr int kRowCopies = kWords / kCopyWords;
  static_assert(kRows * kRowCopies % kThreads == 0);
  XLSTM_UNROLL
  for (int i = 0; i < kRows * kRowCopies / kThreads; ++i) {
    const int index = i * kThreads + static_cast<int>(threadIdx.x);
    const int row = index / kRowCopies;
    const int word = index % kRowCopies * kCopyWords;
    copy_async_16(to + row * to_stride + word, from + row * from_stride + word);
  }
}

// The place of a tile of head `head` of the band among those of all heads.
__device__ inline int64_t tile_index(const ChunkArgs& args, int head, int tile) {
  return int64_t{head} * args.tile_count + tile;
}

// One value per token of tile number `index` (tile_index()).
template <class Words>
__device__ inline float* token_array(const ChunkArgs& args, ChunkArray which, int64_t index) {
  return args.arrays + (int64_t{which} * args.heads * args.tile_count + index) * Words::kTile;
}

}  // namespace xlstm::cuda
