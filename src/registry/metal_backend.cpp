#include "src/registry/metal_backend.h"

#include <memory>
#include <utility>

#include "kernels/metal/gpu.h"
#include "kernels/metal/metal_cell.h"
#include "kernels/metal/metal_ops.h"

namespace xlstm {
namespace {

constexpr const char* kDevice = "mps";

// All kernels share one, so that their commands run in the order of the calls.
class LazyGpu {
 public:
  explicit LazyGpu(at::Device tensors) : tensors_(tensors) {}
  [[nodiscard]] const std::shared_ptr<metal::Gpu>& get() {
    if (!gpu_) gpu_ = std::make_shared<metal::Gpu>(tensors_);
    return gpu_;
  }
  void flush() const {
    if (gpu_) gpu_->flush();
  }

 private:
  at::Device tensors_;
  std::shared_ptr<metal::Gpu> gpu_;
};

}  // namespace

DeviceBackend metal_backend(DeviceInfo info, at::Device tensors) {
  using enum KernelFamily;
  const auto gpu = std::make_shared<LazyGpu>(tensors);
  const auto cell = [](KernelFamily family, const char* key, const char* description,
                       std::function<std::unique_ptr<CellKernel>(const KernelRequest&)> make) {
    return RegistryEntry{{family, key, kDevice, description}, std::move(make), {}};
  };
  const auto fused = [gpu](const KernelRequest& r) {
    return make_metal_chunkwise(r.dims, {r.settings.chunk_size, /*heads_per_band=*/0}, gpu->get());
  };
  const auto banded = [gpu](const KernelRequest& r) {
    return make_metal_chunkwise(r.dims, {r.settings.chunk_size, r.settings.heads_per_band}, gpu->get());
  };
  DeviceBackend backend{{{std::move(info), tensors}}};
  backend.flush = [gpu] { gpu->flush(); };
  backend.entries = {
      {{kOps, "metal", kDevice, "Metal kernels, fused"},
       {},
       [gpu](const KernelRequest& r) { return make_metal_ops(r.dims, gpu->get()); }},
      cell(kChunkwise, "chunkwise--ray_compiled_steps", "a command for each band of heads, by one thread", banded),
      cell(kChunkwise, "chunkwise--queued_compiled_steps", "a command for each band of heads, by one thread", banded),
      cell(kChunkwise, "chunkwise--native_compiled", "the device's fused kernel: chunkwise--metal", fused),
      cell(kChunkwise, "chunkwise--metal", "simdgroup matrices, all heads at once", fused),
      cell(kSequence, "native_sequence__metal", "state in registers, token by token",
           [gpu](const KernelRequest& r) { return make_metal_sequence(r.dims, gpu->get()); }),
      cell(kStep, "metal", "state read and written once",
           [gpu](const KernelRequest& r) { return make_metal_step(r.dims, gpu->get()); }),
  };
  return backend;
}

}  // namespace xlstm
