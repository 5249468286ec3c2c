// The mLSTM cell on an NVIDIA GPU for many rows of each sequence, on its matrix units (cell_chunk.h). Results do not
// depend on how spans are batched, nor on chunk_size, heads_per_band or streams.
//
// State is float32 or bfloat16, rounded to nearest even when a call ends. C, n and m must be contiguous. A call only
// appends commands. Objects belong to the Gpu's thread; one call at a time per kernel.
#pragma once

#include <cstdint>
#include <memory>

#include "kernels/cell.h"
#include "kernels/cuda/gpu.h"

namespace xlstm {

struct CudaChunkwiseOptions {
  int64_t chunk_size = 64;         // rows of spans are multiples of it; the kernels' own tiles have 64 or 128 tokens
  int64_t heads_per_band = 0;      // heads that go through all kernels together, which takes memory; 0: all
  int64_t streams = 0;             // on which bands run beside each other, each with its memory; up to 1: one
  bool bfloat16_products = false;  // operands of products rounded to bfloat16; else results of float32
};
[[nodiscard]] std::unique_ptr<CellKernel> make_cuda_chunkwise(const ModelDims& dims,
                                                              const CudaChunkwiseOptions& options,
                                                              std::shared_ptr<cuda::Gpu> gpu);

}  // namespace xlstm
