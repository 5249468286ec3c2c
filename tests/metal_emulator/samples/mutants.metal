// A product with a vector, a sum and a tiled product, each right (kNone) and broken in the ways that real kernels are.
#include "kernels/metal/msl.h"

struct MutantArgs {
  int rows;
  int columns;
};

enum Mutation : int {
  kNone,
  kMissingBarrier,
  kMissingSecondBarrier,
  kBarrierForOtherMemory,
  kSimdgroupBarrierOnly,
  kDivergentBarrier,
  kDivergentSum,
  kOtherCallOfSum,
  kEarlyReturn,
  kRowTooMany,
  kColumnTooMany,
  kWrongRow,
  kWrongSimdgroup,
  kEveryLaneWrites,
  kUnwrittenRead,
  kArrayOverrun,
  kArrayOverrunByPointer,
  kArrayUnderrun,
  kWriteToConst,
  kWrongTranspose,
  kOtherTile
};

// y = W · x; one simdgroup a row, four rows a threadgroup.
template <int kMutation>
[[kernel]] void gemv(constant MutantArgs& args [[buffer(0)]], device const float* weight [[buffer(1)]],
                     device const float* x [[buffer(2)]], device float* y [[buffer(3)]], XLSTM_THREAD) {
  const int row = int(group.x) * 4 + int(kMutation == kWrongSimdgroup ? simd / 2 : simd);
  if (kMutation == kRowTooMany ? row > args.rows : row >= args.rows) return;
  device const float* w = weight + (kMutation == kWrongRow ? row + 1 : row) * args.columns;
  float sum = 0.0f;
  for (int k = int(lane); kMutation == kColumnTooMany ? k <= args.columns : k < args.columns; k += 32) {
    if (kMutation == kDivergentSum && lane > 15) sum = simd_sum(sum);
    sum += w[k] * x[k];
  }
  if (kMutation == kEarlyReturn && lane > 15) return;
  if (kMutation == kOtherCallOfSum && lane > 15) {
    sum = simd_sum(sum);
  } else {
    sum = simd_sum(sum);
  }
  if (kMutation == kWriteToConst && lane == 0) const_cast<device float*>(weight)[row] = sum;
  if (kMutation == kEveryLaneWrites || lane == 0) y[row] = sum;
}
XLSTM_KERNEL_TEMPLATE("gemv", gemv, kNone);
XLSTM_KERNEL_TEMPLATE("gemv_wrong_simdgroup", gemv, kWrongSimdgroup);
XLSTM_KERNEL_TEMPLATE("gemv_row_too_many", gemv, kRowTooMany);
XLSTM_KERNEL_TEMPLATE("gemv_column_too_many", gemv, kColumnTooMany);
XLSTM_KERNEL_TEMPLATE("gemv_wrong_row", gemv, kWrongRow);
XLSTM_KERNEL_TEMPLATE("gemv_divergent_sum", gemv, kDivergentSum);
XLSTM_KERNEL_TEMPLATE("gemv_other_call_of_sum", gemv, kOtherCallOfSum);
XLSTM_KERNEL_TEMPLATE("gemv_early_return", gemv, kEarlyReturn);
XLSTM_KERNEL_TEMPLATE("gemv_write_to_const", gemv, kWriteToConst);
XLSTM_KERNEL_TEMPLATE("gemv_every_lane_writes", gemv, kEveryLaneWrites);

