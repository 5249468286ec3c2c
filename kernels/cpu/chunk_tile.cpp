#include "kernels/cpu/chunk_tile.h"

#include "kernels/cpu/scratch.h"
#include "kernels/cpu/simd_targets.h"
//
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/chunk_tile.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
//
#include "kernels/cpu/dot_block-inl.h"
#include "kernels/cpu/outer_block-inl.h"

HWY_BEFORE_NAMESPACE();
namespace xlstm::cpu {
namespace HWY_NAMESPACE {

// Everything a tile works with, in one scratch block. Rows are padded to whole vectors, the padding of v and c is zero.
struct TileScratch {
  TileScratch(const ChunkTileArgs& args, Scratch& memory) {
    const int64_t tokens = args.rows.rows;
    qk_stride = ScratchPlan::padded(args.dims.dk);
    v_stride = ScratchPlan::padded(args.dims.dv);
    s_stride = ScratchPlan::padded(tokens);
    copy_c = args.state.dtype != Dtype::kFloat32 || args.dims.dv % kLanes != 0;
    copy_h = args.dims.dv % kLanes != 0;
    // Without a copy of C only a tile that runs ahead needs the room, for its share of the next C.
    const int64_t c_size = copy_c || args.chain != nullptr ? args.dims.dk * v_stride : 0;
    const int64_t h_size = copy_h ? tokens * v_stride : 0;
    ScratchPlan plan(memory.floats(2 * tokens * qk_stride + tokens * v_stride + tokens * s_stride + 8 * s_stride +
                                   2 * qk_stride + c_size + h_size));
    q = plan.take(tokens * qk_stride);
    k = plan.take(tokens * qk_stride);
    v = plan.take(tokens * v_stride);
    s = plan.take(tokens * s_stride);
    decay_high = plan.take(s_stride);
    decay_low = plan.take(s_stride);
    input = plan.take(s_stride);
    m = plan.take(s_stride);
    inter = plan.take(s_stride);
    key_weight = plan.take(s_stride);
    row_sum = plan.take(s_stride);
    inverse_denominator = plan.take(s_stride);
    n = plan.take(qk_stride);
    n_share = plan.take(qk_stride);
    c = plan.take(c_size);
    h = plan.take(h_size);
  }

  int64_t qk_stride, v_stride, s_stride;
  bool copy_c, copy_h;
  float *q, *k;  // [L, qk_stride] q scaled, later times its share of the state; k, later times its weight
  float* v;      // [L, v_stride]
  float* s;      // [L, s_stride] gated scores, 0 above the diagonal
  float *decay_high, *decay_low;  // [L] sum of the two: b_t, the log of all forget gates up to t
  float* input;                   // [L] i_t
  float* m;                       // [L] the recurrence's stabiliser
  float* inter;                   // [L] share of the state before the tile in token t
  float* key_weight;              // [L] weight of token t in the state behind the tile
  float* row_sum;                 // [L] Σ_s s_ts
  float* inverse_denominator;     // [L]
  float* n;                       // [Dk] before the tile
  float* n_share;                 // [Dk] Σ_t k̄_t
  float* c;                       // [Dk, v_stride] if copied, or if the tile may run ahead
  float* h;                       // [L, v_stride] if copied
};

HWY_INLINE double difference(float a, float b) {
  return static_cast<double>(a) - static_cast<double>(b);
}

// The scalar part: stabilisers and decays. Returns the factor on the old state.
//
// Sums of log forget gates are kept in double, and b as a pair of floats: b_t - b_s of neighbours far into a tile must
// not lose the digits that |b| takes. Weights into the state are summed from the end of the tile, without differences.
float run_gates(const HeadRows& rows, float m_before, const TileScratch& tile) {
  float m = m_before;
  double decay = 0;
  for (int64_t t = 0; t < rows.rows; ++t) {
    const float log_forget = log_forget_gate(rows.f_gate[t * rows.gate_stride]);
    const float input = input_gate(rows.i_gate[t * rows.gate_stride]);
    m = std::max(log_forget + m, input);
    decay += static_cast<double>(log_forget);
    tile.decay_high[t] = static_cast<float>(decay);
    tile.decay_low[t] = static_cast<float>(decay - static_cast<double>(tile.decay_high[t]));
    tile.input[t] = input;
    tile.m[t] = m;
    tile.inter[t] = static_cast<float>(std::exp(std::min(0.0, decay + difference(m_before, m))));
    tile.key_weight[t] = log_forget;
  }
  double to_end = 0;
  for (int64_t t = rows.rows - 1; t >= 0; --t) {
    const auto log_forget = static_cast<double>(tile.key_weight[t]);
    const double weight = to_end + difference(tile.input[t], m);
    tile.key_weight[t] = static_cast<float>(std::exp(std::min(0.0, weight)));
    to_end += log_forget;
  }
  return tile.inter[rows.rows - 1];
}

// to[0, stride) = factor · from[0, count), zeros behind.
template <class T>
HWY_INLINE void copy_row(const T* from, int64_t count, float factor, int64_t stride, float* to) {
  const FloatVec factor_vec = hn::Set(kFloat, factor);
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) store(hn::Mul(load(from + i), factor_vec), to + i);
  if (i < count) {
    store(hn::Mul(load_part(from + i, count - i), factor_vec), to + i);
    i += kLanes;
  }
  for (; i < stride; i += kLanes) store(hn::Zero(kFloat), to + i);
}

template <class T>
HWY_INLINE void write_row(const float* from, int64_t count, T* to) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) store(load(from + i), to + i);
  if (i < count) store_part(load(from + i), to + i, count - i);
}

