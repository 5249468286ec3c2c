// What the shaders of the mLSTM cell share, for shaders only.
#pragma once

#include "kernels/metal/cell_args.h"
#include "kernels/metal/msl.h"

namespace xlstm {
namespace shader {

// Gates below this act as "never": exponentials of it are 0, and sums over a tile of it stay finite, so that no
// difference of infinities can make a NaN.
inline float input_gate(float i) {
  return i < -1e30f ? -1e30f : i;
}

// log(1 + x) for x in [0, 1], to the last digits of small x as well: 2·artanh(s) with s = x / (2 + x) ≤ 1/3, whose
// series has a remainder below 2e-9 here.
inline float log1p_of_unit(float x) {
  const float s = x / (2.0f + x);
  const float s2 = s * s;
  float sum = 1.0f / 15.0f;
  sum = fma(sum, s2, 1.0f / 13.0f);
  sum = fma(sum, s2, 1.0f / 11.0f);
  sum = fma(sum, s2, 1.0f / 9.0f);
  sum = fma(sum, s2, 1.0f / 7.0f);
  sum = fma(sum, s2, 1.0f / 5.0f);
  sum = fma(sum, s2, 1.0f / 3.0f);
  sum = fma(sum, s2, 1.0f);
  return 2.0f * s * sum;
}

// log σ(f)
inline float log_forget_gate(float f) {
  return input_gate((f < 0.0f ? f : 0.0f) - log1p_of_unit(exp(-fabs(f))));
}

// The scratch array `which` of one head.
inline device float* token_array(device float* scratch, constant CellArgs& args, int which, int head) {
  return scratch + ulong(which * args.heads + head) * ulong(args.rows);
}
inline device const float* token_array(device const float* scratch, constant CellArgs& args, int which, int head) {
  return scratch + ulong(which * args.heads + head) * ulong(args.rows);
}

// The first element of head `head` of row `row` in q, k or v, with `features` per head.
inline device const float* head_row(device const float* values, constant CellArgs& args, int row, int head,
                                    int features) {
  return values + ulong(row) * ulong(args.qkv_stride) + ulong(head * features);
}

// The gated scores of one tile and head, [score_stride, score_stride]; the blocks of 8 above the diagonal are absent.
inline device float* score_tile(device float* scores, constant CellArgs& args, int tile, int head) {
  return scores + (ulong(tile) * ulong(args.heads) + ulong(head)) * ulong(args.score_stride * args.score_stride);
}
inline device const float* score_tile(device const float* scores, constant CellArgs& args, int tile, int head) {
  return scores + (ulong(tile) * ulong(args.heads) + ulong(head)) * ulong(args.score_stride * args.score_stride);
}

}  // namespace shader
}  // namespace xlstm
