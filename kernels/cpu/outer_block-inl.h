// The micro-kernel of sums of outer products, where the right operand is contiguous along the result's columns.
// Compiled once per target.

#if defined(XLSTM_KERNELS_CPU_OUTER_BLOCK_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef XLSTM_KERNELS_CPU_OUTER_BLOCK_INL_H
#undef XLSTM_KERNELS_CPU_OUTER_BLOCK_INL_H
#else
#define XLSTM_KERNELS_CPU_OUTER_BLOCK_INL_H
#endif

#include "kernels/cpu/simd_common-inl.h"

HWY_BEFORE_NAMESPACE();
namespace xlstm::cpu {
namespace HWY_NAMESPACE {

// 32 registers: 6 rows of 4 vectors; 16 registers: 4 rows of 3, because the right operand stays in registers.
#if (HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX3) || HWY_ARCH_ARM_A64
constexpr int kOuterRows = 6;
constexpr int kOuterVecs = 4;
#else
constexpr int kOuterRows = 4;
constexpr int kOuterVecs = 3;
#endif

// Σ_k a[r][k] · b[k][...]
struct OuterTerm {
  const float* a = nullptr;
  int64_t a_row = 0;  // stride between rows of the result
  int64_t a_k = 0;    // stride along the sum
  const float* b = nullptr;
  int64_t b_stride = 0;  // between rows of b
  int64_t count = 0;     // length of the sum
};

// out = row_factor · sum of the terms, or, with old_factor, out = old_factor · out + sum, rounded once. A sum that is
// cut between terms, stored and continued has the bits of the whole.
struct OuterBlock {
  OuterTerm terms[2];
  bool continues = false;             // the sum starts from out; else from 0
  const float* row_factor = nullptr;  // row r is multiplied by row_factor[r]; null: not
  const float* old_factor = nullptr;  // null: out is replaced
  float* out = nullptr;
  int64_t out_stride = 0;
};

template <int kRows, int kVecs>
HWY_INLINE void outer_block_rows(const OuterBlock& block) {
  FloatVec acc[kRows][kVecs];
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVecs; ++v) {
      acc[r][v] = block.continues ? load(block.out + r * block.out_stride + v * kLanes) : hn::Zero(kFloat);
    }
  }
  for (const OuterTerm& term : block.terms) {
    const float* HWY_RESTRICT a = term.a;
    const float* HWY_RESTRICT b = term.b;
    const int64_t a_row = term.a_row;
    for (int64_t k = 0; k < term.count; ++k) {
      FloatVec bv[kVecs];
      for (int v = 0; v < kVecs; ++v) bv[v] = load(b + v * kLanes);
      for (int r = 0; r < kRows; ++r) {
        const FloatVec av = hn::Set(kFloat, a[r * a_row]);
        for (int v = 0; v < kVecs; ++v) acc[r][v] = hn::MulAdd(av, bv[v], acc[r][v]);
      }
      a += term.a_k;
      b += term.b_stride;
    }
  }
  if (block.old_factor != nullptr) {
    const FloatVec old = hn::Set(kFloat, *block.old_factor);
    for (int r = 0; r < kRows; ++r) {
      for (int v = 0; v < kVecs; ++v) {
        float* out = block.out + r * block.out_stride + v * kLanes;
        store(hn::MulAdd(old, load(out), acc[r][v]), out);
      }
    }
    return;
  }
  for (int r = 0; r < kRows; ++r) {
    const FloatVec factor = hn::Set(kFloat, block.row_factor == nullptr ? 1.0F : block.row_factor[r]);
    for (int v = 0; v < kVecs; ++v) store(hn::Mul(factor, acc[r][v]), block.out + r * block.out_stride + v * kLanes);
  }
}

// `rows` is 1 … kOuterRows.
template <int kVecs>
HWY_INLINE void outer_block(int64_t rows, const OuterBlock& block) {
  switch (rows) {
    case 1: return outer_block_rows<1, kVecs>(block);
    case 2: return outer_block_rows<2, kVecs>(block);
    case 3: return outer_block_rows<3, kVecs>(block);
    case 4: return outer_block_rows<4, kVecs>(block);
#if (HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX3) || HWY_ARCH_ARM_A64
    case 5: return outer_block_rows<5, kVecs>(block);
    default: return outer_block_rows<6, kVecs>(block);
#else
    default: return;
#endif
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace xlstm::cpu
HWY_AFTER_NAMESPACE();

#endif
