// A kind of device beside the CPU: which ones there are, where their tensors live, and their kernels.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <string>
#include <vector>

#include "src/registry/entries.h"
#include "xlstm/registry/registry.h"

namespace xlstm {

struct BackendDevice {
  DeviceInfo info;
  at::Device tensors = at::kCPU;
};

struct DeviceBackend {
  // All of one kind, at least one: where there is none that can be used, the first says why.
  std::vector<BackendDevice> devices;
  std::vector<RegistryEntry> entries = {};
  // Lets the devices begin what their kernels have collected in a pass, so that libtorch's own calls come after it;
  // empty if kernels hand over their work at once.
  std::function<void()> flush = {};

  [[nodiscard]] const std::string& kind() const { return devices.front().info.kind; }
};

// Those that this executable knows, best first. Not thread-safe before the first use of the registry.
[[nodiscard]] const std::vector<DeviceBackend>& device_backends();

// For tests: puts something that acts like devices of a kind in their place. Before the first use of the registry.
void replace_device_backend(DeviceBackend backend);

}  // namespace xlstm
