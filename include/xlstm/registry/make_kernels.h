// Makes the kernels that a Resolution names.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>

#include "kernels/model_dims.h"
#include "kernels/model_kernels.h"
#include "xlstm/core/thread_pool.h"
#include "xlstm/registry/registry.h"

namespace xlstm {

struct KernelSettings {
  int64_t chunk_size = 64;
  int64_t heads_per_band = 4;
  int64_t workers = 1;  // threads of the scheduled chunkwise backends, the caller's included
  int64_t streams = 0;  // of a device, for bands beside each other; 0: its one stream
  // As in Resolution. A cell has no weights, but a device may multiply in the precision that they have.
  std::string weight_dtype = "float32";
};

// The cell kernels alone, to change the scheduling of a loaded model.
[[nodiscard]] CellKernels make_cell_kernels(const Resolution& resolution, const ModelDims& dims,
                                            const KernelSettings& settings, ThreadPool& pool);

// `pool` must outlive the kernels; its size is resolution.threads.
[[nodiscard]] ModelKernels make_kernels(const Resolution& resolution, const ModelDims& dims,
                                        const KernelSettings& settings, ThreadPool& pool);

// One cell kernel by its registry key (chunkwise, sequence or step family).
[[nodiscard]] std::unique_ptr<CellKernel> make_cell_kernel(const std::string& key, const std::string& device,
                                                           const ModelDims& dims, const KernelSettings& settings,
                                                           ThreadPool& pool);
[[nodiscard]] std::unique_ptr<DeviceOps> make_ops(const std::string& key, const std::string& device,
                                                  const ModelDims& dims, ThreadPool& pool);

[[nodiscard]] at::Device torch_device(const std::string& device);
[[nodiscard]] at::ScalarType torch_dtype(const std::string& dtype);

}  // namespace xlstm
