// The micro-kernel of sums of outer products, where the right operand is contiguous along the result's columns.
// Compiled once per target.

#if defined(XLSTM_KERNELS_CPU_OUTER_BLOCK_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef XLSTM_KERNELS_CPU_OUTER_BLOCK_INL_H
#undef XLSTM_KERNELS_CPU_OUTER_BLOCK_INL_H
#else
#define XLSTM_KERNELS_CPU_OUTER_BLOCK_INL_H
#endif

#include <algorithm>

#include "kernels/cpu/simd_common-inl.h"

HWY_BEFORE_NAMESPACE();
namespace xlstm::cpu {
namespace HWY_NAMESPACE {

// Rows of two vectors: what 32 or 16 registers hold beside the operands. Fewer rows of a result than kOuterRows are
// computed as one or two thirds of it.
#if (HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX3) || HWY_ARCH_ARM_A64
constexpr int kOuterRows = 12;
#else
constexpr int kOuterRows = 6;
#endif
constexpr int kOuterVecs = 2;
constexpr int kOuterThird = kOuterRows / 3;
constexpr int64_t kOuterCols = kOuterVecs * kLanes;

// Left operands whose rows were contiguous lie as strips: kOuterRows rows at a time, the first kStripWidth elements of
// each row, then the next of each. The micro-kernel reads a strip as one stream at constant distances.
constexpr int64_t kStripWidth = 16;
constexpr int64_t kStripFloats = kOuterRows * kStripWidth;

// The place of (row, col) in strips of rows of `width` elements, a multiple of kStripWidth.
HWY_INLINE int64_t strip_index(int64_t row, int64_t col, int64_t width) {
  return row / kOuterRows * (kOuterRows * width) + col / kStripWidth * kStripFloats + row % kOuterRows * kStripWidth +
         col % kStripWidth;
}

// Rows that strips of `rows` rows have room for.
HWY_INLINE int64_t strip_rows(int64_t rows) {
  return (rows + kOuterRows - 1) / kOuterRows * kOuterRows;
}

// Rows of the result that a block of `rows` computes.
HWY_INLINE int64_t whole_thirds(int64_t rows) {
  return (rows + kOuterThird - 1) / kOuterThird * kOuterThird;
}

// Σ_k a[r][k] · b[k][...]
struct OuterTerm {
  const float* a = nullptr;
  const float* b = nullptr;
  int64_t b_stride = 0;  // between rows of b
  int64_t count = 0;     // length of the sum
};

// out = row_factor · sum of the terms, or, with `old`, out = old_factor · old + sum, rounded once. A sum that is cut
// between or within terms, stored and continued has the bits of the whole.
struct OuterBlock {
  const float* start = nullptr;  // [rows, kVecs · kLanes] the sum so far; null: 0
  OuterTerm strips[2];           // in this order; a is the first strip of the rows
  OuterTerm columns;             // a is [count, a_stride], the rows of the result beside each other
  int64_t a_stride = 0;

