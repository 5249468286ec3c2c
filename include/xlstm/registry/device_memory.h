// Memory of the device that tensors live on, as libtorch's allocator reports it.
#pragma once

#include <string>

#include "xlstm/memory/memory_reader.h"

namespace xlstm {

// All 0 for "cpu", whose memory is the process's. An NVIDIA GPU recommends what other processes leave. Thread-safe.
[[nodiscard]] DeviceSample read_device_memory(const std::string& device);

// Gives memory that the allocator holds but no tensor uses back to the driver or, on a CPU, to the system. Only on the
// thread that runs the device, between passes.
void empty_device_cache(const std::string& device);

}  // namespace xlstm
