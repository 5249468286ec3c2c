#include "tests/metal_cuda/device_memory.h"

#include <cuda_runtime_api.h>

#include <stdexcept>
#include <string>

namespace xlstm::metal_cuda {
namespace {

void check(cudaError_t result, const char* what) {
  if (result != cudaSuccess) throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(result));
}

}  // namespace

DeviceMemory::~DeviceMemory() {
  for (std::byte* allocation : allocations_) cudaFree(allocation);
}

std::byte* DeviceMemory::mirror(std::byte* begin, size_t bytes, bool writable) {
  if (bytes == 0) return nullptr;
  for (Mirror& m : mirrors_) {
    if (m.host == begin && m.bytes == bytes) {
      m.writable = m.writable || writable;
      return m.device;
    }
    if (m.host < begin + bytes && begin < m.host + m.bytes) {
      throw std::runtime_error("two tensors of a command block share a part of their memory");
    }
  }
  mirrors_.push_back({begin, bytes, copy_of(begin, bytes), writable});
  return mirrors_.back().device;
}

std::byte* DeviceMemory::copy_of(const void* begin, size_t bytes) {
  void* memory = nullptr;
  check(cudaMalloc(&memory, bytes), "cudaMalloc");
  allocations_.push_back(static_cast<std::byte*>(memory));
  check(cudaMemcpy(memory, begin, bytes, cudaMemcpyHostToDevice), "cudaMemcpy to the device");
  return allocations_.back();
}

void DeviceMemory::copy_back() {
  for (const Mirror& m : mirrors_) {
    if (m.writable) check(cudaMemcpy(m.host, m.device, m.bytes, cudaMemcpyDeviceToHost), "cudaMemcpy from the device");
  }
}

}  // namespace xlstm::metal_cuda
