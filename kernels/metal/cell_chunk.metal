// The mLSTM cell tile by tile: the products over a tile's tokens, on 8×8 matrices that a simdgroup holds.
#include "kernels/metal/msl.h"
#include "kernels/metal/cell_args.h"
#include "kernels/metal/cell_common.h"

using namespace xlstm::shader;

enum : int {
  kBlocks = kCellTile / 8,  // of tokens, at most
  kPiece = 32,              // features of q and k in threadgroup memory at a time
  kStride = kPiece + 4,     // of the rows there: the 8 rows of a block then fall on all banks evenly
  kOperand = kCellTile * kStride
};

// Copies `columns` ≤ 32 features of the tokens [0, tokens) times `factor`, zeros around them up to [rows, 32].
inline void stage(device const float* from, int from_stride, int tokens, int columns, int rows,
                  threadgroup const float* token_factor, threadgroup float* to, int simd, int lane) {
  for (int t = simd; t < rows; t += kChunkSimds) {
    to[t * kStride + lane] =
        t < tokens && lane < columns ? from[ulong(t) * ulong(from_stride) + ulong(lane)] * token_factor[t] : 0.0f;
  }
}

// S = (q·kᵀ) ⊙ the gates between two tokens, s ≤ t: a threadgroup per tile, head and span. Its simdgroups take two rows
// of blocks each, a short and a long one of the triangle.
[[kernel]] void cell_chunk_scores(constant CellArgs& args [[buffer(0)]], device const float* q [[buffer(1)]],
                                  device const float* k [[buffer(2)]], device const float* scratch [[buffer(3)]],
                                  device float* scores [[buffer(4)]], XLSTM_THREAD) {
  enum : int { kScoreStride = kCellTile + 4 };
  XLSTM_SHARED(float, shared, 2 * kOperand);  // q and k; later their products
  XLSTM_SHARED(float, factors, 2 * kCellTile);
  constant CellSpan& span = args.spans[group.z];
  const int begin = int(group.x) * args.tile;
  if (begin >= span.rows) return;
  const int head = args.head_begin + int(group.y);
  const int tokens = min(args.tile, span.rows - begin);
  const int blocks = (tokens + 7) / 8;
  const int first_row = span.first_row + begin;
  const int index = int(simd) * 32 + int(lane);
  if (index < kCellTile) {
    factors[index] = args.scale;
    factors[kCellTile + index] = 1.0f;
  }

  const int low = int(simd);
  const int high = blocks - 1 - int(simd);
  const bool has_low = low <= high;
  const bool has_high = low < high;
  simdgroup_float8x8 low_sum[kBlocks];
  simdgroup_float8x8 high_sum[kBlocks];
  XLSTM_UNROLL
  for (int s = 0; s < kBlocks; ++s) {
    low_sum[s] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
    high_sum[s] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
  }
  threadgroup float* queries = shared;
  threadgroup float* keys = shared + kOperand;
  for (int a = 0; a < args.dk; a += kPiece) {
    const int features = min(int(kPiece), args.dk - a);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    stage(head_row(q, args, first_row, head, args.dk) + a, args.qkv_stride, tokens, features, 8 * blocks, factors,
          queries, int(simd), int(lane));
    stage(head_row(k, args, first_row, head, args.dk) + a, args.qkv_stride, tokens, features, 8 * blocks,
          factors + kCellTile, keys, int(simd), int(lane));
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (has_low) {
      for (int j = 0; j < (features + 7) / 8; ++j) {
        simdgroup_float8x8 low_q;
        simdgroup_float8x8 high_q;
        simdgroup_float8x8 key;
        simdgroup_load(low_q, queries + low * 8 * kStride + j * 8, kStride);
        simdgroup_load(high_q, queries + high * 8 * kStride + j * 8, kStride);
        XLSTM_UNROLL
        for (int s = 0; s < kBlocks; ++s) {
          if (s <= high) {
            simdgroup_load(key, keys + s * 8 * kStride + j * 8, kStride, ulong2(0, 0), true);
            if (s <= low) simdgroup_multiply_accumulate(low_sum[s], low_q, key, low_sum[s]);
            if (has_high) simdgroup_multiply_accumulate(high_sum[s], high_q, key, high_sum[s]);
          }
        }
      }
    }
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  XLSTM_UNROLL
  for (int s = 0; s < kBlocks; ++s) {
    if (has_low && s <= low) simdgroup_store(low_sum[s], shared + low * 8 * kScoreStride + s * 8, kScoreStride);
    if (has_high && s <= high) simdgroup_store(high_sum[s], shared + high * 8 * kScoreStride + s * 8, kScoreStride);
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);

  device const float* stabilisers = token_array(scratch, args, kCellStabiliser, head) + first_row;
  device const float* inputs = token_array(scratch, args, kCellGate, head) + first_row;
  device const float* decays_high = token_array(scratch, args, kCellDecayHigh, head) + first_row;
  device const float* decays_low = token_array(scratch, args, kCellDecayLow, head) + first_row;
  device float* tile_scores = score_tile(scores, args, span.first_tile + int(group.x), head);
  for (int s = int(lane); s < 8 * blocks; s += 32) {
    const bool present = s < tokens;
    const float s_input = present ? inputs[s] : 0.0f;
    const float s_high = present ? decays_high[s] : 0.0f;
    const float s_low = present ? decays_low[s] : 0.0f;
    for (int t = int(simd) + s / 8 * 8; t < 8 * blocks; t += kChunkSimds) {
      float score = 0.0f;
      if (s <= t && t < tokens) {
        const float decay = (decays_high[t] - s_high) + (decays_low[t] - s_low);
        score = shared[t * kScoreStride + s] * exp(min(decay + (s_input - stabilisers[t]), 0.0f));
      }
      tile_scores[t * args.score_stride + s] = score;
    }
  }
}

XLSTM_KERNEL("cell_chunk_scores", cell_chunk_scores);

// h = (S·V + q̄·C) / denominator and C ← decay·C + k̄ᵀ·V, tile after tile: a threadgroup per span, head and 32 columns.
// q̄ and k̄ are q and k times their tokens' shares of the state. A simdgroup holds all kPieces·32 rows of 8 columns of C,
// which so passes memory once per call: for 256 rows 64 registers a lane, beside 32 for the tile's values and sums. Each
// 8×8 block in threadgroup memory is loaded for one multiplication by each of the 4 simdgroups.
template <typename State, int kPieces>
[[kernel]] void cell_chunk_states(constant CellArgs& args [[buffer(0)]], device const float* q [[buffer(1)]],
                                  device const float* k [[buffer(2)]], device const float* v [[buffer(3)]],
                                  device const float* scratch [[buffer(4)]], device const float* scores [[buffer(5)]],
                                  device State* c [[buffer(6)]], device float* h [[buffer(7)]], XLSTM_THREAD) {
  enum : int { kPieceBlocks = kPiece / 8 };
  XLSTM_SHARED(float, shared, 2 * kOperand);
  XLSTM_SHARED(float, factors, 3 * kCellTile);  // on q, k and v
  XLSTM_SHARED(float, diagonal, 64);            // 8×8: the factor on the old C
  constant CellSpan& span = args.spans[group.z];
  if (span.rows == 0) return;
  const int head = args.head_begin + int(group.y);
  const int index = int(simd) * 32 + int(lane);
  const int column = int(group.x) * kCellColumns;
  const int columns = min(int(kCellColumns), args.dv - column);
  const bool inside = int(lane) < columns;
  const bool first_part = args.dk_begin == 0;
  const bool last_part = args.dk_end == args.dk;
  const int features = args.dk_end - args.dk_begin;
  const int pieces = (features + kPiece - 1) / kPiece;
  threadgroup float* queries = shared;
  threadgroup float* keys = shared + kOperand;
  device State* head_c =
      c + ((ulong(span.slot) * ulong(args.heads) + ulong(head)) * ulong(args.dk) + ulong(args.dk_begin)) *
              ulong(args.dv) + ulong(column);

  simdgroup_float8x8 state[kPieces * kPieceBlocks];
  XLSTM_UNROLL
  for (int piece = 0; piece < kPieces; ++piece) {
    if (piece < pieces) {
      threadgroup_barrier(mem_flags::mem_threadgroup);
      for (int r = int(simd); r < kPiece; r += kChunkSimds) {
        const int a = piece * kPiece + r;
        shared[r * kStride + int(lane)] =
            a < features && inside ? float(head_c[ulong(a) * ulong(args.dv) + ulong(lane)]) : 0.0f;
      }
      threadgroup_barrier(mem_flags::mem_threadgroup);
      XLSTM_UNROLL
      for (int j = 0; j < kPieceBlocks; ++j) {
        simdgroup_load(state[piece * kPieceBlocks + j], shared + j * 8 * kStride + int(simd) * 8, kStride);
      }
    }
  }

  for (int begin = 0, tile = span.first_tile; begin < span.rows; begin += args.tile, ++tile) {
    const int tokens = min(args.tile, span.rows - begin);
    const int blocks = (tokens + 7) / 8;
    const int first_row = span.first_row + begin;
    device const float* shares = token_array(scratch, args, kCellForget, head) + first_row;
    device const float* weights = token_array(scratch, args, kCellInput, head) + first_row;
    if (index < tokens) {
      factors[index] = args.scale * shares[index];
      factors[kCellTile + index] = weights[index];
      factors[2 * kCellTile + index] = 1.0f;
    }
    if (index < 64) diagonal[index] = index % 9 == 0 ? shares[tokens - 1] : 0.0f;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    stage(head_row(v, args, first_row, head, args.dv) + column, args.qkv_stride, tokens, columns, 8 * blocks,
          factors + 2 * kCellTile, queries, int(simd), int(lane));
    threadgroup_barrier(mem_flags::mem_threadgroup);
    simdgroup_float8x8 decay;
    simdgroup_float8x8 values[kBlocks];
    simdgroup_float8x8 sums[kBlocks];
    simdgroup_load(decay, diagonal, 8);
    XLSTM_UNROLL
    for (int s = 0; s < kBlocks; ++s) {
      if (s < blocks) simdgroup_load(values[s], queries + s * 8 * kStride + int(simd) * 8, kStride);
    }
    device const float* tile_scores = score_tile(scores, args, tile, head);
    XLSTM_UNROLL
    for (int t = 0; t < kBlocks; ++t) {
      sums[t] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
      XLSTM_UNROLL
      for (int s = 0; s < kBlocks; ++s) {
        if (first_part && s <= t && t < blocks) {
          simdgroup_float8x8 score;
          simdgroup_load(score, tile_scores + t * 8 * args.score_stride + s * 8, ulong(args.score_stride));
          simdgroup_multiply_accumulate(sums[t], score, values[s], sums[t]);
        }
      }
    }

    XLSTM_UNROLL
    for (int piece = 0; piece < kPieces; ++piece) {
      if (piece < pieces) {
        const int a = args.dk_begin + piece * kPiece;
        const int piece_features = min(int(kPiece), args.dk_end - a);
        threadgroup_barrier(mem_flags::mem_threadgroup);
        stage(head_row(q, args, first_row, head, args.dk) + a, args.qkv_stride, tokens, piece_features, 8 * blocks,
              factors, queries, int(simd), int(lane));
        stage(head_row(k, args, first_row, head, args.dk) + a, args.qkv_stride, tokens, piece_features, 8 * blocks,
              factors + kCellTile, keys, int(simd), int(lane));
        threadgroup_barrier(mem_flags::mem_threadgroup);
        simdgroup_float8x8 operand;
        XLSTM_UNROLL
        for (int j = 0; j < kPieceBlocks; ++j) {
          const int block = piece * kPieceBlocks + j;
          simdgroup_float8x8 next = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
          simdgroup_multiply_accumulate(next, decay, state[block], next);
          XLSTM_UNROLL
          for (int t = 0; t < kBlocks; ++t) {
            if (t < blocks) {
              simdgroup_load(operand, queries + t * 8 * kStride + j * 8, kStride);
              simdgroup_multiply_accumulate(sums[t], operand, state[block], sums[t]);
              simdgroup_load(operand, keys + t * 8 * kStride + j * 8, kStride, ulong2(0, 0), true);
              simdgroup_multiply_accumulate(next, operand, values[t], next);
            }
          }
          state[block] = next;
        }
      }
    }

    threadgroup_barrier(mem_flags::mem_threadgroup);
    XLSTM_UNROLL
    for (int t = 0; t < kBlocks; ++t) {
      if (t < blocks) simdgroup_store(sums[t], queries + t * 8 * kStride + int(simd) * 8, kStride);
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    device const float* denominators = token_array(scratch, args, kCellDenominator, head) + first_row;
    for (int t = int(simd); t < tokens; t += kChunkSimds) {
      if (inside) {
        device float* out =
            h + ulong(first_row + t) * ulong(args.h_stride) + ulong(head * args.dv + column + int(lane));
        const float total = queries[t * kStride + int(lane)] + (first_part ? 0.0f : *out);
        *out = last_part ? total / denominators[t] : total;
      }
    }
  }

  XLSTM_UNROLL
  for (int piece = 0; piece < kPieces; ++piece) {
    if (piece < pieces) {
      threadgroup_barrier(mem_flags::mem_threadgroup);
      XLSTM_UNROLL
      for (int j = 0; j < kPieceBlocks; ++j) {
        simdgroup_store(state[piece * kPieceBlocks + j], shared + j * 8 * kStride + int(simd) * 8, kStride);
      }
      threadgroup_barrier(mem_flags::mem_threadgroup);
      for (int r = int(simd); r < kPiece; r += kChunkSimds) {
        const int a = piece * kPiece + r;
        if (a < features && inside) {
          head_c[ulong(a) * ulong(args.dv) + ulong(lane)] = State(shared[r * kStride + int(lane)]);
        }
      }
    }
  }
}

XLSTM_KERNEL_TEMPLATE("cell_chunk_states_float32_64", cell_chunk_states, float, 2);
XLSTM_KERNEL_TEMPLATE("cell_chunk_states_float32_128", cell_chunk_states, float, 4);
XLSTM_KERNEL_TEMPLATE("cell_chunk_states_float32_256", cell_chunk_states, float, 8);
XLSTM_KERNEL_TEMPLATE("cell_chunk_states_bfloat16_64", cell_chunk_states, bfloat, 2);
XLSTM_KERNEL_TEMPLATE("cell_chunk_states_bfloat16_128", cell_chunk_states, bfloat, 4);
XLSTM_KERNEL_TEMPLATE("cell_chunk_states_bfloat16_256", cell_chunk_states, bfloat, 8);
