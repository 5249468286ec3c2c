#include "kernels/cpu/chunk_tile.h"

#include "kernels/cpu/scratch.h"
#include "kernels/cpu/simd_targets.h"
#include "xlstm/core/errors.h"
//
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/chunk_tile.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
//
#include "kernels/cpu/chunk_operands-inl.h"

HWY_BEFORE_NAMESPACE();
namespace xlstm::cpu {
namespace HWY_NAMESPACE {

// Rows of C that are worked on together, one panel wide: 16 KiB, which leaves room in the first level cache for the
// operands that stream by.
constexpr int64_t kStateRows = 4096 / kOuterCols / kStripWidth * kStripWidth;

// One tile, packed.
struct PackedTile {
  const HeadRows& rows;
  const HeadDims& dims;
  const TileScratch& scratch;
  float old_factor = 0;   // on the state before the tile
  int64_t following = 0;  // tokens behind the tile
};

// q·k of the rows from t0 with the keys up to their last; of vectors of keys that are all later than a row, anything.
void run_products(const TileScratch& tile, int64_t t0, int64_t rows, int64_t dk) {
  for (int64_t s0 = 0; s0 < t0 + rows; s0 += kOuterCols) {
    OuterBlock block;
    block.strips[0] = {tile.q + t0 * tile.qk_width, tile.k_columns + s0 * dk, kOuterCols, dk};
    block.out = tile.s + t0 * tile.s_width + strip_index(0, s0, tile.s_width);
    block.out_row = kStripWidth;
    block.out_vec = kLanes < kStripWidth ? kLanes : kStripFloats;
    block.rows = whole_thirds(rows);
    block.cols = kOuterCols;
    outer_block(t0 + rows - s0 > kLanes ? kOuterVecs : 1, block);
  }
}

// s_ts = (q_t·k_s) · exp(b_t - b_s + i_s - m_t) for s ≤ t, else 0.
void run_scores(const TileScratch& tile, int64_t tokens, int64_t dk) {
  const hn::RebindToSigned<FloatTag> index_tag;
  const ChunkGates& gates = tile.gates;
  for (int64_t t0 = 0; t0 < tokens; t0 += kOuterRows) {
    const int64_t rows = std::min<int64_t>(kOuterRows, tokens - t0);
    run_products(tile, t0, rows, dk);
    for (int64_t s = 0; s < t0 + rows; s += kLanes) {
      float* const scores = tile.s + t0 * tile.s_width + strip_index(0, s, tile.s_width);
      const FloatVec high = load(gates.decay_high + s);
      const FloatVec low = load(gates.decay_low + s);
      const FloatVec input = load(gates.input + s);
      const auto index = hn::Iota(index_tag, static_cast<int32_t>(s));
      const int64_t first = std::max<int64_t>(0, s - t0);
      for (int64_t r = 0; r < first; ++r) store(hn::Zero(kFloat), scores + r * kStripWidth);
      for (int64_t r = first; r < rows; ++r) {
        const int64_t t = t0 + r;
        const FloatVec decay = hn::Add(hn::Sub(hn::Set(kFloat, gates.decay_high[t]), high),
                                       hn::Sub(hn::Set(kFloat, gates.decay_low[t]), low));
        const FloatVec exponent = hn::Add(decay, hn::Sub(input, hn::Set(kFloat, gates.m[t])));
        const FloatVec gate = hn::Exp(kFloat, hn::Min(exponent, hn::Zero(kFloat)));
        const auto past = hn::RebindMask(kFloat, hn::Lt(index, hn::Set(index_tag, static_cast<int32_t>(t + 1))));
        const FloatVec score = hn::Mul(load(scores + r * kStripWidth), gate);
        store(hn::IfThenElseZero(past, score), scores + r * kStripWidth);
      }
    }
  }
}

// q times its share of the state before the tile.
void run_query_weights(const TileScratch& tile, int64_t tokens) {
  for (int64_t t = 0; t < tokens; ++t) {
    const FloatVec inter = hn::Set(kFloat, tile.gates.inter[t]);
    float* const row = tile.q + strip_index(t, 0, tile.qk_width);
    for (int64_t a = 0; a < tile.qk_width; a += kLanes) {
      float* const q = row + strip_index(0, a, tile.qk_width);
      store(hn::Mul(inter, load(q)), q);
    }
  }
}

// n behind the tile into the carried state, n before it into the scratch.
void exchange_normalizer(const PackedTile& tile, const CarriedState& carried) {
  const TileScratch& scratch = tile.scratch;
  const FloatVec old = hn::Set(kFloat, tile.old_factor);
  for (int64_t a = 0; a < scratch.qk_width; a += kLanes) {
    const FloatVec before = load(carried.n + a);
    store(before, scratch.n + a);
    store(hn::MulAdd(old, before, load(scratch.n_share + a)), carried.n + a);
  }
}

void run_denominators(const PackedTile& tile) {
  const TileScratch& scratch = tile.scratch;
  const int64_t tokens = tile.rows.rows;
  for (int64_t t = 0; t < tokens; ++t) {
    const float* const scores = scratch.s + strip_index(t, 0, scratch.s_width);
    const float* const q = scratch.q + strip_index(t, 0, scratch.qk_width);
    FloatVec sum = hn::Zero(kFloat);
    for (int64_t s = 0; s <= t; s += kLanes) sum = hn::Add(load(scores + strip_index(0, s, scratch.s_width)), sum);
    for (int64_t a = 0; a < scratch.qk_width; a += kLanes) {
      sum = hn::MulAdd(load(q + strip_index(0, a, scratch.qk_width)), load(scratch.n + a), sum);
    }
    scratch.inverse_denominator[t] = sum_of_lanes(sum);
  }
  std::fill(scratch.inverse_denominator + tokens, scratch.inverse_denominator + ScratchPlan::padded(tokens), 0.0F);
  const FloatVec eps = hn::Set(kFloat, tile.dims.eps);
  for (int64_t t = 0; t < tokens; t += kLanes) {
    float* const dot = scratch.inverse_denominator + t;
    const FloatVec denominator = hn::Add(hn::Max(hn::Abs(load(dot)), load(scratch.gates.floor + t)), eps);
    store(hn::Div(hn::Set(kFloat, 1.0F), denominator), dot);
  }
}

// S·V of the rows from t0.
HWY_INLINE OuterTerm scores_by_values(const PackedTile& tile, const Panel& panel, int64_t t0) {
  const int64_t tokens = tile.rows.rows;
  const int64_t keys = std::min<int64_t>(tokens, t0 + kOuterRows);
  return {tile.scratch.s + t0 * tile.scratch.s_width, tile.scratch.v + panel.col * tokens, panel.width, keys};
}

// q̄·C of the rows from t0, summed over the `count` rows of C that lie at `c`, the first of them a0.
HWY_INLINE OuterTerm queries_by_state(const PackedTile& tile, const Panel& panel, int64_t t0, int64_t a0,
                                      const float* c, int64_t count) {
  const int64_t width = tile.scratch.qk_width;
  return {tile.scratch.q + t0 * width + strip_index(0, a0, width), c, panel.width, count};
}

// k̄ᵀ·V, rows [a, a + rows).
HWY_INLINE OuterBlock keys_by_values(const PackedTile& tile, const Panel& panel, int64_t a, int64_t rows) {
  OuterBlock block;
  block.columns = {tile.scratch.k + a, tile.scratch.v + panel.col * tile.rows.rows, panel.width, tile.rows.rows};
  block.a_stride = tile.scratch.qk_width;
  block.rows = rows;
  return block;
}

// Panel by panel, what the next tile will pack is fetched from memory.
void prefetch_next_tile(const PackedTile& tile, const Panel& panel) {
  const HeadRows& rows = tile.rows;
  const int64_t tokens = std::min(rows.rows, tile.following);
  const int64_t dv = tile.dims.dv;
  const int64_t begin = rows.rows + tokens * panel.col / dv;
  const int64_t end = rows.rows + tokens * (panel.col + panel.cols) / dv;
  constexpr int64_t kLine = ScratchPlan::kLine;
  for (int64_t t = begin; t < end; ++t) {
    for (int64_t a = 0; a < tile.dims.dk; a += kLine) hwy::Prefetch(rows.q + t * rows.q_stride + a);
    for (int64_t a = 0; a < tile.dims.dk; a += kLine) hwy::Prefetch(rows.k + t * rows.k_stride + a);
    for (int64_t d = 0; d < dv; d += kLine) hwy::Prefetch(rows.v + t * rows.v_stride + d);
    for (int64_t d = 0; d < dv; d += kLine) hwy::Prefetch(rows.h + t * rows.h_stride + d);
  }
}

// The result goes to packed rows …
HWY_INLINE void to_panel(const Panel& panel, float* rows, OuterBlock& block) {
  block.out = rows;
  block.out_row = panel.width;
  block.cols = panel.width;
}
// … or, divided, to h from token t0 on.
HWY_INLINE void to_output(const PackedTile& tile, const Panel& panel, int64_t t0, OuterBlock& block) {
  block.row_factor = tile.scratch.inverse_denominator + t0;
  block.out = tile.rows.h + t0 * tile.rows.h_stride + panel.col;
  block.out_row = tile.rows.h_stride;
  block.cols = panel.cols;
}

// h and C, with the state there from the beginning: block by block of C, first what h needs of it, then its update.
void run_in_place(const PackedTile& tile, const CarriedState& carried) {
  const int64_t tokens = tile.rows.rows;
  const int64_t dk = tile.dims.dk;
  exchange_normalizer(tile, carried);
  run_denominators(tile);
  for (int64_t col = 0; col < tile.dims.dv; col += kOuterCols) {
    const Panel panel(col, tile.dims.dv);
    for (int64_t a0 = 0; a0 < dk; a0 += kStateRows) {
      const int64_t a_end = std::min(dk, a0 + kStateRows);
      float* const c = carried.c + col * dk;
      for (int64_t t0 = 0; t0 < tokens; t0 += kOuterRows) {
        float* const h = tile.scratch.h + t0 * panel.width;
        OuterBlock block;
        block.rows = std::min<int64_t>(kOuterRows, tokens - t0);
        if (a0 == 0) {
          block.strips[0] = scores_by_values(tile, panel, t0);
        } else {
          block.start = h;
        }
        block.strips[1] = queries_by_state(tile, panel, t0, a0, c + a0 * panel.width, a_end - a0);
        if (a_end < dk) {
          to_panel(panel, h, block);
        } else {
          to_output(tile, panel, t0, block);
        }
        outer_block(panel.vecs, block);
      }
      for (int64_t a = a0; a < a_end; a += kOuterRows) {
        OuterBlock block = keys_by_values(tile, panel, a, std::min<int64_t>(kOuterRows, a_end - a));
        block.old = c + a * panel.width;
        block.old_factor = tile.old_factor;
        to_panel(panel, c + a * panel.width, block);
        outer_block(panel.vecs, block);
      }
    }
    prefetch_next_tile(tile, panel);
  }
}

// The tile's shares of h and of the next C, which need no state.
void run_shares(const PackedTile& tile) {
  const int64_t tokens = tile.rows.rows;
  const int64_t dk = tile.dims.dk;
  for (int64_t col = 0; col < tile.dims.dv; col += kOuterCols) {
    const Panel panel(col, tile.dims.dv);
    for (int64_t t0 = 0; t0 < tokens; t0 += kOuterRows) {
      OuterBlock block;
      block.rows = std::min<int64_t>(kOuterRows, tokens - t0);
      block.strips[0] = scores_by_values(tile, panel, t0);
      to_panel(panel, tile.scratch.h + col * strip_rows(tokens) + t0 * panel.width, block);
      outer_block(panel.vecs, block);
    }
    for (int64_t a = 0; a < dk; a += kOuterRows) {
      OuterBlock block = keys_by_values(tile, panel, a, std::min<int64_t>(kOuterRows, dk - a));
      to_panel(panel, tile.scratch.c + col * dk + a * panel.width, block);
      outer_block(panel.vecs, block);
    }
  }
}

// C behind the tile into the carried state, C before it in place of the tile's share.
void exchange_state(const PackedTile& tile, const CarriedState& carried) {
  const FloatVec old = hn::Set(kFloat, tile.old_factor);
  for (int64_t col = 0; col < tile.dims.dv; col += kOuterCols) {
    const int64_t begin = col * tile.dims.dk;
    const int64_t end = begin + Panel(col, tile.dims.dv).width * tile.dims.dk;
    for (int64_t i = begin; i < end; i += kLanes) {
      const FloatVec before = load(carried.c + i);
      store(hn::MulAdd(old, before, load(tile.scratch.c + i)), carried.c + i);
      store(before, tile.scratch.c + i);
    }
  }
}

// h from the tile's share and the state before it.
void complete_shares(const PackedTile& tile) {
  const int64_t tokens = tile.rows.rows;
  const int64_t dk = tile.dims.dk;
  run_denominators(tile);
  for (int64_t col = 0; col < tile.dims.dv; col += kOuterCols) {
    const Panel panel(col, tile.dims.dv);
    for (int64_t t0 = 0; t0 < tokens; t0 += kOuterRows) {
      OuterBlock block;
      block.rows = std::min<int64_t>(kOuterRows, tokens - t0);
      block.start = tile.scratch.h + col * strip_rows(tokens) + t0 * panel.width;
      block.strips[1] = queries_by_state(tile, panel, t0, 0, tile.scratch.c + col * dk, dk);
      to_output(tile, panel, t0, block);
      outer_block(panel.vecs, block);
    }
  }
}

void pack_tile(const HeadRows& rows, const HeadDims& dims, const TileScratch& scratch) {
  pack_queries(rows, dims.dk, scratch);
  pack_weighted_keys(rows, dims.dk, scratch);
  pack_key_columns(rows, dims.dk, scratch);
  pack_values(rows, dims.dv, scratch);
  run_scores(scratch, rows.rows, dims.dk);
  run_query_weights(scratch, rows.rows);
}

void load_any_state(const HeadState& state, const HeadDims& dims, const CarriedState& carried) {
  if (state.dtype == Dtype::kFloat32) return load_state<float>(state, dims, carried);
  load_state<Bfloat16>(state, dims, carried);
}

void store_any_state(const CarriedState& carried, float m, const HeadDims& dims, const HeadState& state) {
  *state.m = m;
  if (state.dtype == Dtype::kFloat32) return store_state<float>(carried, dims, state);
  store_state<Bfloat16>(carried, dims, state);
}

void run_chunk_tile_with(const ChunkTileArgs& args, Scratch& memory) {
  const HeadRows& rows = args.rows;
  const int64_t end = args.token + rows.rows;
  HeadChain& chain = *args.chain;
  const CarriedState carried(args.dims, args.carried);
  const TileScratch scratch(args.dims, rows.rows, true, memory.floats(TileScratch::floats(args.dims, rows.rows, true)));

  const float old_factor = run_chunk_gates(rows, chain.wait_for_m(args.token), scratch.gates);
  const float m = scratch.gates.m[rows.rows - 1];
  chain.pass_m(end, m);
  pack_tile(rows, args.dims, scratch);
  const PackedTile tile{rows, args.dims, scratch, old_factor, args.following};
  if (args.token == 0) load_any_state(args.state, args.dims, carried);

  // In place is less work; but who is followed closely hands the state on as early as possible.
  const bool ahead = !chain.has_state(args.token) || chain.is_followed(end);
  if (ahead) {
    run_shares(tile);
    chain.wait_for_state(args.token);
    exchange_state(tile, carried);
    exchange_normalizer(tile, carried);
  } else {
    run_in_place(tile, carried);
  }
  if (args.following == 0) store_any_state(carried, m, args.dims, args.state);
  chain.pass_state(end);
  if (ahead) complete_shares(tile);
}

void run_chunks_with(const ChunkArgs& args, int64_t chunk_size, Scratch& memory) {
  const int64_t longest = std::min(chunk_size, args.rows.rows);
  const int64_t carried_size = carried_state_floats(args.dims);
  float* const floats = memory.floats(carried_size + TileScratch::floats(args.dims, longest, false));
  const CarriedState carried(args.dims, floats);
  load_any_state(args.state, args.dims, carried);
  float m = *args.state.m;
  for (int64_t token = 0; token < args.rows.rows; token += chunk_size) {
    const int64_t end = std::min(args.rows.rows, token + chunk_size);
    const HeadRows rows = args.rows.part(token, end);
    const TileScratch scratch(args.dims, rows.rows, false, floats + carried_size);
    const float old_factor = run_chunk_gates(rows, m, scratch.gates);
    m = scratch.gates.m[rows.rows - 1];
    pack_tile(rows, args.dims, scratch);
    run_in_place({rows, args.dims, scratch, old_factor, args.rows.rows - end}, carried);
  }
  store_any_state(carried, m, args.dims, args.state);
}

}  // namespace HWY_NAMESPACE
}  // namespace xlstm::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace xlstm::cpu {

HWY_EXPORT(run_chunk_tile_with);
HWY_EXPORT(run_chunks_with);

namespace {
Scratch& thread_scratch() {
  thread_local Scratch scratch;
  return scratch;
}
}  // namespace

void run_chunk_tile(const ChunkTileArgs& args) {
  XLSTM_ASSERT(args.chain != nullptr && args.carried != nullptr);
  HWY_DYNAMIC_DISPATCH(run_chunk_tile_with)(args, thread_scratch());
}

void run_chunks(const ChunkArgs& args, int64_t chunk_size) {
  if (args.rows.rows > 0) HWY_DYNAMIC_DISPATCH(run_chunks_with)(args, chunk_size, thread_scratch());
}

}  // namespace xlstm::cpu
#endif
