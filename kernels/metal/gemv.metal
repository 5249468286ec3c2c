// y = x · Wᵀ for up to 16 rows of x: bound by reading W, which is read once.
//
// A simdgroup computes kGemvOuts matrix rows. Its lanes read neighbouring units of each, so that every load instruction
// fetches whole cache lines, and the loads of the four rows are under way together; each value of x, which comes out of
// the nearest cache, serves four products. The four simdgroups of a threadgroup have other matrix rows, or
// (args.splits) other columns of the same ones: small matrices would otherwise give too few simdgroups to hide the
// memory's latency. The columns are never split over threadgroups, whose sums would have to meet in a second command.
//
// With kNorm the rows of x are normalised on the way: y = (x ⊙ weight) · Wᵀ / rms(x), where the sum of squares is
// gathered in the same sweep. That costs each simdgroup two multiplications per value of x, which is nothing as long as
// memory is waited for, and saves a command and the round trip of the normalised rows.
#include "kernels/metal/product_parts.h"

using namespace xlstm::shader;

namespace {

enum : int {
  // Sums of a simdgroup for a row of x: the matrix rows', and the squares'.
  kSums = kGemvOuts + 1
};

// What a simdgroup multiplies with, at column 0.
struct Matrix {
  device const uint* words[kGemvOuts];
  device const half* scale[kGemvOuts];
  device const uchar* zero[kGemvOuts];
};

inline float add_products(float4 a, float4 b, float sum) {
  return fma(a.w, b.w, fma(a.z, b.z, fma(a.y, b.y, fma(a.x, b.x, sum))));
}

// Matrix row `i` of four from `first` on (gate | up: two of either half). Behind the last, the last again, whose
// results nobody stores.
inline int matrix_row(constant ProductArgs& args, int first, int i) {
  if (args.gate_rows == 0) return min(first + i, args.out - 1);
  return min(first + i % 2, args.out - 1) + i / 2 * args.gate_rows;
}

// Adds the products of a unit of columns from k on. A scale is multiplied to the sum of the unit's products while there
// are few rows of x, to the weights where that is less work.
template <typename F, int kRows, bool kNorm, bool kWhole>
inline void add_unit(constant ProductArgs& args, thread const Matrix& w, device const float* x,
                     device const float* norm, int k, thread float (&sums)[kRows][kSums]) {
  typename F::Unit units[kGemvOuts];
  XLSTM_UNROLL
  for (int i = 0; i < kGemvOuts; ++i) {
    units[i] = *(device const typename F::Unit*)(w.words[i] + k / int(F::kPerWord));
  }
  float scale[kGemvOuts];
  float zero[kGemvOuts];
  const int group_index = F::kHasScale ? group_of(args, k) : 0;
  XLSTM_UNROLL
  for (int i = 0; i < kGemvOuts; ++i) {
    scale[i] = F::kHasScale ? float(w.scale[i][group_index]) : 1.0f;
    zero[i] = F::kHasZero ? float(w.zero[i][group_index]) : 0.0f;
  }

  const bool scale_sums = F::kHasScale && kRows <= 4;
  float part[kRows][kGemvOuts];
  XLSTM_UNROLL
  for (int r = 0; r < kRows; ++r) {
    XLSTM_UNROLL
    for (int i = 0; i < kGemvOuts; ++i) part[r][i] = scale_sums ? 0.0f : sums[r][i];
  }
  XLSTM_UNROLL
  for (int q = 0; q < int(F::kUnit) / 4; ++q) {
    const int column = k + 4 * q;
    float4 weights[kGemvOuts];
    XLSTM_UNROLL
    for (int i = 0; i < kGemvOuts; ++i) {
      weights[i] = F::quad(units[i], q);
      if (F::kHasZero) weights[i] = weights[i] - zero[i];
      if (F::kHasScale && !scale_sums) weights[i] = weights[i] * scale[i];
    }
    float4 gain = float4(1.0f);
    if (kNorm) gain = quad_of<kWhole>(norm, column, args.in);
    XLSTM_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const size_t row = size_t(min(r, args.rows - 1)) * size_t(args.x_stride);
      float4 value = quad_of<kWhole>(x + row, column, args.in);
      if (kNorm) {
        sums[r][kGemvOuts] = add_products(value, value, sums[r][kGemvOuts]);
        value = value * gain;
      }
      XLSTM_UNROLL
      for (int i = 0; i < kGemvOuts; ++i) part[r][i] = add_products(weights[i], value, part[r][i]);
    }
  }
  XLSTM_UNROLL
  for (int r = 0; r < kRows; ++r) {
    XLSTM_UNROLL
    for (int i = 0; i < kGemvOuts; ++i) {
      sums[r][i] = scale_sums ? fma(scale[i], part[r][i], sums[r][i]) : part[r][i];
    }
  }
}

}  // namespace

