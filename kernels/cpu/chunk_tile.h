// One tile of the chunkwise-parallel mLSTM: all tokens of a chunk of one head, on the calling thread.
//
// Beck et al., "Tiled Flash Linear Attention: More Efficient Linear RNN and xLSTM Kernels", 2025: within the tile the
// gated attention form, between tiles the recurrent state.
#pragma once

#include "kernels/cpu/head_rows.h"

namespace xlstm::cpu {

struct ChunkTileArgs {
  HeadRows rows;    // 1 or more tokens
  HeadState state;  // updated in place
  HeadDims dims;
};

void run_chunk_tile(const ChunkTileArgs& args);

}  // namespace xlstm::cpu
