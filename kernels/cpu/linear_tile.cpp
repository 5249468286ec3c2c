#include "kernels/cpu/linear_tile.h"

#include <algorithm>

#include "kernels/cpu/simd_targets.h"
//
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/linear_tile.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
//
#include "kernels/cpu/dot_block-inl.h"

HWY_BEFORE_NAMESPACE();
namespace xlstm::cpu {
namespace HWY_NAMESPACE {

// Activations and weights of one block along K, together 20 KiB in float32, stay in the first-level cache.
constexpr int64_t kMaxSumLength = 512;

// How far ahead of its use a weight is fetched from memory.
constexpr int64_t kPrefetchBytes = 2048;

// Rows of up to this many pieces are streamed; longer ones are read four at a time, each in a run long enough for the
// hardware to follow.
constexpr int64_t kMaxStreamedPieces = 8;

// Length of the pieces that the sum over `in` is cut into; all but the last a multiple of the longest vector.
inline int64_t sum_length(int64_t in) {
  const int64_t pieces = (in + kMaxSumLength - 1) / kMaxSumLength;
  return ((in + pieces - 1) / pieces + 15) / 16 * 16;
}

// With up to this many rows of activations the weights are streamed; with more, the loads of the activations, which
// streaming does not share between weight rows, would cost more than it gains.
constexpr int64_t kStreamedRows = 2;

// Up to this many rows of activations a product is bound by reading the weights.
constexpr int64_t kFewRows = 24;

struct Block {
  int64_t row = 0, rows = 0;
  int64_t col = 0, cols = 0;
  int64_t k = 0, count = 0;
  Prefetch prefetch;
};

// For weights that come from memory, kBlockCols rows of `in` elements at a time.
template <class T>
Prefetch block_prefetch(int64_t in) {
  constexpr auto kAhead = kPrefetchBytes / kBlockCols / static_cast<int64_t>(sizeof(T));
  const int64_t block = kBlockCols * in;
  const int64_t rest = kAhead % in;
  const int64_t near = kAhead / in * block + rest;
  return {near, near + block - in, in - rest};
}

HWY_INLINE void add_sums(const LinearTile& tile, const Block& block, const float* HWY_RESTRICT sums) {
  const bool first = block.k == 0;
  for (int64_t r = 0; r < block.rows; ++r) {
    float* y = tile.y + (block.row + r) * tile.y_stride + block.col;
    for (int64_t c = 0; c < block.cols; ++c) {
      float value = first && !tile.accumulate ? 0.0F : y[c];
      if (first && tile.bias != nullptr) value += tile.bias[block.col + c];
      y[c] = value + sums[r * kBlockCols + c];
    }
  }
}

// A block of results over one piece of the sum.
template <class T>
HWY_INLINE void run_block(const LinearTile& tile, const Block& block) {
  const T* weight = static_cast<const T*>(tile.weight);
  DotOperands<T> operands;
  operands.x = tile.x + block.row * tile.x_stride + block.k;
  operands.x_stride = tile.x_stride;
  for (int64_t c = 0; c < kBlockCols; ++c) {
    operands.w[c] = weight + (block.col + std::min(c, block.cols - 1)) * tile.in + block.k;
  }
  operands.count = block.count;
  operands.prefetch = block.prefetch;
  operands.prefetch.turn -= block.k;
  float sums[kBlockRows * kBlockCols];
  dot_block(block.rows, operands, sums);
  add_sums(tile, block, sums);
}

// The same for a sum of a few pieces, with the weights read as a single stream, one weight row behind the other.
template <int kRows, class T>
HWY_INLINE void run_stream(const LinearTile& tile, Block block) {
  constexpr auto kAhead = kPrefetchBytes / static_cast<int64_t>(sizeof(T));
  const int64_t step = sum_length(tile.in);
  const float* x = tile.x + block.row * tile.x_stride;
  FloatVec acc[kMaxStreamedPieces][kRows][kBlockCols];
  for (int64_t c = 0; c < kBlockCols; ++c) {
    const T* weight = static_cast<const T*>(tile.weight) + (block.col + std::min(c, block.cols - 1)) * tile.in;
    for (int64_t piece = 0, k = 0; k < tile.in; ++piece, k += step) {
      const StreamOperands<T> operands{x + k, tile.x_stride, weight + k, std::min(step, tile.in - k), kAhead};
      FloatVec sums[kRows];
      dot_stream<kRows>(operands, sums);
      for (int r = 0; r < kRows; ++r) acc[piece][r][c] = sums[r];
    }
  }
  for (int64_t piece = 0; piece * step < tile.in; ++piece) {
    float sums[kRows * kBlockCols];
    for (int r = 0; r < kRows; ++r) {
      const FloatVec(&row)[kBlockCols] = acc[piece][r];
      store_sums4(row[0], row[1], row[2], row[3], sums + r * kBlockCols);
    }
    block.k = piece * step;
    add_sums(tile, block, sums);
  }
}

// Few rows: reading the weights is most of the cost. Each is read from memory once, in order, and used for all rows.
template <class T>
void run_few_rows(const LinearTile& tile) {
  const int64_t step = sum_length(tile.in);
  const int64_t rows = tile.row_end - tile.row_begin;
  const bool streamed = rows <= kStreamedRows && tile.in <= kMaxStreamedPieces * step;
  Block block;
  block.prefetch = block_prefetch<T>(tile.in);
  for (block.col = tile.col_begin; block.col < tile.col_end; block.col += kBlockCols) {
    block.cols = std::min<int64_t>(kBlockCols, tile.col_end - block.col);
    if (streamed) {
      block.row = tile.row_begin;
      block.rows = rows;
      rows == 1 ? run_stream<1, T>(tile, block) : run_stream<2, T>(tile, block);
      continue;
    }
    for (block.k = 0; block.k < tile.in; block.k += step) {
      block.count = std::min(step, tile.in - block.k);
      for (block.row = tile.row_begin; block.row < tile.row_end; block.row += kBlockRows) {
        block.rows = std::min<int64_t>(kBlockRows, tile.row_end - block.row);
        run_block<T>(tile, block);
      }
    }
  }
}

// Many rows: the tile's weights along one piece of the sum stay in the second-level cache.
template <class T>
void run_many_rows(const LinearTile& tile) {
  const int64_t step = sum_length(tile.in);
  Block block;
  block.prefetch = {kBlockCols * tile.in, kBlockCols * tile.in, 0};
  for (block.k = 0; block.k < tile.in; block.k += step) {
    block.count = std::min(step, tile.in - block.k);
    for (block.row = tile.row_begin; block.row < tile.row_end; block.row += kBlockRows) {
      block.rows = std::min<int64_t>(kBlockRows, tile.row_end - block.row);
      for (block.col = tile.col_begin; block.col < tile.col_end; block.col += kBlockCols) {
        block.cols = std::min<int64_t>(kBlockCols, tile.col_end - block.col);
        run_block<T>(tile, block);
      }
    }
  }
}

template <class T>
void run_tile(const LinearTile& tile) {
  if (tile.row_end - tile.row_begin <= kFewRows) return run_few_rows<T>(tile);
  run_many_rows<T>(tile);
}

void run_linear_tile(const LinearTile& tile) {
  if (tile.row_begin >= tile.row_end || tile.col_begin >= tile.col_end) return;
  switch (tile.dtype) {
    case Dtype::kFloat32: return run_tile<float>(tile);
    case Dtype::kBfloat16: return run_tile<Bfloat16>(tile);
    case Dtype::kFloat16: return run_tile<Float16>(tile);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace xlstm::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace xlstm::cpu {

HWY_EXPORT(run_linear_tile);

void linear_tile(const LinearTile& tile) {
  HWY_DYNAMIC_DISPATCH(run_linear_tile)(tile);
}

}  // namespace xlstm::cpu
#endif
