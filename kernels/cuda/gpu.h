// An NVIDIA GPU: where its tensors live, and the queue of its kernels. Belongs to one thread.
#pragma once

#include <ATen/core/Tensor.h>

#include "kernels/cuda/queue.h"

namespace xlstm::cuda {

struct Gpu {
  // `tensors`: a CUDA device with its index; in tests the CPU, with an emulator behind the queue.
  explicit Gpu(at::Device device) : tensors(device), queue(device.has_index() ? device.index() : 0) {}

  // Makes sure that `scratch` has so many elements; contents are lost when it grows. Whoever used it before has its
  // commands launched first, so that a pass in which it grows is not repeatable.
  void grow(at::Tensor& scratch, int64_t elements, at::ScalarType type);

  at::Device tensors;
  Queue queue;
};

}  // namespace xlstm::cuda