// s_ts = (q_t·k_s) · exp(b_t - b_s + i_s - m_t) for s ≤ t, with their sums over s.
void run_scores(const TileScratch& tile, int64_t tokens, int64_t dk) {
  const hn::RebindToSigned<FloatTag> index_tag;
  for (int64_t t0 = 0; t0 < tokens; t0 += kBlockRows) {
    const int64_t rows = std::min<int64_t>(kBlockRows, tokens - t0);
    const int64_t keys = t0 + rows;
    for (int64_t s0 = 0; s0 < keys; s0 += kBlockCols) {
      DotOperands<float> operands;
      operands.x = tile.q + t0 * tile.qk_stride;
      operands.x_stride = tile.qk_stride;
      for (int64_t c = 0; c < kBlockCols; ++c) {
        operands.w[c] = tile.k + std::min(s0 + c, tokens - 1) * tile.qk_stride;
      }
      operands.count = dk;
      float sums[kBlockRows * kBlockCols];
      dot_block(rows, operands, sums);
      for (int64_t r = 0; r < rows; ++r) {
        std::memcpy(tile.s + (t0 + r) * tile.s_stride + s0, sums + r * kBlockCols, kBlockCols * sizeof(float));
      }
    }
    for (int64_t t = t0; t < keys; ++t) {
      float* row = tile.s + t * tile.s_stride;
      const FloatVec high = hn::Set(kFloat, tile.decay_high[t]);
      const FloatVec low = hn::Set(kFloat, tile.decay_low[t]);
      const FloatVec m = hn::Set(kFloat, tile.m[t]);
      const auto end = hn::Set(index_tag, static_cast<int32_t>(t + 1));
      FloatVec sum = hn::Zero(kFloat);
      int64_t s = 0;
      for (; s < keys; s += kLanes) {
        const FloatVec decay =
            hn::Add(hn::Sub(high, load(tile.decay_high + s)), hn::Sub(low, load(tile.decay_low + s)));
        const FloatVec exponent = hn::Add(decay, hn::Sub(load(tile.input + s), m));
        const FloatVec gate = hn::Exp(kFloat, hn::Min(exponent, hn::Zero(kFloat)));
        const auto past = hn::RebindMask(kFloat, hn::Lt(hn::Iota(index_tag, static_cast<int32_t>(s)), end));
        const FloatVec score = hn::IfThenElseZero(past, hn::Mul(load(row + s), gate));
        store(score, row + s);
        sum = hn::Add(sum, score);
      }
      for (; s < ScratchPlan::padded(keys); s += kLanes) store(hn::Zero(kFloat), row + s);
      tile.row_sum[t] = sum_of_lanes(sum);
    }
  }
}

// q and k turned into q̄ and k̄, and the tile's share of n.
void run_weights(const TileScratch& tile, int64_t tokens) {
  const int64_t width = tile.qk_stride;
  for (int64_t a = 0; a < width; a += kLanes) store(hn::Zero(kFloat), tile.n_share + a);
  for (int64_t t = 0; t < tokens; ++t) {
    float* q = tile.q + t * width;
    float* k = tile.k + t * width;
    const FloatVec inter = hn::Set(kFloat, tile.inter[t]);
    const FloatVec weight = hn::Set(kFloat, tile.key_weight[t]);
    for (int64_t a = 0; a < width; a += kLanes) {
      store(hn::Mul(inter, load(q + a)), q + a);
      const FloatVec key = hn::Mul(weight, load(k + a));
      store(key, k + a);
      store(hn::Add(load(tile.n_share + a), key), tile.n_share + a);
    }
  }
}

