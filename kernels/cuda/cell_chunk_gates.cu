// What is one value per token and head: decays, stabilisers, shares and weights, and m.
#include "kernels/cuda/cell_chunk_words.h"

namespace xlstm::cuda {
namespace {

constexpr int kGateWarps = 16;  // tiles of a head that are worked on side by side

// Gates below this act as "never": exponentials of it are 0, and sums over a tile of it stay finite, so that no
// difference of infinities can make a NaN.
__device__ inline float bounded(float gate) {
  return gate < -1e30F ? -1e30F : gate;
}

// log σ(f)
__device__ inline float log_forget_gate(float f) {
  return bounded((f < 0 ? f : 0) - log1pf(expf(-fabsf(f))));
}

// A sum of two floats with the digits of both: differences of long sums of log gates must not lose what the sums take.
struct Pair {
  float high;
  float low;
};

// a + b without error (Knuth).
__device__ inline Pair exact_sum(float a, float b) {
  const float sum = a + b;
  const float b_part = sum - a;
  return {sum, (a - (sum - b_part)) + (b - b_part)};
}

__device__ inline Pair add(Pair a, Pair b) {
  const Pair sum = exact_sum(a.high, b.high);
  const float low = sum.low + (a.low + b.low);
  const float high = sum.high + low;
  return {high, low - (high - sum.high)};
}

// e^x for a log that is at most 0 but for rounding errors.
__device__ inline float exp_of_share(Pair x) {
  const float e = expf(fminf(x.high, 0));
  return x.high < 0 ? fmaf(e, x.low, e) : e;
}

// Tokens that follow each other: the log of their forget gates, and the stabiliser that they would end on by
// themselves.
struct Stretch {
  Pair decay;
  float stabiliser;
};

// m behind a stretch, from m before it.
__device__ inline float stabiliser_behind(float before, const Stretch& stretch) {
  return fmaxf(before + stretch.decay.high + stretch.decay.low, stretch.stabiliser);
}

__device__ inline Stretch join(const Stretch& before, const Stretch& after) {
  return {add(before.decay, after.decay), stabiliser_behind(before.stabiliser, after)};
}

__device__ inline Stretch from_lane_before(const Stretch& own, unsigned distance) {
  return {{__shfl_up_sync(kAllLanes, own.decay.high, distance), __shfl_up_sync(kAllLanes, own.decay.low, distance)},
          __shfl_up_sync(kAllLanes, own.stabiliser, distance)};
}

// The tokens of a tile that a lane has: they follow each other.
template <int kTokens>
struct LaneTokens {
  float input[kTokens];
  Stretch stretch[kTokens];  // from the tile's first token to this one
};

// Absent tokens leave the sums as they are.
template <int kTokens>
__device__ LaneTokens<kTokens> read_gates(const ChunkArgs& args, const ChunkTile& tile, int head) {
  const CellTensors& cell = args.cell;
  LaneTokens<kTokens> own = {};
  XLSTM_UNROLL
  for (int j = 0; j < kTokens; ++j) {
    const int t = kTokens * lane_id() + j;
    own.input[j] = -INFINITY;
    float log_forget = 0;
    if (t < tile.tokens) {
      const float* row = cell.gates + int64_t{tile.first_row + t} * cell.gates_stride + args.head_begin + head;
      own.input[j] = bounded(row[0]);
      log_forget = log_forget_gate(row[cell.heads]);
    }
    const Stretch token = {{log_forget, 0}, own.input[j]};
    own.stretch[j] = j == 0 ? token : join(own.stretch[j - 1], token);
  }
  return own;
}

// From sums over the lane's own tokens to those from the tile's first.
template <int kTokens>
__device__ void add_lanes_before(LaneTokens<kTokens>& own) {
  Stretch sum = own.stretch[kTokens - 1];
  for (int distance = 1; distance < kLanes; distance *= 2) {
    const Stretch before = from_lane_before(sum, static_cast<unsigned>(distance));
    if (lane_id() >= distance) sum = join(before, sum);
  }
  const Stretch before = from_lane_before(sum, 1);
  if (lane_id() == 0) return;
  XLSTM_UNROLL
  for (int j = 0; j < kTokens; ++j) own.stretch[j] = join(before, own.stretch[j]);
}

// `before`: m in front of the tile; `whole`: all its tokens.
template <class Words, int kTokens>
__device__ void write_tokens(const ChunkArgs& args, int64_t tile, int tokens, const LaneTokens<kTokens>& own,
                             float before, const Stretch& whole) {
  const float after = stabiliser_behind(before, whole);
  const auto array = [&](ChunkArray which) { return token_array<Words>(args, which, tile); };
  XLSTM_UNROLL
  for (int j = 0; j < kTokens; ++j) {
    const int t = kTokens * lane_id() + j;
    const bool present = t < tokens;
    const Pair decay = own.stretch[j].decay;
    const float stabiliser = stabiliser_behind(before, own.stretch[j]);
    const Pair to_end = add(whole.decay, {-decay.high, -decay.low});
    const float share = exp_of_share(add(decay, exact_sum(before, -stabiliser)));
    array(kChunkDecayHigh)[t] = present ? decay.high : 0;
    array(kChunkDecayLow)[t] = present ? decay.low : 0;
    array(kChunkInput)[t] = present ? own.input[j] : 0;
    array(kChunkStabiliser)[t] = present ? stabiliser : 0;
    array(kChunkShare)[t] = present ? share : 0;
    array(kChunkWeight)[t] = present ? exp_of_share(add(to_end, exact_sum(own.input[j], -after))) : 0;
    if (t == tokens - 1) args.decays[tile] = share;
  }
}

// A block per span and head, a tile per warp.
//
// m_t = max(b_t + m before the tile, max over s ≤ t of b_t - b_s + i_s), b the sum of the log forget gates: the
// recurrence's own stabiliser, found by a prefix sum in the algebra of max and plus.
template <class Words>
__global__ void __launch_bounds__(kGateWarps* kLanes) cell_chunk_gates(ChunkArgs args) {
  constexpr int kTokens = Words::kTile / kLanes;
  __shared__ Stretch wholes[kGateWarps];
  wait_for_previous();
  start_next();
  const CellSpan span = args.spans[blockIdx.x];
  const auto head = static_cast<int>(blockIdx.y);
  float* m = args.cell.m + int64_t{span.slot} * args.cell.heads + args.head_begin + head;
  const int tiles = blocks_of(span.rows, Words::kTile);
  float before = *m;
  for (int first = 0; first < tiles; first += kGateWarps) {
    const int own_tile = first + warp_id();
    ChunkTile tile = {};
    LaneTokens<kTokens> own = {};
    if (own_tile < tiles) {
      tile = args.tiles[span.first_tile + own_tile];
      own = read_gates<kTokens>(args, tile, head);
      add_lanes_before(own);
      if (lane_id() == kLanes - 1) wholes[warp_id()] = own.stretch[kTokens - 1];
    }
    __syncthreads();
    float own_before = before;
    const int together = smaller(kGateWarps, tiles - first);
    for (int i = 0; i < together; ++i) {
      if (i == warp_id()) own_before = before;
      before = stabiliser_behind(before, wholes[i]);
    }
    if (own_tile < tiles) {
      write_tokens<Words>(args, tile_index(args, head, span.first_tile + own_tile), tile.tokens, own, own_before,
                          wholes[warp_id()]);
    }
    __syncthreads();
  }
  if (threadIdx.x == 0) *m = before;
}

template <class Words>
void launch(Queue& queue, const ChunkArgs& args) {
  const Grid grid{.x = static_cast<unsigned>(args.span_count),
                  .y = static_cast<unsigned>(args.heads),
                  .threads = kGateWarps * kLanes};
  run<cell_chunk_gates<Words>>(queue, grid, args);
}

}  // namespace

void chunk_gates(Queue& queue, const ChunkArgs& args) {
  if (args.bfloat16_products != 0) {
    launch<Bfloat16Words>(queue, args);
  } else {
    launch<Float32Words>(queue, args);
  }
}

}  // namespace xlstm::cuda
