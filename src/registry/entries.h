// The table behind the registry: every kernel of this executable with the function that makes it.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "xlstm/registry/make_kernels.h"

namespace xlstm {

struct KernelRequest {
  const ModelDims& dims;
  const KernelSettings& settings;
  ThreadPool& pool;
  at::Device device;  // where tensors live
};

struct RegistryEntry {
  KernelInfo info;
  // One of the two is set for kernels that take part in the forward pass; neither for analysis functions.
  std::function<std::unique_ptr<CellKernel>(const KernelRequest&)> make_cell;
  std::function<std::unique_ptr<DeviceOps>(const KernelRequest&)> make_ops;
};

[[nodiscard]] const std::vector<RegistryEntry>& registry_entries();

}  // namespace xlstm
