// An NVIDIA GPU: where its tensors live, and the queue of its kernels. Belongs to one thread.
#pragma once

#include <ATen/core/Tensor.h>

#include "kernels/cuda/queue.h"

namespace xlstm::cuda {

struct Gpu {
  // `tensors`: a CUDA device with its index; in tests the CPU, with an emulator behind the queue.
  explicit Gpu(at::Device device) : tensors(device), queue(device.has_index() ? device.index() : 0) {}

  at::Device tensors;
  Queue queue;
};

}  // namespace xlstm::cuda
