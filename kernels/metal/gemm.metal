// y = x · Wᵀ for many rows of x: bound by arithmetic, on the 8×8 matrix multiplication of a simdgroup, in float32.
//
// A threadgroup computes a tile of 64 rows × 64 matrix rows; each of its four simdgroups a quarter of 32 × 32 in 16
// accumulators (32 registers a lane). For 8 columns a simdgroup loads 4 + 4 fragments and multiplies 16 pairs: half a
// load a multiplication, which threadgroup memory can supply. It goes forward by 32 columns (every group of a quantised
// matrix begins on such a boundary): the threads widen the tile's weights to float32 on their way into threadgroup
// memory, once for 64 rows of x, so the matrix is read rows / 64 times. 18 KiB of threadgroup memory and few registers
// leave room for a second threadgroup on the core, which multiplies while this one waits for memory; smaller tiles
// would load more than they multiply, larger ones leave cores idle at the sizes of a prompt.
#include "kernels/metal/product_parts.h"

using namespace xlstm::shader;

namespace {

enum : int {
  // Rows of a fragment begin in different banks of the memory (32 of them), at multiples of 4 for vector stores.
  kStride = kGemmColumns + 4,
  kResultStride = kGemmOuts + 4,
  kSharedQuads = (kGemmRows + kGemmOuts) * kStride / 4,
  kFragments = 4
};

// Row `n` of the tile's matrix rows; for gate | up the tile holds 32 rows of each half. Rows behind the last are the
// last again, whose results nobody stores.
inline int tile_row(constant ProductArgs& args, int tile, int n) {
  if (args.gate_rows == 0) return min(tile * kGemmOuts + n, args.out - 1);
  const int outs = kGemmOuts / 2;
  return min(tile * outs + n % outs, args.out - 1) + n / outs * args.gate_rows;
}

}  // namespace

// Grid: [tiles of matrix rows, tiles of rows].
template <typename F>
[[kernel]] void gemm(constant ProductArgs& args [[buffer(0)]], device const uint* weight [[buffer(1)]],
                     device const half* scale [[buffer(2)]], device const uchar* zero [[buffer(3)]],
                     device const float* bias [[buffer(4)]], device const float* x [[buffer(5)]],
                     device float* y [[buffer(6)]], XLSTM_THREAD) {
  XLSTM_SHARED(float4, shared, kSharedQuads);
  threadgroup float* const xs = (threadgroup float*)shared;
  threadgroup float* const ws = xs + int(kGemmRows) * kStride;
  const int thread_index = int(simd * 32 + lane);
  const int first_row = int(group.y) * kGemmRows;
  const int tile_rows = min(int(kGemmRows), args.rows - first_row);
  const int staged_rows = (tile_rows + 7) / 8 * 8;  // whole fragments
  device const float* rows = x + (size_t(args.first_row) + size_t(first_row)) * size_t(args.x_stride);

  // This simdgroup's quarter, and how many fragments of its rows hold any row of x.
  const int m = int(simd) / 2 * 32;
  const int n = int(simd) % 2 * 32;
  const int row_fragments = clamp((tile_rows - m + 7) / 8, 0, int(kFragments));
  simdgroup_float8x8 sums[kFragments][kFragments];
  XLSTM_UNROLL
  for (int i = 0; i < kFragments; ++i) {
    XLSTM_UNROLL
    for (int j = 0; j < kFragments; ++j) sums[i][j] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
  }

  const int unit = int(F::kUnit);
  for (int k = 0; k < args.in; k += kGemmColumns) {
    for (int t = thread_index; t < staged_rows * kGemmColumns / 4; t += kProductThreads) {
      const int row = t / (kGemmColumns / 4);
      const int column = t % (kGemmColumns / 4) * 4;
      const size_t begin = size_t(min(row, tile_rows - 1)) * size_t(args.x_stride);
      *(threadgroup float4*)(xs + row * kStride + column) = quad_of<false>(rows + begin, k + column, args.in);
    }
    const int group_index = F::kHasScale ? group_of(args, k) : 0;
    for (int t = thread_index; t < kGemmOuts * kGemmColumns / unit; t += kProductThreads) {
      const int row = t / (kGemmColumns / unit);
      const int column = t % (kGemmColumns / unit) * unit;
      const size_t from = size_t(tile_row(args, int(group.x), row));
      device const uint* words = weight + from * size_t(args.row_words) + (k + column) / int(F::kPerWord);
      const typename F::Unit loaded = *(device const typename F::Unit*)words;
      const size_t at_group = from * size_t(args.groups) + size_t(group_index);
      const float row_scale = F::kHasScale ? float(scale[at_group]) : 1.0f;
      const float row_zero = F::kHasZero ? float(zero[at_group]) : 0.0f;
      XLSTM_UNROLL
      for (int q = 0; q < unit / 4; ++q) {
        float4 values = F::quad(loaded, q);
        if (F::kHasZero) values = values - row_zero;
        if (F::kHasScale) values = values * row_scale;
        *(threadgroup float4*)(ws + row * kStride + column + 4 * q) = values;
      }
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (int step = 0; step < kGemmColumns; step += 8) {
      simdgroup_float8x8 w[kFragments];
      XLSTM_UNROLL
      for (int j = 0; j < kFragments; ++j) {
        simdgroup_load(w[j], ws + (n + 8 * j) * kStride + step, kStride, ulong2(0, 0), true);
      }
      XLSTM_UNROLL
      for (int i = 0; i < kFragments; ++i) {
        if (i >= row_fragments) continue;
        simdgroup_float8x8 a;
        simdgroup_load(a, xs + (m + 8 * i) * kStride + step, kStride);
        XLSTM_UNROLL
        for (int j = 0; j < kFragments; ++j) simdgroup_multiply_accumulate(sums[i][j], a, w[j], sums[i][j]);
      }
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
  }

  // Which lane holds which element of a fragment is not specified: results pass through threadgroup memory.
  XLSTM_UNROLL
  for (int i = 0; i < kFragments; ++i) {
    if (i >= row_fragments) continue;
    XLSTM_UNROLL
    for (int j = 0; j < kFragments; ++j) {
      simdgroup_store(sums[i][j], xs + (m + 8 * i) * kResultStride + n + 8 * j, kResultStride);
    }
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  const int outs = int(kGemmOuts) / (args.gate_rows == 0 ? 1 : 2);
  for (int t = thread_index; t < tile_rows * outs; t += kProductThreads) {
    const int row = t / outs;
    const int column = int(group.x) * outs + t % outs;
    if (column >= args.out) continue;
    threadgroup const float* result = xs + row * kResultStride + t % outs;
    put(args, y, first_row + row, column,
        args.gate_rows == 0 ? finish_plain(args, bias, result[0], column)
                       : finish_gate_up(args, bias, float2(result[0], result[outs]), column));
  }
}

XLSTM_KERNEL_TEMPLATE("gemm_float32", gemm, Float32);
XLSTM_KERNEL_TEMPLATE("gemm_float16", gemm, Float16);
XLSTM_KERNEL_TEMPLATE("gemm_bfloat16", gemm, Bfloat16);
XLSTM_KERNEL_TEMPLATE("gemm_int8", gemm, Int8);
XLSTM_KERNEL_TEMPLATE("gemm_int4", gemm, Int4);