// Grid: [results of all threadgroups up], where a threadgroup has kProductSimds / splits blocks of four matrix rows.
template <typename F, int kRows, bool kNorm>
[[kernel]] void gemv(constant ProductArgs& args [[buffer(0)]], device const uint* weight [[buffer(1)]],
                     device const half* scale [[buffer(2)]], device const uchar* zero [[buffer(3)]],
                     device const float* bias [[buffer(4)]], device const float* x [[buffer(5)]],
                     device float* y [[buffer(6)]], device const float* norm [[buffer(7)]], XLSTM_THREAD) {
  XLSTM_SHARED(float, shared, kProductSimds * kRows * kSums);
  const int blocks = kProductSimds / args.splits;
  const int block_outs = int(kGemvOuts) / (args.gate_rows == 0 ? 1 : 2);
  const int first = (int(group.x) * blocks + int(simd) / args.splits) * block_outs;

  Matrix matrix;
  XLSTM_UNROLL
  for (int i = 0; i < kGemvOuts; ++i) {
    const size_t row = size_t(matrix_row(args, first, i));
    matrix.words[i] = weight + row * size_t(args.row_words);
    matrix.scale[i] = scale + row * size_t(args.groups);
    matrix.zero[i] = zero + row * size_t(args.groups);
  }
  float sums[kRows][kSums];
  XLSTM_UNROLL
  for (int r = 0; r < kRows; ++r) {
    XLSTM_UNROLL
    for (int i = 0; i < kSums; ++i) sums[r][i] = 0;
  }

  device const float* rows = x + size_t(args.first_row) * size_t(args.x_stride);
  const int unit = int(F::kUnit);
  const int end = first < args.out ? args.in : 0;
  for (int k = (int(simd) % args.splits * 32 + int(lane)) * unit; k < end; k += args.splits * 32 * unit) {
    if (k + unit <= end) {
      add_unit<F, kRows, kNorm, true>(args, matrix, rows, norm, k, sums);
    } else {
      add_unit<F, kRows, kNorm, false>(args, matrix, rows, norm, k, sums);
    }
  }

  XLSTM_UNROLL
  for (int r = 0; r < kRows; ++r) {
    XLSTM_UNROLL
    for (int i = 0; i < kSums; ++i) {
      if (i == kGemvOuts && !kNorm) continue;
      const float total = simd_sum(sums[r][i]);
      if (lane == 0) shared[(int(simd) * kRows + r) * kSums + i] = total;
    }
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);

  // A thread finishes one result at a time.
  for (int t = int(simd * 32 + lane); t < blocks * kRows * block_outs; t += kProductThreads) {
    const int i = t % block_outs;
    const int r = t / block_outs % kRows;
    const int block = t / block_outs / kRows;
    const int column = (int(group.x) * blocks + block) * block_outs + i;
    if (r >= args.rows || column >= args.out) continue;
    float2 sum = float2(0.0f, 0.0f);
    float squares = 0;
    for (int s = 0; s < args.splits; ++s) {
      threadgroup const float* from = shared + ((block * args.splits + s) * kRows + r) * kSums;
      sum.x += from[i];
      if (args.gate_rows != 0) sum.y += from[i + 2];
      if (kNorm) squares += from[kGemvOuts];
    }
    if (kNorm) sum = sum * rsqrt(squares / float(args.in) + args.eps);
    put(args, y, r, column,
        args.gate_rows != 0 ? finish_gate_up(args, bias, sum, column) : finish_plain(args, bias, sum.x, column));
  }
}

// One, two and four rows are normalised here; for more, the arithmetic of doing so in every simdgroup would count.
#define XLSTM_GEMV(name, F)                                        \
  XLSTM_KERNEL_TEMPLATE("gemv_" name "_1", gemv, F, 1, false);     \
  XLSTM_KERNEL_TEMPLATE("gemv_" name "_2", gemv, F, 2, false);     \
  XLSTM_KERNEL_TEMPLATE("gemv_" name "_4", gemv, F, 4, false);     \
  XLSTM_KERNEL_TEMPLATE("gemv_" name "_8", gemv, F, 8, false);     \
  XLSTM_KERNEL_TEMPLATE("gemv_" name "_16", gemv, F, 16, false);   \
  XLSTM_KERNEL_TEMPLATE("gemv_" name "_1_norm", gemv, F, 1, true); \
  XLSTM_KERNEL_TEMPLATE("gemv_" name "_2_norm", gemv, F, 2, true); \
  XLSTM_KERNEL_TEMPLATE("gemv_" name "_4_norm", gemv, F, 4, true)

XLSTM_GEMV("float32", Float32);
XLSTM_GEMV("float16", Float16);
XLSTM_GEMV("bfloat16", Bfloat16);
XLSTM_GEMV("int8", Int8);
XLSTM_GEMV("int4", Int4);
