// The mLSTM cell in plain libtorch, float32, on any device: the readable reference that compiled kernels are judged by.
// Allocates temporaries on every call.
#pragma once

#include <memory>

#include "kernels/cell.h"

namespace xlstm {

// One token per span, the recurrence as written in kernels/cell.h.
[[nodiscard]] std::unique_ptr<CellKernel> make_native_step(const ModelDims& dims);

// A loop of steps over the tokens of each span.
[[nodiscard]] std::unique_ptr<CellKernel> make_native_sequence(const ModelDims& dims);

// Serial chunkwise-parallel form: per chunk two passes of matrix products, state carried between chunks.
[[nodiscard]] std::unique_ptr<CellKernel> make_native_chunkwise(const ModelDims& dims, int64_t chunk_size);

}  // namespace xlstm