  const float* row_factor = nullptr;  // row r is multiplied by row_factor[r]; null: not
  const float* old = nullptr;         // [rows, kVecs · kLanes]
  float old_factor = 0;
  float* out = nullptr;
  int64_t out_row = 0;       // between rows
  int64_t out_vec = kLanes;  // between vectors of a row
  int64_t rows = 0;          // 1 … kOuterRows; no others are written
  int64_t cols = 0;          // of the kVecs · kLanes, those that are written
};

// The accumulators are registers only if every loop over them is unrolled.
template <int kRows, int kVecs>
HWY_INLINE void outer_step(const float* HWY_RESTRICT a, int64_t a_row, const float* HWY_RESTRICT b,
                           FloatVec (&acc)[kRows][kVecs]) {
  FloatVec bv[kVecs];
  HWY_UNROLL(16)
  for (int v = 0; v < kVecs; ++v) bv[v] = load(b + v * kLanes);
  HWY_UNROLL(16)
  for (int r = 0; r < kRows; ++r) {
    const FloatVec av = hn::Set(kFloat, a[r * a_row]);
    HWY_UNROLL(16)
    for (int v = 0; v < kVecs; ++v) acc[r][v] = hn::MulAdd(av, bv[v], acc[r][v]);
  }
}

template <int kVecs>
HWY_INLINE void store_row(const OuterBlock& block, const FloatVec (&values)[kVecs], float* to) {
  if (block.cols >= kVecs * kLanes) {
    HWY_UNROLL(16)
    for (int v = 0; v < kVecs; ++v) store(values[v], to + v * block.out_vec);
    return;
  }
  HWY_UNROLL(16)
  for (int v = 0; v < kVecs; ++v) {
    const int64_t count = block.cols - v * kLanes;
    if (count > 0) store_some(values[v], to + v * block.out_vec, count);
  }
}

template <int kRows, int kVecs>
HWY_NOINLINE void outer_block_rows(const OuterBlock& block) {
  FloatVec acc[kRows][kVecs];
  if (block.start == nullptr) {
    HWY_UNROLL(16)
    for (int r = 0; r < kRows; ++r) {
      HWY_UNROLL(16)
      for (int v = 0; v < kVecs; ++v) acc[r][v] = hn::Zero(kFloat);
    }
  } else {
    HWY_UNROLL(16)
    for (int r = 0; r < kRows; ++r) {
      HWY_UNROLL(16)
      for (int v = 0; v < kVecs; ++v) acc[r][v] = load(block.start + (r * kVecs + v) * kLanes);
    }
  }
  for (const OuterTerm& term : block.strips) {
    const float* HWY_RESTRICT strip = term.a;
    const float* HWY_RESTRICT b = term.b;
    for (int64_t left = term.count; left > 0; left -= kStripWidth, strip += kStripFloats) {
      const int64_t width = std::min(left, kStripWidth);
      for (int64_t k = 0; k < width; ++k, b += term.b_stride) {
        outer_step<kRows, kVecs>(strip + k, kStripWidth, b, acc);
      }
    }
  }
  const float* HWY_RESTRICT a = block.columns.a;
  const float* HWY_RESTRICT b = block.columns.b;
  for (int64_t k = 0; k < block.columns.count; ++k, a += block.a_stride, b += block.columns.b_stride) {
    outer_step<kRows, kVecs>(a, 1, b, acc);
  }

  const FloatVec old_factor = hn::Set(kFloat, block.old_factor);
  HWY_UNROLL(16)
  for (int r = 0; r < kRows; ++r) {
    if (r < block.rows) {
      FloatVec values[kVecs];
      const FloatVec factor = hn::Set(kFloat, block.row_factor == nullptr ? 1.0F : block.row_factor[r]);
      HWY_UNROLL(16)
      for (int v = 0; v < kVecs; ++v) {
        values[v] = block.old == nullptr
                        ? hn::Mul(factor, acc[r][v])
                        : hn::MulAdd(old_factor, load(block.old + (r * kVecs + v) * kLanes), acc[r][v]);
      }
      store_row<kVecs>(block, values, block.out + r * block.out_row);
    }
  }
}

template <int kVecs>
HWY_INLINE void outer_block(const OuterBlock& block) {
  if (block.rows > 2 * kOuterThird) return outer_block_rows<kOuterRows, kVecs>(block);
  if (block.rows > kOuterThird) return outer_block_rows<2 * kOuterThird, kVecs>(block);
  outer_block_rows<kOuterThird, kVecs>(block);
}

// `vecs` is 1 or kOuterVecs.
HWY_INLINE void outer_block(int64_t vecs, const OuterBlock& block) {
  if (vecs == kOuterVecs) return outer_block<kOuterVecs>(block);
  outer_block<1>(block);
}

}  // namespace HWY_NAMESPACE
}  // namespace xlstm::cpu
HWY_AFTER_NAMESPACE();

#endif
