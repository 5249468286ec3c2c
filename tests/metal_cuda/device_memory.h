// The tensors of a command block in an NVIDIA GPU's memory.
//
// Tensors live on the CPU; what a block's kernels are given is copied to the device in allocations of exactly its size,
// so that compute-sanitizer knows where each ends, and copied back at the block's end if a kernel could write to it. In
// between, what the host reads is out of date, as it can be with a real GPU.
#pragma once

#include <cstddef>
#include <vector>

namespace xlstm::metal_cuda {

class DeviceMemory {
 public:
  DeviceMemory() = default;
  ~DeviceMemory();
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;

  // Where the host's bytes [begin, begin + bytes) are on the device; the same place each time. nullptr for no bytes.
  // Throws std::runtime_error if they overlap others in part.
  [[nodiscard]] std::byte* mirror(std::byte* begin, size_t bytes, bool writable);
  // A copy that lives as long as this.
  [[nodiscard]] std::byte* copy_of(const void* begin, size_t bytes);
  void copy_back();

 private:
  struct Mirror {
    std::byte* host = nullptr;
    size_t bytes = 0;
    std::byte* device = nullptr;
    bool writable = false;
  };

  std::vector<Mirror> mirrors_;
  std::vector<std::byte*> allocations_;
};

}  // namespace xlstm::metal_cuda
