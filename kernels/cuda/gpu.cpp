#include "kernels/cuda/gpu.h"

#include <ATen/ATen.h>

namespace xlstm::cuda {

void Gpu::grow(at::Tensor& scratch, int64_t elements, at::ScalarType type) {
  if (scratch.defined()) {
    if (scratch.numel() >= elements) return;
    queue.flush();
    scratch = at::Tensor();  // libtorch hands memory on in the order of the default stream, which the queue keeps to
  }
  scratch = at::empty({elements}, at::TensorOptions().device(tensors).dtype(type));
}

}  // namespace xlstm::cuda