// The sum of each row, by one threadgroup; two passes over `partial` so that it is used again.
template <int kMutation>
[[kernel]] void row_sum(constant MutantArgs& args [[buffer(0)]], device const float* x [[buffer(1)]],
                        device float* y [[buffer(2)]], XLSTM_THREAD) {
  XLSTM_SHARED(float, partial, 4);
  for (int row = int(group.x) * 2; row < min(int(group.x) * 2 + 2, args.rows); ++row) {
    float sum = 0.0f;
    for (int k = int(simd * 32 + lane); k < args.columns; k += 128) sum += x[row * args.columns + k];
    sum = simd_sum(sum);
    if (lane == 0 && kMutation != kArrayOverrunByPointer && !(kMutation == kUnwrittenRead && simd == 2)) {
      partial[kMutation == kArrayOverrun ? simd + 1 : kMutation == kWrongSimdgroup ? simd / 2 : simd] = sum;
    }
    if (kMutation == kArrayOverrunByPointer) {
      threadgroup float* second = partial + 1;
      if (lane == 0) second[simd] = sum;
    }
    if (kMutation == kBarrierForOtherMemory) {
      threadgroup_barrier(mem_flags::mem_device);
    } else if (kMutation == kSimdgroupBarrierOnly) {
      simdgroup_barrier(mem_flags::mem_threadgroup);
    } else if (kMutation != kMissingBarrier && !(kMutation == kDivergentBarrier && simd == 3)) {
      threadgroup_barrier(mem_flags::mem_threadgroup);
    }
    if (simd == 0 && lane == 0) {
      threadgroup const float* first = kMutation == kArrayUnderrun ? partial - 1 : partial;
      y[row] = first[0] + first[1] + first[2] + first[3];
    }
    if (kMutation != kMissingSecondBarrier) threadgroup_barrier(mem_flags::mem_threadgroup);
  }
}
XLSTM_KERNEL_TEMPLATE("row_sum", row_sum, kNone);
XLSTM_KERNEL_TEMPLATE("row_sum_missing_barrier", row_sum, kMissingBarrier);
XLSTM_KERNEL_TEMPLATE("row_sum_missing_second_barrier", row_sum, kMissingSecondBarrier);
XLSTM_KERNEL_TEMPLATE("row_sum_barrier_for_other_memory", row_sum, kBarrierForOtherMemory);
XLSTM_KERNEL_TEMPLATE("row_sum_simdgroup_barrier_only", row_sum, kSimdgroupBarrierOnly);
XLSTM_KERNEL_TEMPLATE("row_sum_divergent_barrier", row_sum, kDivergentBarrier);
XLSTM_KERNEL_TEMPLATE("row_sum_unwritten_read", row_sum, kUnwrittenRead);
XLSTM_KERNEL_TEMPLATE("row_sum_array_overrun", row_sum, kArrayOverrun);
XLSTM_KERNEL_TEMPLATE("row_sum_array_overrun_by_pointer", row_sum, kArrayOverrunByPointer);
XLSTM_KERNEL_TEMPLATE("row_sum_array_underrun", row_sum, kArrayUnderrun);
XLSTM_KERNEL_TEMPLATE("row_sum_wrong_simdgroup", row_sum, kWrongSimdgroup);

// c = a · bᵀ, [rows, rows] of [rows, columns], rows and columns multiples of 16 and 8. A threadgroup of four simdgroups
// computes a tile of 16 × 16.
template <int kMutation>
[[kernel]] void tiled(constant MutantArgs& args [[buffer(0)]], device const float* a [[buffer(1)]],
                      device const float* b [[buffer(2)]], device float* c [[buffer(3)]], XLSTM_THREAD) {
  XLSTM_SHARED(float, tile_a, 16 * 8);
  XLSTM_SHARED(float, tile_b, 16 * 8);
  const int i = int(simd * 32 + lane);
  const int m = int(simd / 2) * 8;
  const int n = int(kMutation == kWrongSimdgroup ? simd / 2 : simd % 2) * 8;
  simdgroup_float8x8 sum = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
  for (int k = 0; k < args.columns; k += 8) {
    tile_a[i] = a[(int(group.y) * 16 + i / 8) * args.columns + k + i % 8];
    tile_b[i] = b[(int(group.x) * 16 + i / 8) * args.columns + k + i % 8];
    if (kMutation != kMissingBarrier) threadgroup_barrier(mem_flags::mem_threadgroup);
    simdgroup_float8x8 left;
    simdgroup_float8x8 right;
    simdgroup_load(left, tile_a, 8, ulong2(0, ulong(kMutation == kOtherTile ? m + 1 : m)));
    simdgroup_load(right, tile_b + n * 8, 8, ulong2(0, 0), kMutation != kWrongTranspose);
    simdgroup_multiply_accumulate(sum, left, right, sum);
    if (kMutation != kMissingSecondBarrier) threadgroup_barrier(mem_flags::mem_threadgroup);
  }
  const int row = int(group.y) * 16 + m + (kMutation == kRowTooMany ? 1 : 0);
  simdgroup_store(sum, c + row * args.rows + int(group.x) * 16 + n, ulong(args.rows));
}
XLSTM_KERNEL_TEMPLATE("tiled", tiled, kNone);
XLSTM_KERNEL_TEMPLATE("tiled_missing_barrier", tiled, kMissingBarrier);
XLSTM_KERNEL_TEMPLATE("tiled_missing_second_barrier", tiled, kMissingSecondBarrier);
XLSTM_KERNEL_TEMPLATE("tiled_wrong_simdgroup", tiled, kWrongSimdgroup);
XLSTM_KERNEL_TEMPLATE("tiled_wrong_transpose", tiled, kWrongTranspose);
XLSTM_KERNEL_TEMPLATE("tiled_other_tile", tiled, kOtherTile);
XLSTM_KERNEL_TEMPLATE("tiled_row_too_many", tiled, kRowTooMany);