// n and m behind the tile into the state, n before it into tile.n.
template <class T>
void exchange_normalizer(const ChunkTileArgs& args, const TileScratch& tile, float old_factor) {
  T* const n = static_cast<T*>(args.state.n);
  const int64_t dk = args.dims.dk;
  const FloatVec old = hn::Set(kFloat, old_factor);
  copy_row(n, dk, 1.0F, tile.qk_stride, tile.n);
  for (int64_t a = 0; a < tile.qk_stride; a += kLanes) {
    store(hn::MulAdd(old, load(tile.n + a), load(tile.n_share + a)), tile.n_share + a);
  }
  write_row(tile.n_share, dk, n);
  *args.state.m = tile.m[args.rows.rows - 1];
}

void run_denominators(const TileScratch& tile, int64_t tokens, float eps) {
  const int64_t width = tile.qk_stride;
  for (int64_t t = 0; t < tokens; ++t) {
    const float* q = tile.q + t * width;
    FloatVec acc = hn::Zero(kFloat);
    for (int64_t a = 0; a < width; a += kLanes) acc = hn::MulAdd(load(q + a), load(tile.n + a), acc);
    const float dot = tile.row_sum[t] + sum_of_lanes(acc);
    tile.inverse_denominator[t] = 1.0F / (std::max(std::abs(dot), std::exp(-tile.m[t])) + eps);
  }
}

struct Matrix {
  float* data = nullptr;
  int64_t stride = 0;
};

// What a pass over the columns of h and C computes.
enum class Part {
  kAll,    // h = (S·V + q̄·C) / den, then C = old·C + k̄ᵀ·V
  kShare,  // h = S·V and C = k̄ᵀ·V
  kRest,   // h = (h + q̄·C) / den
};

// kVecs vectors of columns from `col`.
template <int kVecs>
void run_panel(const ChunkTileArgs& args, const TileScratch& tile, Part part, const Matrix& c, const Matrix& h,
               int64_t col, float old_factor) {
  const int64_t tokens = args.rows.rows;
  const int64_t dk = args.dims.dk;
  for (int64_t t0 = 0; t0 < tokens; t0 += kOuterRows) {
    const int64_t rows = std::min<int64_t>(kOuterRows, tokens - t0);
    OuterBlock block;
    if (part != Part::kRest) {
      block.terms[0] = {tile.s + t0 * tile.s_stride, tile.s_stride, 1, tile.v + col, tile.v_stride, t0 + rows};
    }
    if (part != Part::kShare) {
      block.terms[1] = {tile.q + t0 * tile.qk_stride, tile.qk_stride, 1, c.data + col, c.stride, dk};
      block.row_factor = tile.inverse_denominator + t0;
    }
    block.continues = part == Part::kRest;
    block.out = h.data + t0 * h.stride + col;
    block.out_stride = h.stride;
    outer_block<kVecs>(rows, block);
  }
  if (part == Part::kRest) return;
  for (int64_t a0 = 0; a0 < dk; a0 += kOuterRows) {
    const int64_t rows = std::min<int64_t>(kOuterRows, dk - a0);
    OuterBlock block;
    block.terms[0] = {tile.k + a0, 1, tile.qk_stride, tile.v + col, tile.v_stride, tokens};
    if (part == Part::kAll) block.old_factor = &old_factor;
    block.out = c.data + a0 * c.stride + col;
    block.out_stride = c.stride;
    outer_block<kVecs>(rows, block);
  }
}

void run_panels(const ChunkTileArgs& args, const TileScratch& tile, Part part, const Matrix& c, const Matrix& h,
                float old_factor) {
  const int64_t dv = args.dims.dv;
  int64_t col = 0;
  for (; col + kOuterVecs * kLanes <= dv; col += kOuterVecs * kLanes) {
    run_panel<kOuterVecs>(args, tile, part, c, h, col, old_factor);
  }
  for (; col < dv; col += kLanes) run_panel<1>(args, tile, part, c, h, col, old_factor);
}

// One row of C: state = old·state + share, and share = the old state.
template <class T>
HWY_INLINE void exchange_row(float old_factor, int64_t count, float* share, T* state) {
  const FloatVec old = hn::Set(kFloat, old_factor);
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    const FloatVec before = load(state + i);
    store(hn::MulAdd(old, before, load(share + i)), state + i);
    store(before, share + i);
  }
  if (i < count) {
    const FloatVec before = load_part(state + i, count - i);
    store_part(hn::MulAdd(old, before, load(share + i)), state + i, count - i);
    store(before, share + i);
  }
}

