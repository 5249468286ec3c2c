// The mLSTM cell on CUDA, token by token. Results do not depend on how spans are batched.
//
// State is float32 or bfloat16, rounded to nearest even when a call ends; everything is computed in float32. C, n and m
// must be contiguous. A call only appends commands. Objects belong to the Gpu's thread; one call at a time per kernel.
#pragma once

#include <memory>

#include "kernels/cell.h"
#include "kernels/cuda/gpu.h"
#include "kernels/model_dims.h"

namespace xlstm {

// At most one call per layer and pass, before those of the other kernels (run_step() in cell_recurrent.h).
[[nodiscard]] std::unique_ptr<CellKernel> make_cuda_step(const ModelDims& dims, std::shared_ptr<cuda::Gpu> gpu);
[[nodiscard]] std::unique_ptr<CellKernel> make_cuda_sequence(const ModelDims& dims, std::shared_ptr<cuda::Gpu> gpu);

}  // namespace xlstm
