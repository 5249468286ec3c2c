#include "src/registry/device_backend.h"

#include <ATen/Context.h>

#include <algorithm>
#include <utility>

#include "xlstm/core/errors.h"

#if defined(__APPLE__)
#include "src/registry/metal_backend.h"
#endif
#if defined(XLSTM_HAS_CUDA)
#include "kernels/cuda/runtime.h"
#include "src/registry/cuda_backend.h"
#endif

namespace xlstm {
namespace {

DeviceBackend mps_devices() {
  const bool available = at::hasMPS();
  DeviceInfo info{"mps", "mps", available,
                  available ? "Apple GPU" : "no MPS in this build of libtorch or on this machine"};
#if defined(__APPLE__)
  return metal_backend(std::move(info), at::kMPS);
#else
  return {{{std::move(info), at::kMPS}}};
#endif
}

DeviceBackend cuda_devices() {
#if defined(XLSTM_HAS_CUDA)
  return cuda_backend(find_nvidia_gpus(cuda::device_count));
#else
  const bool available = at::hasCUDA();
  return {{{{"cuda:0", "cuda", available,
             available ? "NVIDIA GPU" : "this build has no CUDA, or the machine has no NVIDIA GPU"},
            at::Device(at::kCUDA, 0)}}};
#endif
}

std::vector<DeviceBackend>& backends() {
  static std::vector<DeviceBackend> list = {mps_devices(), cuda_devices()};
  return list;
}

}  // namespace

const std::vector<DeviceBackend>& device_backends() {
  return backends();
}

void replace_device_backend(DeviceBackend backend) {
  const auto known = std::find_if(backends().begin(), backends().end(),
                                  [&](const DeviceBackend& other) { return other.kind() == backend.kind(); });
  XLSTM_ASSERT(known != backends().end());
  *known = std::move(backend);
}

}  // namespace xlstm
