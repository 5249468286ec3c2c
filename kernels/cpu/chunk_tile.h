// The chunkwise-parallel mLSTM: the tokens of one head in chunks, a tile each, on the calling thread.
//
// Beck et al., "Tiled Flash Linear Attention: More Efficient Linear RNN and xLSTM Kernels", 2025: within the tile the
// gated attention form, between tiles the recurrent state. The state is carried from tile to tile in float32 and in an
// order of its own.
#pragma once

#include "kernels/cpu/head_chain.h"
#include "kernels/cpu/head_rows.h"

namespace xlstm::cpu {

struct ChunkArgs {
  HeadRows rows;
  HeadState state;  // updated in place
  HeadDims dims;
};

// All tiles in order; the last is of the tokens left over.
void run_chunks(const ChunkArgs& args, int64_t chunk_size);

// The most columns of a panel of C, whatever the instruction set.
constexpr int64_t kWidestPanel = 32;

// Floats of a head's carried state.
[[nodiscard]] constexpr int64_t carried_state_floats(const HeadDims& dims) {
  return dims.dk * ((dims.dv + kWidestPanel - 1) / kWidestPanel * kWidestPanel) + (dims.dk + 15) / 16 * 16;
}

// One tile of a head whose tiles may run beside each other: each takes m, then C and n, from the chain when it needs
// them. Until C is there, a tile forms its own share of h and of the next C apart from it.
struct ChunkTileArgs {
  HeadRows rows;    // 1 or more tokens
  HeadState state;  // read by the tile at token 0, written by the last
  HeadDims dims;
  HeadChain* chain = nullptr;
  float* carried = nullptr;  // carried_state_floats(dims) floats on a cache line boundary, the same for all tiles
  int64_t token = 0;         // the tile's first
  int64_t following = 0;     // tokens of the head behind the tile; 0: it is the last
};

// The result has the same bits whether the tile waited for its state or not, and those of run_chunks(). Error
// EarlierTileFailed.
void run_chunk_tile(const ChunkTileArgs& args);

}  // namespace xlstm::cpu
