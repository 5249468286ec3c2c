// The operands of a chunk tile, packed as its micro-kernel reads them. Compiled once per target.

#if defined(XLSTM_KERNELS_CPU_CHUNK_OPERANDS_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef XLSTM_KERNELS_CPU_CHUNK_OPERANDS_INL_H
#undef XLSTM_KERNELS_CPU_CHUNK_OPERANDS_INL_H
#else
#define XLSTM_KERNELS_CPU_CHUNK_OPERANDS_INL_H
#endif

#include <algorithm>
#include <cmath>

#include "hwy/cache_control.h"
#include "kernels/cpu/chunk_gates-inl.h"
#include "kernels/cpu/chunk_tile.h"
#include "kernels/cpu/outer_block-inl.h"

HWY_BEFORE_NAMESPACE();
namespace xlstm::cpu {
namespace HWY_NAMESPACE {

// The columns [col, col + cols) of V, C and h, which lie packed in `width` columns, 1 or kOuterVecs vectors.
struct Panel {
  Panel(int64_t first, int64_t dv)
      : col(first),
        cols(std::min(dv - first, kOuterCols)),
        vecs(cols > kLanes ? kOuterVecs : 1),
        width(vecs * kLanes) {}
  int64_t col, cols, vecs, width;
};

HWY_INLINE int64_t panels_width(int64_t columns) {
  return (columns + kOuterCols - 1) / kOuterCols * kOuterCols;
}

static_assert(kWidestPanel % kOuterCols == 0, "carried_state_floats() has room for the panels of every target");

// C and n of a head in float32 while its tiles go by: panels [Dk, width] of C, then n.
struct CarriedState {
  CarriedState(const HeadDims& dims, float* memory) : c(memory), n(memory + dims.dk * panels_width(dims.dv)) {}
  float* c;
  float* n;
};

// Everything else a tile works with, in one scratch block.
struct TileScratch {
  static int64_t floats(const HeadDims& dims, int64_t tokens, bool ahead) {
    const int64_t qk = ScratchPlan::padded(dims.dk);
    const int64_t sizes[] = {(ChunkGates::kArrays + 1) * ScratchPlan::padded(tokens),
                             2 * qk,
                             strip_rows(tokens) * (qk + ScratchPlan::padded(tokens)),
                             tokens * qk,
                             panels_width(tokens) * dims.dk,
                             tokens * panels_width(dims.dv),
                             strip_rows(tokens) * (ahead ? panels_width(dims.dv) : kOuterCols),
                             ahead ? dims.dk * panels_width(dims.dv) : 0};
    int64_t sum = 0;
    for (const int64_t size : sizes) sum += ScratchPlan::padded(size);
    return sum;
  }

  // `memory` is of floats(…) floats. `ahead`: the tile may run ahead of its state.
  TileScratch(const HeadDims& dims, int64_t tokens, bool ahead, float* memory)
      : TileScratch(dims, tokens, ahead, ScratchPlan(memory)) {}

  int64_t qk_width, s_width;  // multiples of kStripWidth
  ChunkGates gates;
  float* inverse_denominator;  // [L]
  float* n;                    // [Dk] before the tile
  float* n_share;              // [Dk] Σ_t k̄_t
  float* q;                    // strips [L, qk_width] of q scaled, later times its share of the state
  float* s;                    // strips [L, s_width] of gated scores, 0 above the diagonal
  float* k;                    // [L, qk_width] k times its weight
  float* k_columns;            // panels of kOuterCols tokens: [Dk, kOuterCols]
  float* v;                    // panels [L, width]
  float* h;                    // one panel [L, width] of sums; ahead: all panels
  float* c;                    // ahead: panels [Dk, width], the share of the next C, later C before the tile

