#include "xlstm/registry/make_kernels.h"

#include <utility>

#include "src/registry/device_backend.h"
#include "src/registry/entries.h"
#include "xlstm/core/errors.h"
#include "xlstm/core/str.h"

namespace xlstm {
namespace {

// The same key may stand for a kernel per device.
const RegistryEntry& find_entry(const std::string& key, const std::string& device, bool ops) {
  for (const RegistryEntry& entry : registry_entries()) {
    const bool right_kind = ops ? static_cast<bool>(entry.make_ops) : static_cast<bool>(entry.make_cell);
    if (entry.info.key == key && right_kind && why_not(entry.info, device_kind(device)).empty()) return entry;
  }
  fail(ExitCode::kInternal, "kernel", cat("registry, device ", device), "a registered key", key);
}

const DeviceBackend* find_backend(const std::string& device) {
  for (const DeviceBackend& backend : device_backends()) {
    if (backend.kind() == device_kind(device)) return &backend;
  }
  return nullptr;
}

// A cell of plain libtorch calls among operations that collect commands.
class AfterFlush : public CellKernel {
 public:
  AfterFlush(std::unique_ptr<CellKernel> cell, std::function<void()> flush)
      : cell_(std::move(cell)), flush_(std::move(flush)) {}
  void run(const CellArgs& args) override {
    flush_();
    cell_->run(args);
  }

 private:
  std::unique_ptr<CellKernel> cell_;
  std::function<void()> flush_;
};

}  // namespace

std::unique_ptr<CellKernel> make_cell_kernel(const std::string& key, const std::string& device, const ModelDims& dims,
                                             const KernelSettings& settings, ThreadPool& pool) {
  const RegistryEntry& entry = find_entry(key, device, false);
  std::unique_ptr<CellKernel> cell = entry.make_cell({dims, settings, pool, torch_device(device)});
  const DeviceBackend* const backend = find_backend(device);
  if (entry.info.device != "any" || backend == nullptr || !backend->flush) return cell;
  return std::make_unique<AfterFlush>(std::move(cell), backend->flush);
}

std::unique_ptr<DeviceOps> make_ops(const std::string& key, const std::string& device, const ModelDims& dims,
                                    ThreadPool& pool) {
  const KernelSettings unused;
  return find_entry(key, device, true).make_ops({dims, unused, pool, torch_device(device)});
}

CellKernels make_cell_kernels(const Resolution& resolution, const ModelDims& dims, const KernelSettings& settings,
                              ThreadPool& pool) {
  CellKernels kernels;
  kernels.step = make_cell_kernel(resolution.step, resolution.device, dims, settings, pool);
  kernels.sequence = make_cell_kernel(resolution.sequence, resolution.device, dims, settings, pool);
  kernels.chunkwise = make_cell_kernel(resolution.chunkwise, resolution.device, dims, settings, pool);
  kernels.chunk_size = settings.chunk_size;
  return kernels;
}

ModelKernels make_kernels(const Resolution& resolution, const ModelDims& dims, const KernelSettings& settings,
                          ThreadPool& pool) {
  return {make_ops(resolution.ops, resolution.device, dims, pool), make_cell_kernels(resolution, dims, settings, pool)};
}

at::Device torch_device(const std::string& device) {
  if (const DeviceBackend* const backend = find_backend(device)) {
    for (const BackendDevice& one : backend->devices) {
      if (one.info.name == device) return one.tensors;
    }
  }
  return at::Device(device);
}

at::ScalarType torch_dtype(const std::string& dtype) {
  if (dtype == "float32") return at::kFloat;
  if (dtype == "bfloat16") return at::kBFloat16;
  if (dtype == "float16") return at::kHalf;
  fail(ExitCode::kInternal, "dtype", "registry", "float32, bfloat16 or float16", dtype);
}

}  // namespace xlstm
