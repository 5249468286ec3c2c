// The CUDA kernels as devices of the registry.
#pragma once

#include <functional>
#include <vector>

#include "src/registry/device_backend.h"

namespace xlstm {

// The GPUs that the driver shows, as "cuda:0", "cuda:1", …, those that the kernels cannot run on marked so; one that
// cannot be used and says why where there are none. `device_count`: cuda::device_count, or in tests what stands for it.
[[nodiscard]] std::vector<BackendDevice> find_nvidia_gpus(const std::function<int()>& device_count);

// `devices`: at least one; their tensors live on GPUs or in tests, with an emulator behind the kernels, on the CPU.
// A GPU is touched when the first kernel for it is made.
[[nodiscard]] DeviceBackend cuda_backend(std::vector<BackendDevice> devices);

}  // namespace xlstm
