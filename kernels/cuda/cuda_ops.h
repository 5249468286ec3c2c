// The operations around the mLSTM cell on an NVIDIA GPU.
#pragma once

#include <memory>

#include "kernels/cuda/gpu.h"
#include "kernels/device_ops.h"

namespace xlstm {

// Passes of steps alone (a token of each of several sequences) are repeated as CUDA graphs.
[[nodiscard]] std::unique_ptr<DeviceOps> make_cuda_ops(const ModelDims& dims, std::shared_ptr<cuda::Gpu> gpu);

}  // namespace xlstm
