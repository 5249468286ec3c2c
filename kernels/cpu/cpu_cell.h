// The mLSTM cell on the CPU. Results do not depend on the number of threads, nor on how spans and heads are spread.
//
// State is float32 or bfloat16, rounded to nearest even when a call ends; everything is computed in float32. C and n
// must be contiguous in their last dimension. The pool must outlive the kernels; one call at a time per kernel.
#pragma once

#include <cstdint>
#include <memory>

#include "kernels/cell.h"
#include "kernels/tile.h"
#include "xlstm/core/thread_pool.h"

namespace xlstm {

[[nodiscard]] std::unique_ptr<CellKernel> make_cpu_step(const ModelDims& dims, ThreadPool& pool);
[[nodiscard]] std::unique_ptr<CellKernel> make_cpu_sequence(const ModelDims& dims, ThreadPool& pool);
[[nodiscard]] std::unique_ptr<CellKernel> make_cpu_chunkwise(const ModelDims& dims, int64_t chunk_size,
                                                             ThreadPool& pool);

// Tiles of any 1 or more tokens, for schedulers; run() may be called from any thread, and tiles of a head run ahead of
// their state. Tiles of chunk_size tokens give the chunkwise kernel's results bit by bit.
[[nodiscard]] std::unique_ptr<TileKernel> make_cpu_tile_kernel(const ModelDims& dims);

}  // namespace xlstm
