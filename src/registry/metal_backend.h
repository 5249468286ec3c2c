// The Metal kernels as a device of the registry.
#pragma once

#include "src/registry/device_backend.h"

namespace xlstm {

// `tensors`: the device whose tensors the kernels work on, an Apple GPU's or in tests the emulator's. Shaders are
// compiled when the first kernel is made.
[[nodiscard]] DeviceBackend metal_backend(DeviceInfo info, at::Device tensors);

}  // namespace xlstm
