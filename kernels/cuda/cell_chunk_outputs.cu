// h of a tile: (S·V + q̄·C) / denominator, S = q·kᵀ times the gates between two tokens, q̄ = q times the tokens' shares
// of the C before the tile. q and S stay in shared memory as the left operand; k, C and v pass by in pieces.
#include "kernels/cuda/cell_chunk_words.h"

namespace xlstm::cuda {
namespace {

constexpr int kColumnWarps = 2;  // of a block: each has half of the columns, and with others the rows
constexpr int kPieces = 3;       // in memory, of which one is multiplied

// kRows tokens, and as many columns of k, C or v at a time. Strides in shared memory: four words or eight further than
// a multiple of 32, so that a warp's lanes read from different banks.
template <class W>
struct Shape {
  using Words = W;
  static constexpr int kRows = Words::kTile;
  static constexpr int kThreads = kRows / kWarpRows * kColumnWarps * kLanes;
  static constexpr int kWarpColumns = kRows / kColumnWarps;
  static constexpr int kColumnTiles = kWarpColumns / 8;
  static constexpr int kShareWords = static_cast<int>(kChunkFeatures) / Words::kValues;
  static constexpr int kTokenWords = kRows / Words::kValues;
  static constexpr int kTokenPieces = kTokenWords / kPieceWords;
  static constexpr int kQueryStride = kShareWords + 4;
  static constexpr int kScoreStride = kTokenWords + 4;
  static constexpr int kRowStride = kPieceWords + 4;  // of pieces of k and C: lines of features' words
  static constexpr int kValueStride = kRows + 8;      // of pieces of v: rows of tokens' words
  static constexpr int kPieceSize = kRows * kRowStride;
  static_assert(kPieceWords * kValueStride <= kPieceSize && kTokenWords % kPieceWords == 0);
  using Queries = Layout<kQueryStride, 1>;
  using Scores = Layout<kScoreStride, 1>;
  using Rows = Layout<kRowStride, 1>;
  using Values = Layout<1, kValueStride>;
  using Sums = float[kRowTiles][kColumnTiles][4];
};

// Shared memory. Each member begins at a multiple of 16 bytes.
template <class S>
struct Memory {
  uint32_t queries[S::kRows * S::kQueryStride];
  uint32_t scores[S::kRows * S::kScoreStride];
  uint32_t pieces[kPieces * S::kPieceSize];
  float normalizer[kChunkFeatures];  // n before the tile
  float decay_high[S::kRows];
  float decay_low[S::kRows];
  float input[S::kRows];
  float stabiliser[S::kRows];
  float share[S::kRows];    // times the scale of q
  float inverse[S::kRows];  // 1 / denominator, or 1 while shares are missing
  float score_sums[kColumnWarps][S::kRows];
};

// The tile that a block works on.
struct Block {
  ChunkTile tile;
  int head;         // of the band
  int64_t index;    // tile_index()
  int share_steps;  // of the features of this share
  int share_pieces;
};

// The pieces in the order of their use: of k, then for each kRows columns of C and v.
template <class S>
class Pieces {
 public:
  __device__ Pieces(const ChunkArgs& args, const Block& block, uint32_t* memory)
      : memory_(memory),
        row_stride_(args.padded_dk / S::Words::kValues),
        value_stride_(args.padded_dv),
        share_pieces_(block.share_pieces),
        count_(block.share_pieces + blocks_of(args.cell.dv, S::kRows) * (block.share_pieces + S::kTokenPieces)) {
    const int first_word = args.first_feature / S::Words::kValues;
    keys_ = args.k_words + block.index * S::kRows * row_stride_ + first_word;
    states_ = args.states + block.index * args.padded_dv * row_stride_ + first_word;
    values_ = args.v_words + block.index * S::kTokenWords * value_stride_;
  }

  // Begins to copy the next piece, if there is one.
  __device__ void copy_next() {
    if (copied_ < count_) copy(copied_, memory_ + copied_ % kPieces * S::kPieceSize);
    ++copied_;
    commit_copies();
  }

  // The next piece, which stays until the next call. All threads of the block call it together.
  __device__ const uint32_t* take() {
    wait_for_copies<kPieces - 2>();
    __syncthreads();
    copy_next();
    return memory_ + taken_++ % kPieces * S::kPieceSize;
  }

