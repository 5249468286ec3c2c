// One tile of the chunkwise-parallel mLSTM: all tokens of a chunk of one head, on the calling thread.
//
// Beck et al., "Tiled Flash Linear Attention: More Efficient Linear RNN and xLSTM Kernels", 2025: within the tile the
// gated attention form, between tiles the recurrent state.
#pragma once

#include "kernels/cpu/head_chain.h"
#include "kernels/cpu/head_rows.h"

namespace xlstm::cpu {

struct ChunkTileArgs {
  HeadRows rows;    // 1 or more tokens
  HeadState state;  // updated in place
  HeadDims dims;
  // Tiles of a head beside each other: each begins at `token` and takes m, then C and n, from the chain when it needs
  // them. Until C is there, a tile forms its own share of h and of the next C apart from it. Null: the state is there.
  HeadChain* chain = nullptr;
  int64_t token = 0;
};

// The result has the same bits whether the tile waited for its state or not. With a chain, error EarlierTileFailed.
void run_chunk_tile(const ChunkTileArgs& args);

}  // namespace xlstm::cpu
