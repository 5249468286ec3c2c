// DeviceOps in plain libtorch, on any device: the readable reference.
#pragma once

#include <memory>

#include "kernels/device_ops.h"

namespace xlstm {

// Weights are moved to `device` as they are and made float32 at every use (dequantize.h). Allocates temporaries.
[[nodiscard]] std::unique_ptr<DeviceOps> make_native_ops(const ModelDims& dims, const at::Device& device);

}  // namespace xlstm