 private:
  __device__ void copy(int piece, uint32_t* to) const {
    if (piece < share_pieces_) {
      copy_rows<S::kRows, kPieceWords, S::kThreads>(to, S::kRowStride, keys_ + piece * kPieceWords, row_stride_);
      return;
    }
    const int per_column = share_pieces_ + S::kTokenPieces;
    const int64_t column = int64_t{(piece - share_pieces_) / per_column} * S::kRows;
    const int place = (piece - share_pieces_) % per_column;
    if (place < share_pieces_) {
      copy_rows<S::kRows, kPieceWords, S::kThreads>(to, S::kRowStride,
                                                    states_ + column * row_stride_ + place * kPieceWords, row_stride_);
    } else {
      copy_rows<kPieceWords, S::kRows, S::kThreads>(
          to, S::kValueStride, values_ + (place - share_pieces_) * kPieceWords * value_stride_ + column, value_stride_);
    }
  }

  uint32_t* memory_;
  int64_t row_stride_;
  int64_t value_stride_;
  int share_pieces_;
  int count_;
  int copied_ = 0;
  int taken_ = 0;
  const uint32_t* keys_;
  const uint32_t* states_;
  const uint32_t* values_;
};

// The first of a warp's rows and columns.
__device__ inline int warp_row() {
  return warp_id() / kColumnWarps * kWarpRows;
}
template <class S>
__device__ inline int warp_column() {
  return warp_id() % kColumnWarps * S::kWarpColumns;
}
// The row of a warp's sums [i][..][2·half], and the column of their [..][j][0].
__device__ inline int lane_row(int i, int half) {
  return warp_row() + 16 * i + 8 * half + lane_id() / 4;
}
template <class S>
__device__ inline int lane_column(int j) {
  return warp_column<S>() + 8 * j + lane_id() % 4 * 2;
}

// sums += a · b; float32 words by way of a sum of their own, since the matrix units round sums towards zero.
template <class S, class A, class B>
__device__ __forceinline__ void add_product(const uint32_t* a, const uint32_t* b, int steps, typename S::Sums& sums) {
  if constexpr (S::Words::kBfloat16) {
    multiply<typename S::Words, A, B>(a, b, steps, sums);
  } else {
    typename S::Sums piece = {};
    multiply<typename S::Words, A, B>(a, b, steps, piece);
    XLSTM_UNROLL
    for (int i = 0; i < kRowTiles * S::kColumnTiles * 4; ++i) {
      const int row_tile = i / (S::kColumnTiles * 4);
      sums[row_tile][i / 4 % S::kColumnTiles][i % 4] += piece[row_tile][i / 4 % S::kColumnTiles][i % 4];
    }
  }
}

template <class S>
__device__ void load_tile(const ChunkArgs& args, const Block& block, Memory<S>& memory) {
  using Words = typename S::Words;
  const int64_t stride = args.padded_dk / Words::kValues;
  const uint32_t* queries = args.q_words + block.index * S::kRows * stride + args.first_feature / Words::kValues;
  for (int piece = 0; piece < block.share_pieces; ++piece) {
    copy_rows<S::kRows, kPieceWords, S::kThreads>(memory.queries + piece * kPieceWords, S::kQueryStride,
                                                  queries + piece * kPieceWords, stride);
  }
  const auto thread = static_cast<int>(threadIdx.x);
  const float* normalizer = args.normalizers + block.index * args.padded_dk + args.first_feature;
  for (int i = thread; i < block.share_pieces * kPieceWords * Words::kValues; i += S::kThreads) {
    memory.normalizer[i] = normalizer[i];
  }
  if (thread < S::kRows) {
    const auto array = [&](ChunkArray which) { return token_array<Words>(args, which, block.index)[thread]; };
    memory.decay_high[thread] = array(kChunkDecayHigh);
    memory.decay_low[thread] = array(kChunkDecayLow);
    memory.input[thread] = array(kChunkInput);
    memory.stabiliser[thread] = array(kChunkStabiliser);
    memory.share[thread] = args.cell.scale * array(kChunkShare);
  }
}

// Sums of q·kᵀ become scores, zero for s > t, in `memory`, and sums of a row's scores.
template <class S>
__device__ void store_scores(const ChunkArgs& args, const Block& block, typename S::Sums& sums, Memory<S>& memory) {
  using Words = typename S::Words;
  XLSTM_UNROLL
  for (int row = 0; row < 2 * kRowTiles; ++row) {
    const int t = lane_row(row / 2, row % 2);
    const float high = memory.decay_high[t];
    const float low = memory.decay_low[t];
    const float stabiliser = memory.stabiliser[t];
    float sum = 0;
    XLSTM_UNROLL
    for (int j = 0; j < S::kColumnTiles; ++j) {
      float scores[2];
      XLSTM_UNROLL
      for (int e = 0; e < 2; ++e) {
        const int s = lane_column<S>(j) + e;
        const float decay = (high - memory.decay_high[s]) + (low - memory.decay_low[s]);
        const float gate = expf(fminf(decay + (memory.input[s] - stabiliser), 0));
        const bool seen = s <= t && t < block.tile.tokens;
        scores[e] = seen ? sums[row / 2][j][row % 2 * 2 + e] * (args.cell.scale * gate) : 0;
        sum += scores[e];
      }
      uint32_t* to = memory.scores + t * S::kScoreStride + lane_column<S>(j) / Words::kValues;
      if constexpr (Words::kBfloat16) {
        *to = Words::word(scores[0], scores[1]);
      } else {
        *reinterpret_cast<float2*>(to) = make_float2(scores[0], scores[1]);
      }
    }
    sum += __shfl_xor_sync(kAllLanes, sum, 1);
    sum += __shfl_xor_sync(kAllLanes, sum, 2);
    if (lane_id() % 4 == 0) memory.score_sums[warp_id() % kColumnWarps][t] = sum;
  }
}

// The denominators, by four lanes per row.
template <class S>
__device__ void find_denominators(const ChunkArgs& args, const Block& block, Memory<S>& memory) {
  constexpr int kWarpTokens = kLanes * S::kRows / S::kThreads;
  const bool first_share = args.first_feature == 0;
  const bool last_share = args.first_feature + kChunkFeatures >= args.cell.dk;
  float* dots = token_array<typename S::Words>(args, kChunkDot, block.index);
  for (int row = 0; row < kWarpTokens; row += kLanes / 4) {
    const int t = warp_id() * kWarpTokens + row + lane_id() / 4;
    float dot = 0;
    for (int word = lane_id() % 4; word < block.share_pieces * kPieceWords; word += 4) {
      dot =
          S::Words::dot(memory.queries[t * S::kQueryStride + word], memory.normalizer + word * S::Words::kValues, dot);
    }
    dot += __shfl_xor_sync(kAllLanes, dot, 1);
    dot += __shfl_xor_sync(kAllLanes, dot, 2);
    if (lane_id() % 4 != 0) continue;
    dot = memory.share[t] * dot + (memory.score_sums[0][t] + memory.score_sums[1][t]);
    if (!first_share) dot += dots[t];
    if (!last_share) dots[t] = dot;
    memory.inverse[t] = last_share ? 1 / (fmaxf(fabsf(dot), expf(-memory.stabiliser[t])) + args.cell.eps) : 1;
  }
}

template <class S>
__device__ void write_outputs(const ChunkArgs& args, const Block& block, int first_column, const typename S::Sums& sums,
                              const Memory<S>& memory) {
  const CellTensors& cell = args.cell;
  const bool add = args.first_feature != 0;
  const bool pairs = cell.dv % 2 == 0 && cell.h_stride % 2 == 0 && reinterpret_cast<uintptr_t>(cell.h) % 8 == 0;
  XLSTM_UNROLL
  for (int row = 0; row < 2 * kRowTiles; ++row) {
    const int t = lane_row(row / 2, row % 2);
    if (t >= block.tile.tokens) continue;
    const float inverse = memory.inverse[t];
    float* h =
        cell.h + int64_t{block.tile.first_row + t} * cell.h_stride + int64_t{args.head_begin + block.head} * cell.dv;
    XLSTM_UNROLL
    for (int j = 0; j < S::kColumnTiles; ++j) {
      const int column = first_column + lane_column<S>(j);
      float2 value = make_float2(sums[row / 2][j][row % 2 * 2], sums[row / 2][j][row % 2 * 2 + 1]);
      if (add && column < cell.dv) value.x += h[column];
      if (add && column + 1 < cell.dv) value.y += h[column + 1];
      value = make_float2(inverse * value.x, inverse * value.y);
      if (pairs && column < cell.dv) {
        *reinterpret_cast<float2*>(h + column) = value;
      } else {
        if (column < cell.dv) h[column] = value.x;
        if (column + 1 < cell.dv) h[column + 1] = value.y;
      }
    }
  }
}

// Steps of the piece `piece`, if there are `steps` in all the pieces.
__device__ inline int steps_of(int steps, int piece) {
  return smaller(kPieceSteps, steps - piece * kPieceSteps);
}

template <class S>
__device__ void multiply_scores(const ChunkArgs& args, const Block& block, Pieces<S>& pieces, Memory<S>& memory) {
  // Neither absent tokens nor those behind a warp's last row have a part in it.
  const int tokens = warp_row() < block.tile.tokens ? smaller(block.tile.tokens, warp_row() + kWarpRows) : 0;
  const int token_steps = blocks_of(tokens, kStepWords * S::Words::kValues);
  const int share_steps = tokens == 0 ? 0 : block.share_steps;
  const uint32_t* queries = memory.queries + warp_row() * S::kQueryStride;
  const uint32_t* scores = memory.scores + warp_row() * S::kScoreStride;
  for (int column = 0; column < args.cell.dv; column += S::kRows) {
    const bool inside = column + warp_column<S>() < args.cell.dv;
    typename S::Sums sums = {};
    for (int piece = 0; piece < block.share_pieces; ++piece) {
      const uint32_t* states = pieces.take() + warp_column<S>() * S::kRowStride;
      add_product<S, typename S::Queries, typename S::Rows>(queries + piece * kPieceWords, states,
                                                            inside ? steps_of(share_steps, piece) : 0, sums);
    }
    XLSTM_UNROLL
    for (int row = 0; row < 2 * kRowTiles; ++row) {
      const float share = memory.share[lane_row(row / 2, row % 2)];
      XLSTM_UNROLL
      for (int j = 0; j < S::kColumnTiles; ++j) {
        sums[row / 2][j][row % 2 * 2] *= share;
        sums[row / 2][j][row % 2 * 2 + 1] *= share;
      }
    }
    for (int piece = 0; piece < S::kTokenPieces; ++piece) {
      const uint32_t* values = pieces.take() + warp_column<S>();
      add_product<S, typename S::Scores, typename S::Values>(scores + piece * kPieceWords, values,
                                                             inside ? steps_of(token_steps, piece) : 0, sums);
    }
    write_outputs<S>(args, block, column, sums, memory);
  }
}

// A block per tile and head.
template <class S>
__global__ void __launch_bounds__(S::kThreads, 1) cell_chunk_outputs(ChunkArgs args) {
  XLSTM_DYNAMIC_SHARED(unsigned char, shared);
  Memory<S>& memory = *reinterpret_cast<Memory<S>*>(shared);
  wait_for_previous();
  start_next();
  Block block;
  block.tile = args.tiles[blockIdx.x];
  block.head = static_cast<int>(blockIdx.y);
  block.index = tile_index(args, block.head, static_cast<int>(blockIdx.x));
  const int features = smaller(static_cast<int>(kChunkFeatures), args.cell.dk - args.first_feature);
  block.share_steps = blocks_of(features, kStepWords * S::Words::kValues);
  block.share_pieces = blocks_of(block.share_steps, kPieceSteps);

  load_tile<S>(args, block, memory);  // is waited for together with the first piece
  Pieces<S> pieces(args, block, memory.pieces);
  for (int i = 0; i < kPieces - 1; ++i) pieces.copy_next();
  typename S::Sums sums = {};
  const bool seen = warp_column<S>() < warp_row() + kWarpRows && warp_row() < block.tile.tokens;
  for (int piece = 0; piece < block.share_pieces; ++piece) {
    const uint32_t* keys = pieces.take() + warp_column<S>() * S::kRowStride;
    add_product<S, typename S::Queries, typename S::Rows>(
        memory.queries + warp_row() * S::kQueryStride + piece * kPieceWords, keys,
        seen ? steps_of(block.share_steps, piece) : 0, sums);
  }
  store_scores<S>(args, block, sums, memory);
  __syncthreads();
  find_denominators<S>(args, block, memory);
  multiply_scores<S>(args, block, pieces, memory);
}

constexpr size_t kMostShared = size_t{163} * 1024;  // bytes of a block on Ampere; Hopper has more

template <class Words>
void launch(Queue& queue, const ChunkArgs& args) {
  using S = Shape<Words>;
  static_assert(sizeof(Memory<S>) <= kMostShared);
  const Grid grid{.x = static_cast<unsigned>(args.tile_count),
                  .y = static_cast<unsigned>(args.heads),
                  .threads = S::kThreads,
                  .shared_bytes = sizeof(Memory<S>)};
  run<cell_chunk_outputs<S>>(queue, grid, args);
}

}  // namespace

void chunk_outputs(Queue& queue, const ChunkArgs& args) {
  if (args.bfloat16_products != 0) {
    launch<Bfloat16Words>(queue, args);
  } else {
    launch<Float32Words>(queue, args);
  }
}

}  // namespace xlstm::cuda
