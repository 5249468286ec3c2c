// A device beside the CPU: what it is, where its tensors live, and its kernels.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <vector>

#include "src/registry/entries.h"
#include "xlstm/registry/registry.h"

namespace xlstm {

struct DeviceBackend {
  DeviceInfo info;
  at::Device tensors = at::kCPU;
  std::vector<RegistryEntry> entries = {};
  // Lets the device begin what its kernels have collected in a pass, so that libtorch's own calls come after it; empty
  // if kernels hand over their work at once.
  std::function<void()> flush = {};
};

// Those that this executable knows, best first. Not thread-safe before the first use of the registry.
[[nodiscard]] const std::vector<DeviceBackend>& device_backends();

// For tests: puts something that acts like a device in its place. Before the first use of the registry.
void replace_device_backend(DeviceBackend backend);

}  // namespace xlstm
