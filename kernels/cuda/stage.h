// Values of the host, read by the device when a command of a pass runs.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/queue.h"

namespace xlstm::cuda {

// device[i] = host[i], i < count; `host` is pinned memory.
void copy_staged(Queue& queue, const int32_t* host, int32_t* device, size_t count);

}  // namespace xlstm::cuda