 private:
  TileScratch(const HeadDims& dims, int64_t tokens, bool ahead, ScratchPlan plan)
      : qk_width(ScratchPlan::padded(dims.dk)),
        s_width(ScratchPlan::padded(tokens)),
        gates(tokens, plan),
        inverse_denominator(plan.take(tokens)),
        n(plan.take(qk_width)),
        n_share(plan.take(qk_width)),
        q(plan.take(strip_rows(tokens) * qk_width)),
        s(plan.take(strip_rows(tokens) * s_width)),
        k(plan.take(tokens * qk_width)),
        k_columns(plan.take(panels_width(tokens) * dims.dk)),
        v(plan.take(tokens * panels_width(dims.dv))),
        h(plan.take(strip_rows(tokens) * (ahead ? panels_width(dims.dv) : kOuterCols))),
        c(plan.take(ahead ? dims.dk * panels_width(dims.dv) : 0)) {}
};

// The vector at from[i], zeros from `count` on.
template <class T>
HWY_INLINE FloatVec load_until(const T* from, int64_t i, int64_t count) {
  return i < count ? load_some(from + i, count - i) : hn::Zero(kFloat);
}

// Strips of q scaled; rows that the micro-kernel computes beside the last are 0.
void pack_queries(const HeadRows& rows, int64_t dk, const TileScratch& tile) {
  const FloatVec scale = hn::Set(kFloat, 1.0F / std::sqrt(static_cast<float>(dk)));
  const int64_t computed = rows.rows / kOuterRows * kOuterRows + whole_thirds(rows.rows % kOuterRows);
  for (int64_t t = 0; t < computed; ++t) {
    const float* const from = rows.q + t * rows.q_stride;
    float* const to = tile.q + strip_index(t, 0, tile.qk_width);
    const int64_t count = t < rows.rows ? dk : 0;
    for (int64_t a = 0; a < tile.qk_width; a += kLanes) {
      store(hn::Mul(scale, load_until(from, a, count)), to + strip_index(0, a, tile.qk_width));
    }
  }
}

// k times its weight, and the tile's share of n.
void pack_weighted_keys(const HeadRows& rows, int64_t dk, const TileScratch& tile) {
  std::fill(tile.n_share, tile.n_share + tile.qk_width, 0.0F);
  for (int64_t t = 0; t < rows.rows; ++t) {
    const FloatVec weight = hn::Set(kFloat, tile.gates.key_weight[t]);
    for (int64_t a = 0; a < tile.qk_width; a += kLanes) {
      const FloatVec k = hn::Mul(weight, load_until(rows.k + t * rows.k_stride, a, dk));
      store(k, tile.k + t * tile.qk_width + a);
      store(hn::Add(load(tile.n_share + a), k), tile.n_share + a);
    }
  }
}

// Columns of k, with zeros behind the last token.
void pack_key_columns(const HeadRows& rows, int64_t dk, const TileScratch& tile) {
  for (int64_t s0 = 0; s0 < rows.rows; s0 += kOuterCols) {
    float* const panel = tile.k_columns + s0 * dk;
    const float* const k = rows.k + s0 * rows.k_stride;
    const int64_t tokens = std::min(kOuterCols, rows.rows - s0);
    int64_t s = 0;
#if HWY_TARGET != HWY_SCALAR
    const hn::FixedTag<float, 4> four;
    for (; s + 4 <= tokens; s += 4) {
      const float* from = k + s * rows.k_stride;
      float* to = panel + s;
      int64_t a = 0;
      for (; a + 4 <= dk; a += 4) {
        const auto k0 = hn::LoadU(four, from + a);
        const auto k1 = hn::LoadU(four, from + rows.k_stride + a);
        const auto k2 = hn::LoadU(four, from + 2 * rows.k_stride + a);
        const auto k3 = hn::LoadU(four, from + 3 * rows.k_stride + a);
        const auto low02 = hn::InterleaveLower(four, k0, k2);
        const auto low13 = hn::InterleaveLower(four, k1, k3);
        const auto high02 = hn::InterleaveUpper(four, k0, k2);
        const auto high13 = hn::InterleaveUpper(four, k1, k3);
        hn::StoreU(hn::InterleaveLower(four, low02, low13), four, to + a * kOuterCols);
        hn::StoreU(hn::InterleaveUpper(four, low02, low13), four, to + (a + 1) * kOuterCols);
        hn::StoreU(hn::InterleaveLower(four, high02, high13), four, to + (a + 2) * kOuterCols);
        hn::StoreU(hn::InterleaveUpper(four, high02, high13), four, to + (a + 3) * kOuterCols);
      }
      for (; a < dk; ++a) {
        for (int64_t i = 0; i < 4; ++i) to[a * kOuterCols + i] = from[i * rows.k_stride + a];
      }
    }
#endif
    for (int64_t a = 0; a < dk; ++a) {
      for (int64_t i = s; i < kOuterCols; ++i) panel[a * kOuterCols + i] = i < tokens ? k[i * rows.k_stride + a] : 0.0F;
    }
  }
}

void pack_values(const HeadRows& rows, int64_t dv, const TileScratch& tile) {
  for (int64_t t = 0; t < rows.rows; ++t) {
    const float* from = rows.v + t * rows.v_stride;
    for (int64_t col = 0; col < dv; col += kOuterCols) {
      const Panel panel(col, dv);
      float* to = tile.v + col * rows.rows + t * panel.width;
      for (int64_t i = 0; i < panel.width; i += kLanes) store(load_until(from, col + i, dv), to + i);
    }
  }
}

template <class T>
void load_state(const HeadState& state, const HeadDims& dims, const CarriedState& carried) {
  for (int64_t a = 0; a < dims.dk; ++a) {
    const T* const row = static_cast<const T*>(state.c) + a * state.c_stride;
    for (int64_t col = 0; col < dims.dv; col += kOuterCols) {
      const Panel panel(col, dims.dv);
      float* const to = carried.c + col * dims.dk + a * panel.width;
      for (int64_t i = 0; i < panel.width; i += kLanes) store(load_until(row, col + i, dims.dv), to + i);
    }
  }
  const T* const n = static_cast<const T*>(state.n);
  for (int64_t a = 0; a < ScratchPlan::padded(dims.dk); a += kLanes) store(load_until(n, a, dims.dk), carried.n + a);
}

template <class T>
void store_state(const CarriedState& carried, const HeadDims& dims, const HeadState& state) {
  for (int64_t a = 0; a < dims.dk; ++a) {
    T* const row = static_cast<T*>(state.c) + a * state.c_stride;
    for (int64_t col = 0; col < dims.dv; col += kOuterCols) {
      const Panel panel(col, dims.dv);
      const float* const from = carried.c + col * dims.dk + a * panel.width;
      for (int64_t i = 0; i < panel.cols; i += kLanes) store_some(load(from + i), row + col + i, dims.dv - col - i);
    }
  }
  T* const n = static_cast<T*>(state.n);
  for (int64_t a = 0; a < dims.dk; a += kLanes) store_some(load(carried.n + a), n + a, dims.dk - a);
}

}  // namespace HWY_NAMESPACE
}  // namespace xlstm::cpu
HWY_AFTER_NAMESPACE();

#endif