// h and C, with the state there from the beginning.
template <class T>
void run_in_place(const ChunkTileArgs& args, const TileScratch& tile, const Matrix& h, float old_factor) {
  const int64_t dk = args.dims.dk;
  const int64_t dv = args.dims.dv;
  T* const state = static_cast<T*>(args.state.c);
  const int64_t stride = args.state.c_stride;
  exchange_normalizer<T>(args, tile, old_factor);
  run_denominators(tile, args.rows.rows, args.dims.eps);
  Matrix c{tile.c, tile.v_stride};
  if (tile.copy_c) {
    for (int64_t a = 0; a < dk; ++a) copy_row(state + a * stride, dv, 1.0F, c.stride, c.data + a * c.stride);
  } else {
    c = {static_cast<float*>(args.state.c), stride};
  }
  run_panels(args, tile, Part::kAll, c, h, old_factor);
  if (tile.copy_c) {
    for (int64_t a = 0; a < dk; ++a) write_row(c.data + a * c.stride, dv, state + a * stride);
  }
}

// The same, holding the state only while C and n go through it: the tile's shares are formed before, and h is completed
// behind, from the C that was exchanged for the share.
template <class T>
void run_ahead(const ChunkTileArgs& args, const TileScratch& tile, const Matrix& h, float old_factor) {
  T* const state = static_cast<T*>(args.state.c);
  const Matrix c{tile.c, tile.v_stride};
  run_panels(args, tile, Part::kShare, c, h, old_factor);
  args.chain->wait_for_state(args.token);
  for (int64_t a = 0; a < args.dims.dk; ++a) {
    exchange_row(old_factor, args.dims.dv, c.data + a * c.stride, state + a * args.state.c_stride);
  }
  exchange_normalizer<T>(args, tile, old_factor);
  args.chain->pass_state(args.token + args.rows.rows);
  run_denominators(tile, args.rows.rows, args.dims.eps);
  run_panels(args, tile, Part::kRest, c, h, old_factor);
}

template <class T>
void run_tile(const ChunkTileArgs& args, Scratch& memory) {
  const HeadRows& rows = args.rows;
  const int64_t tokens = rows.rows;
  const int64_t end = args.token + tokens;
  const int64_t dk = args.dims.dk;
  const int64_t dv = args.dims.dv;
  HeadChain* const chain = args.chain;
  const TileScratch tile(args, memory);

  const float old_factor = run_gates(rows, chain != nullptr ? chain->wait_for_m(args.token) : *args.state.m, tile);
  if (chain != nullptr) chain->pass_m(end, tile.m[tokens - 1]);
  const float q_scale = 1.0F / std::sqrt(static_cast<float>(dk));
  for (int64_t t = 0; t < tokens; ++t) {
    copy_row(rows.q + t * rows.q_stride, dk, q_scale, tile.qk_stride, tile.q + t * tile.qk_stride);
    copy_row(rows.k + t * rows.k_stride, dk, 1.0F, tile.qk_stride, tile.k + t * tile.qk_stride);
    copy_row(rows.v + t * rows.v_stride, dv, 1.0F, tile.v_stride, tile.v + t * tile.v_stride);
  }
  run_scores(tile, tokens, dk);
  run_weights(tile, tokens);

  const Matrix h = tile.copy_h ? Matrix{tile.h, tile.v_stride} : Matrix{rows.h, rows.h_stride};
  // In place is less work; but who is followed closely hands the state on as early as possible.
  if (chain != nullptr && (!chain->has_state(args.token) || chain->is_followed(end))) {
    run_ahead<T>(args, tile, h, old_factor);
  } else {
    run_in_place<T>(args, tile, h, old_factor);
    if (chain != nullptr) chain->pass_state(end);
  }
  if (tile.copy_h) {
    for (int64_t t = 0; t < tokens; ++t) write_row(tile.h + t * tile.v_stride, dv, rows.h + t * rows.h_stride);
  }
}

void run_chunk_tile_with(const ChunkTileArgs& args, Scratch& memory) {
  if (args.state.dtype == Dtype::kFloat32) return run_tile<float>(args, memory);
  run_tile<Bfloat16>(args, memory);
}

}  // namespace HWY_NAMESPACE
}  // namespace xlstm::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace xlstm::cpu {

HWY_EXPORT(run_chunk_tile_with);

void run_chunk_tile(const ChunkTileArgs& args) {
  thread_local Scratch scratch;
  HWY_DYNAMIC_DISPATCH(run_chunk_tile_with)(args, scratch);
}

}  // namespace xlstm::cpu
#endif
