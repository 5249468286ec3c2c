// The mLSTM cell on Metal. Results do not depend on the order in which a GPU runs threadgroups, on how spans are
// batched, nor on heads_per_band.
//
// State is float32 or bfloat16, rounded to nearest even when a call ends; everything is computed in float32. C, n and m
// must be contiguous. A call only appends commands. Objects belong to the Gpu's thread; one call at a time per kernel.
#pragma once

#include <cstdint>
#include <memory>

#include "kernels/cell.h"
#include "kernels/metal/gpu.h"

namespace xlstm {

[[nodiscard]] std::unique_ptr<CellKernel> make_metal_step(const ModelDims& dims, std::shared_ptr<metal::Gpu> gpu);
[[nodiscard]] std::unique_ptr<CellKernel> make_metal_sequence(const ModelDims& dims, std::shared_ptr<metal::Gpu> gpu);

struct MetalChunkwiseOptions {
  int64_t chunk_size = 64;     // above 64 chunks are cut: larger tiles would not fit into threadgroup memory
  int64_t heads_per_band = 0;  // heads that go through all commands together; 0: all
};
[[nodiscard]] std::unique_ptr<CellKernel> make_metal_chunkwise(const ModelDims& dims,
                                                               const MetalChunkwiseOptions& options,
                                                               std::shared_ptr<metal::Gpu> gpu);

}  // namespace xlstm
