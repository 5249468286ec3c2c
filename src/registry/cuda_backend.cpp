#include "src/registry/cuda_backend.h"

#include <ATen/Context.h>

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "kernels/cuda/cuda_chunkwise.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/cuda_recurrent.h"
#include "kernels/cuda/gpu.h"
#include "kernels/cuda/runtime.h"
#include "xlstm/core/errors.h"
#include "xlstm/core/str.h"

namespace xlstm {
namespace {

constexpr const char* kKind = "cuda";
constexpr int kLeastMajor = 9;  // of the compute capability; code is made for this one and later ones

// The kernels of a GPU share one, so that they run in the order of the calls.
class LazyGpus {
 public:
  [[nodiscard]] std::shared_ptr<cuda::Gpu> get(const at::Device& device) {
    const auto known = std::find_if(gpus_.begin(), gpus_.end(),
                                    [&](const std::shared_ptr<cuda::Gpu>& gpu) { return gpu->tensors == device; });
    return known != gpus_.end() ? *known : gpus_.emplace_back(std::make_shared<cuda::Gpu>(device));
  }
  void flush() const {
    for (const std::shared_ptr<cuda::Gpu>& gpu : gpus_) gpu->queue.flush();
  }

 private:
  std::vector<std::shared_ptr<cuda::Gpu>> gpus_;
};

DeviceInfo describe(int index) {
  const cuda::DeviceProperties gpu = cuda::device_properties(index);
  DeviceInfo info{
      cat(kKind, ':', index), kKind, true,
      cat(gpu.name, ", ", bytes_text(gpu.memory_bytes), ", compute capability ", gpu.major, '.', gpu.minor)};
  if (gpu.major < kLeastMajor) {
    info.available = false;
    info.details += cat(", and the kernels need ", kLeastMajor, ".0");
  } else if (gpu.shared_bytes < cuda::kPlannedSharedBytes) {
    info.available = false;
    info.details += cat(", and the kernels need ", cuda::kPlannedSharedBytes / 1024,
                        " KB of shared memory for a block, not ", gpu.shared_bytes / 1024);
  }
  return info;
}

std::function<std::unique_ptr<CellKernel>(const KernelRequest&)> chunkwise(const std::shared_ptr<LazyGpus>& gpus,
                                                                           bool banded) {
  return [gpus, banded](const KernelRequest& r) {
    return make_cuda_chunkwise(r.dims,
                               {.chunk_size = r.settings.chunk_size,
                                .heads_per_band = banded ? r.settings.heads_per_band : 0,
                                .streams = banded ? r.settings.streams : 0,
                                .bfloat16_products = r.settings.weight_dtype != "float32"},
                               gpus->get(r.device));
  };
}

}  // namespace

std::vector<BackendDevice> find_nvidia_gpus(const std::function<int()>& device_count) {
  std::vector<BackendDevice> found;
  int count = 0;
  std::string why = "no NVIDIA GPU, or no driver for it";
  try {
    count = device_count();
  } catch (const Error& error) {
    why = error.what();
  }
  for (int index = 0; index < count; ++index) {
    found.push_back({describe(index), at::Device(at::kCUDA, static_cast<c10::DeviceIndex>(index))});
    if (!at::hasCUDA()) {  // asked only with a driver: without one libtorch prints a warning
      found.back().info.available = false;
      found.back().info.details += ", which libtorch cannot use";
    }
  }
  if (found.empty()) {
    found.push_back({{"cuda:0", kKind, false, why}, at::Device(at::kCUDA, 0)});
  }
  return found;
}

DeviceBackend cuda_backend(std::vector<BackendDevice> devices) {
  using enum KernelFamily;
  const auto gpus = std::make_shared<LazyGpus>();
  const auto cell = [](KernelFamily family, const char* key, const char* description,
                       std::function<std::unique_ptr<CellKernel>(const KernelRequest&)> make) {
    return RegistryEntry{{family, key, kKind, description}, std::move(make), {}};
  };
  const auto fused = chunkwise(gpus, false);
  const auto banded = chunkwise(gpus, true);
  DeviceBackend backend{std::move(devices)};
  backend.flush = [gpus] { gpus->flush(); };
  backend.entries = {
      {{kOps, "cuda", kKind, "CUDA kernels, fused; each token's as graphs"},
       {},
       [gpus](const KernelRequest& r) { return make_cuda_ops(r.dims, gpus->get(r.device)); }},
      cell(kChunkwise, "chunkwise--ray_compiled_steps", "launches for each band of heads, bands on streams", banded),
      cell(kChunkwise, "chunkwise--queued_compiled_steps", "launches for each band of heads, bands on streams", banded),
      cell(kChunkwise, "chunkwise--native_compiled", "the device's fused kernel: chunkwise--cuda", fused),
      cell(kChunkwise, "chunkwise--cuda", "matrix units, all heads at once", fused),
      cell(kSequence, "native_sequence__cuda", "state kept on the chip, token by token",
           [gpus](const KernelRequest& r) { return make_cuda_sequence(r.dims, gpus->get(r.device)); }),
      cell(kStep, "cuda", "state read and written once",
           [gpus](const KernelRequest& r) { return make_cuda_step(r.dims, gpus->get(r.device)); }),
  };
  return backend;
}

}  // namespace xlstm
