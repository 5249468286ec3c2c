// C and n from tile to tile: Cᵀ ← decay · Cᵀ + Vᵀ · K̄, K̄ the keys times their weights.
#include "kernels/cuda/cell_chunk_words.h"

namespace xlstm::cuda {
namespace {

// A block's part of Cᵀ, and a warp's in it.
constexpr int kColumns = 64;  // of C
constexpr int kFeatures = static_cast<int>(kChunkPad);
constexpr int kWarpFeatures = 32;
constexpr int kFeatureTiles = kWarpFeatures / 8;
constexpr int kWarpsOfFeatures = kFeatures / kWarpFeatures;
constexpr int kThreads = kColumns / kWarpRows * kWarpsOfFeatures * kLanes;

// A piece in shared memory: kPieceWords rows of tokens' words of v, then of k̄. Four rows further is eight banks
// further.
constexpr int kValueStride = kColumns + 8;
constexpr int kKeyStride = kFeatures + 8;
constexpr int kPieceSize = kPieceWords * (kValueStride + kKeyStride);
constexpr int kPieces = 4;  // in memory, of which one is multiplied
using ValueLayout = Layout<1, kValueStride>;
using KeyLayout = Layout<1, kKeyStride>;

template <class Words>
constexpr int kTilePieces = Words::kTile / Words::kValues / kPieceWords;
static_assert(kTilePieces<Bfloat16Words> == 2 && kTilePieces<Float32Words> == 2);

using Sums = float[kRowTiles][kFeatureTiles][4];

struct Block {
  CellSpan span;
  int head;     // of the band
  int column;   // the block's first
  int feature;  // the block's first
  int tiles;
};

// The row of Cᵀ, a column of C, and the column of Cᵀ, a feature, of a lane's first sum of its tile (0, 0).
__device__ inline int lane_column(const Block& block) {
  return block.column + warp_id() / kWarpsOfFeatures * kWarpRows + lane_id() / 4;
}
__device__ inline int lane_feature(const Block& block) {
  return block.feature + warp_id() % kWarpsOfFeatures * kWarpFeatures + lane_id() % 4 * 2;
}

// Calls use(sum, index of its element of C) for the sums inside of C.
template <class Use>
__device__ void for_each_element(const ChunkArgs& args, const Block& block, Sums& sums, const Use& use) {
  const CellTensors& cell = args.cell;
  const int64_t begin = (int64_t{block.span.slot} * cell.heads + args.head_begin + block.head) * cell.dk * cell.dv;
  XLSTM_UNROLL
  for (int i = 0; i < kRowTiles; ++i) {
    XLSTM_UNROLL
    for (int j = 0; j < kFeatureTiles; ++j) {
      XLSTM_UNROLL
      for (int e = 0; e < 4; ++e) {
        const int column = lane_column(block) + 16 * i + e / 2 * 8;
        const int feature = lane_feature(block) + 8 * j + e % 2;
        if (column < cell.dv && feature < cell.dk) use(sums[i][j][e], begin + int64_t{feature} * cell.dv + column);
      }
    }
  }
}

__device__ float read_state(const CellTensors& cell, const void* state, int64_t index) {
  return cell.bfloat16_state != 0 ? __bfloat162float(static_cast<const __nv_bfloat16*>(state)[index])
                                  : static_cast<const float*>(state)[index];
}
__device__ void write_state(const CellTensors& cell, void* state, int64_t index, float value) {
  if (cell.bfloat16_state != 0) {
    static_cast<__nv_bfloat16*>(state)[index] = __float2bfloat16_rn(value);
  } else {
    static_cast<float*>(state)[index] = value;
  }
}

// Begins to copy piece `piece` of the span, if there is one.
template <class Words>
__device__ void copy_piece(const ChunkArgs& args, const Block& block, int piece, uint32_t* shared) {
  if (piece < block.tiles * kTilePieces<Words>) {
    const int64_t row = tile_index(args, block.head, block.span.first_tile) * (Words::kTile / Words::kValues) +
                        int64_t{piece} * kPieceWords;
    uint32_t* to = shared + piece % kPieces * kPieceSize;
    copy_rows<kPieceWords, kColumns, kThreads>(to, kValueStride, args.v_words + row * args.padded_dv + block.column,
                                               args.padded_dv);
    copy_rows<kPieceWords, kFeatures, kThreads>(to + kPieceWords * kValueStride, kKeyStride,
                                                args.key_words + row * args.padded_dk + block.feature, args.padded_dk);
  }
  commit_copies();
}

// C as the outputs multiply with it. Neighbouring lanes exchange words so that each quad writes 32 bytes in one go.
template <class Words>
__device__ void save_state(const ChunkArgs& args, const Block& block, int tile, const Sums& sums) {
  const int64_t stride = args.padded_dk / Words::kValues;
  uint32_t* to = args.states + (tile_index(args, block.head, tile) * args.padded_dv + lane_column(block)) * stride;
  const int odd = lane_id() % 2;
  XLSTM_UNROLL
  for (int row = 0; row < 2 * kRowTiles; ++row) {
    const int i = row / 2;
    const int e = row % 2 * 2;
    uint32_t* words = to + row * 8 * stride;
    if constexpr (Words::kBfloat16) {
      XLSTM_UNROLL
      for (int j = 0; j < kFeatureTiles; j += 2) {
        const uint32_t left = Words::word(sums[i][j][e], sums[i][j][e + 1]);
        const uint32_t right = Words::word(sums[i][j + 1][e], sums[i][j + 1][e + 1]);
        const uint32_t other = __shfl_xor_sync(kAllLanes, odd != 0 ? left : right, 1);
        const int feature = lane_feature(block) + (odd != 0 ? 8 * (j + 1) - 2 : 8 * j);
        *reinterpret_cast<uint2*>(words + feature / 2) = odd != 0 ? make_uint2(other, right) : make_uint2(left, other);
      }
    } else {
      XLSTM_UNROLL
      for (int j = 0; j < kFeatureTiles; ++j) {
        *reinterpret_cast<float2*>(words + lane_feature(block) + 8 * j) = make_float2(sums[i][j][e], sums[i][j][e + 1]);
      }
    }
  }
}

// A feature's n: a thread's of the blocks with the first columns.
struct Normalizer {
  bool own;
  float n;
  int64_t state;    // its index in n
  int64_t scratch;  // in the arrays of the span's first tile
};

__device__ Normalizer read_normalizer(const ChunkArgs& args, const Block& block) {
  const CellTensors& cell = args.cell;
  const int feature = block.feature + static_cast<int>(threadIdx.x);
  Normalizer normalizer = {};
  normalizer.own = block.column == 0 && threadIdx.x < kFeatures;
  normalizer.scratch = tile_index(args, block.head, block.span.first_tile) * args.padded_dk + feature;
  normalizer.state = (int64_t{block.span.slot} * cell.heads + args.head_begin + block.head) * cell.dk + feature;
  if (normalizer.own && feature < cell.dk) normalizer.n = read_state(cell, cell.n, normalizer.state);
  return normalizer;
}

// state ← decay · state + sums
__device__ __forceinline__ void advance(Sums& state, float decay, const Sums& sums) {
  XLSTM_UNROLL
  for (int i = 0; i < kRowTiles; ++i) {
    XLSTM_UNROLL
    for (int j = 0; j < kFeatureTiles; ++j) {
      XLSTM_UNROLL
      for (int e = 0; e < 4; ++e) state[i][j][e] = fmaf(decay, state[i][j][e], sums[i][j][e]);
    }
  }
}

// A block per span, head, 64 columns and 128 rows of C. C and the products of a tile are a lane's 32 registers each: C
// meets the products' sum once per tile, rounded to nearest, which the matrix units' own sums are not.
template <class Words>
__global__ void __launch_bounds__(kThreads, 2) cell_chunk_states(ChunkArgs args) {
  XLSTM_DYNAMIC_SHARED(uint32_t, shared);
  wait_for_previous();
  start_next();
  const CellTensors& cell = args.cell;
  const auto column_blocks = static_cast<unsigned>(args.padded_dv / kColumns);
  const auto feature_blocks = static_cast<unsigned>(args.padded_dk / kFeatures);
  Block block;
  block.span = args.spans[blockIdx.x / (column_blocks * feature_blocks)];
  block.head = static_cast<int>(blockIdx.y);
  block.column = static_cast<int>(blockIdx.x % column_blocks) * kColumns;
  block.feature = static_cast<int>(blockIdx.x / column_blocks % feature_blocks) * kFeatures;
  block.tiles = blocks_of(block.span.rows, Words::kTile);
  for (int piece = 0; piece < kPieces - 1; ++piece) copy_piece<Words>(args, block, piece, shared);

  Normalizer normalizer = read_normalizer(args, block);
  Sums state = {};
  for_each_element(args, block, state, [&](float& c, int64_t index) { c = read_state(cell, cell.c, index); });
  const uint32_t* values = shared + warp_id() / kWarpsOfFeatures * kWarpRows;
  const uint32_t* keys = shared + kPieceWords * kValueStride + warp_id() % kWarpsOfFeatures * kWarpFeatures;
  for (int tile = 0; tile < block.tiles; ++tile) {
    const float decay = args.decays[tile_index(args, block.head, block.span.first_tile + tile)];
    const int64_t at = normalizer.scratch + int64_t{tile} * args.padded_dk;
    const float key_sum = normalizer.own ? args.key_sums[at] : 0;
    save_state<Words>(args, block, block.span.first_tile + tile, state);
    const int tokens = smaller(Words::kTile, block.span.rows - tile * Words::kTile);
    int steps = blocks_of(tokens, kStepWords * Words::kValues);
    Sums sums = {};
    for (int i = 0; i < kTilePieces<Words>; ++i, steps -= kPieceSteps) {
      const int piece = tile * kTilePieces<Words> + i;
      wait_for_copies<kPieces - 2>();
      __syncthreads();
      copy_piece<Words>(args, block, piece + kPieces - 1, shared);
      const int place = piece % kPieces * kPieceSize;
      multiply<Words, ValueLayout, KeyLayout>(values + place, keys + place, steps, sums);
    }
    advance(state, decay, sums);
    if (normalizer.own) {
      args.normalizers[at] = normalizer.n;
      normalizer.n = fmaf(decay, normalizer.n, key_sum);
    }
  }
  for_each_element(args, block, state, [&](float& c, int64_t index) { write_state(cell, cell.c, index, c); });
  if (normalizer.own && block.feature + static_cast<int>(threadIdx.x) < cell.dk) {
    write_state(cell, cell.n, normalizer.state, normalizer.n);
  }
}

template <class Words>
void launch(Queue& queue, const ChunkArgs& args) {
  const int64_t blocks = int64_t{args.span_count} * (args.padded_dv / kColumns) * (args.padded_dk / kFeatures);
  const Grid grid{.x = static_cast<unsigned>(blocks),
                  .y = static_cast<unsigned>(args.heads),
                  .threads = kThreads,
                  .shared_bytes = kPieces * kPieceSize * sizeof(uint32_t)};
  run<cell_chunk_states<Words>>(queue, grid, args);
}

}  // namespace

void chunk_states(Queue& queue, const ChunkArgs& args) {
  if (args.bfloat16_products != 0) {
    launch<Bfloat16Words>(queue, args);
  } else {
    launch<Float32Words>(queue, args);
  }
}

}  // namespace xlstm::cuda
