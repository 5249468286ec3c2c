// The operations around the mLSTM cell on an Apple GPU.
//
// Matrices of every format are multiplied as they are stored, widened to float32 in registers; activations are not
// rounded. Results do not depend on the order in which threads run, but a row's last bits may differ between batches of
// different size. Used by one thread, the Gpu's.
#pragma once

#include <memory>

#include "kernels/device_ops.h"
#include "kernels/metal/gpu.h"

namespace xlstm {

[[nodiscard]] std::unique_ptr<DeviceOps> make_metal_ops(const ModelDims& dims, std::shared_ptr<metal::Gpu> gpu);

}  // namespace xlstm
