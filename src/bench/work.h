// How much work a measurement stands for, by the model's sizes.
#pragma once

#include <cstdint>

#include "kernels/model_dims.h"

namespace xlstm {

// Floating-point operations, a multiply-add counted as two, of the products that cannot be left out; norms, gates and
// element-wise functions are not counted.
//
// The chunkwise cell of one block over `tokens` tokens of one sequence, in chunks of `chunk_size`. Per head and token
// of a chunk of L: readout qᵀC and update k⊗v 4·Dk·Dv, scores and S·V of the lower triangle (L + 1)·(Dk + Dv). The
// tokens after the last whole chunk: 4·Dk·Dv.
[[nodiscard]] double cell_flop(const ModelDims& dims, int64_t tokens, int64_t chunk_size);

// A prefill of one sequence: every matrix of every block for every token, the cell, and the head for the last token.
[[nodiscard]] double prefill_flop(const ModelDims& dims, int64_t num_blocks, int64_t tokens, int64_t chunk_size);

}  // namespace xlstm
