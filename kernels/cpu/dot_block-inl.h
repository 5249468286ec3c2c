// The micro-kernel of y = x · Wᵀ, where both operands are contiguous along the summed dimension. Compiled once per
// target.

#if defined(XLSTM_KERNELS_CPU_DOT_BLOCK_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef XLSTM_KERNELS_CPU_DOT_BLOCK_INL_H
#undef XLSTM_KERNELS_CPU_DOT_BLOCK_INL_H
#else
#define XLSTM_KERNELS_CPU_DOT_BLOCK_INL_H
#endif

#include "hwy/cache_control.h"
#include "kernels/cpu/simd_common-inl.h"

HWY_BEFORE_NAMESPACE();
namespace xlstm::cpu {
namespace HWY_NAMESPACE {

constexpr int kBlockCols = 4;

// How far ahead the weights are fetched into the cache, in elements: `near` before position `turn` of the row, `far`
// from there on, because a stream that reaches the end of its row goes on in the next block of rows.
struct Prefetch {
  int64_t near = 0;
  int64_t far = 0;
  int64_t turn = 0;
};

template <class T>
struct DotOperands {
  const float* x = nullptr;  // first row
  int64_t x_stride = 0;
  const T* w[kBlockCols] = {};  // one pointer per column of the result
  int64_t count = 0;            // length of the sum
  Prefetch prefetch;
};

template <int kRows, class T>
HWY_INLINE void dot_step(const DotOperands<T>& operands, int64_t k, FloatVec (&acc)[kRows][kBlockCols]) {
  FloatVec xv[kRows];
  for (int r = 0; r < kRows; ++r) xv[r] = load(operands.x + r * operands.x_stride + k);
  for (int c = 0; c < kBlockCols; ++c) {
    const FloatVec wv = load(operands.w[c] + k);
    for (int r = 0; r < kRows; ++r) acc[r][c] = hn::MulAdd(xv[r], wv, acc[r][c]);
  }
}

// sums[r * 4 + c] = Σ_k x[r][k] · w[c][k]. Each sum is formed in an order that depends on `count` alone, so a result
// has the same bits whichever block computes it.
template <int kRows, class T>
HWY_INLINE void dot_block(const DotOperands<T>& operands, float* HWY_RESTRICT sums) {
  FloatVec acc[kRows][kBlockCols];
  for (int r = 0; r < kRows; ++r) {
    for (int c = 0; c < kBlockCols; ++c) acc[r][c] = hn::Zero(kFloat);
  }
  // One prefetch per cache line.
  constexpr int64_t kLineBytes = 64;
  constexpr int64_t kVectorBytes = kLanes * static_cast<int64_t>(sizeof(T));
  constexpr int64_t kUnroll = kVectorBytes >= kLineBytes ? 1 : kVectorBytes >= kLineBytes / 2 ? 2 : 4;
  const Prefetch prefetch = operands.prefetch;
  const int64_t count = operands.count;
  int64_t k = 0;
  for (; k + kUnroll * kLanes <= count; k += kUnroll * kLanes) {
    const int64_t ahead = k + (k < prefetch.turn ? prefetch.near : prefetch.far);
    for (int c = 0; c < kBlockCols; ++c) hwy::Prefetch(operands.w[c] + ahead);
    for (int64_t u = 0; u < kUnroll; ++u) dot_step<kRows>(operands, k + u * kLanes, acc);
  }
  for (; k + kLanes <= count; k += kLanes) dot_step<kRows>(operands, k, acc);
  if (const int64_t rest = count - k; rest > 0) {
    FloatVec wv[kBlockCols];
    for (int c = 0; c < kBlockCols; ++c) wv[c] = load_part(operands.w[c] + k, rest);
    for (int r = 0; r < kRows; ++r) {
      const FloatVec xv = load_part(operands.x + r * operands.x_stride + k, rest);
      for (int c = 0; c < kBlockCols; ++c) acc[r][c] = hn::MulAdd(xv, wv[c], acc[r][c]);
    }
  }
  for (int r = 0; r < kRows; ++r) store_sums4(acc[r][0], acc[r][1], acc[r][2], acc[r][3], sums + r * kBlockCols);
}

template <class T>
struct StreamOperands {
  const float* x = nullptr;  // first row
  int64_t x_stride = 0;
  const T* w = nullptr;
  int64_t count = 0;     // length of the sum
  int64_t prefetch = 0;  // elements between the weights in use and those fetched into the cache
};

// One column of dot_block before the lanes are summed: sums[r][lane] = Σ x[r][k] · w[k] over the k of that lane.
template <int kRows, class T>
HWY_INLINE void dot_stream(const StreamOperands<T>& operands, FloatVec (&sums)[kRows]) {
  for (int r = 0; r < kRows; ++r) sums[r] = hn::Zero(kFloat);
  const T* HWY_RESTRICT w = operands.w;
  int64_t k = 0;
  for (; k + kLanes <= operands.count; k += kLanes) {
    hwy::Prefetch(w + k + operands.prefetch);
    const FloatVec wv = load(w + k);
    for (int r = 0; r < kRows; ++r) {
      sums[r] = hn::MulAdd(load(operands.x + r * operands.x_stride + k), wv, sums[r]);
    }
  }
  if (const int64_t rest = operands.count - k; rest > 0) {
    const FloatVec wv = load_part(w + k, rest);
    for (int r = 0; r < kRows; ++r) {
      sums[r] = hn::MulAdd(load_part(operands.x + r * operands.x_stride + k, rest), wv, sums[r]);
    }
  }
}

// dot_block for a row count known at run time, 1 … kBlockRows.
template <class T>
HWY_INLINE void dot_block(int64_t rows, const DotOperands<T>& operands, float* HWY_RESTRICT sums) {
  switch (rows) {
    case 1: return dot_block<1>(operands, sums);
    case 2: return dot_block<2>(operands, sums);
    case 3: return dot_block<3>(operands, sums);
#if (HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX3) || HWY_ARCH_ARM_A64
    case 4: return dot_block<4>(operands, sums);
    case 5: return dot_block<5>(operands, sums);
    default: return dot_block<6>(operands, sums);
#else
    default: return;
#endif
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace xlstm::cpu
HWY_AFTER_NAMESPACE();

#endif
