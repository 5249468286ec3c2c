#include "xlstm/registry/device_memory.h"

#include <ATen/Context.h>
#include <c10/core/CachingDeviceAllocator.h>

#include <algorithm>

#if defined(__GLIBC__)
#include <malloc.h>
#endif

#include "xlstm/registry/make_kernels.h"

namespace xlstm {
namespace {

constexpr auto kAll = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);

}  // namespace

DeviceSample read_device_memory(const std::string& device) {
  DeviceSample memory;
  const at::Device place = torch_device(device);
  if (place.is_mps()) {
    const at::MPSHooksInterface& hooks = at::detail::getMPSHooks();
    memory = {hooks.getCurrentAllocatedMemory(), hooks.getDriverAllocatedMemory(), hooks.getRecommendedMaxMemory()};
  } else if (place.is_cuda()) {
    at::globalContext().lazyInitDevice(at::kCUDA);  // before the first tensor there is no allocator
    c10::DeviceAllocator* allocator = c10::getDeviceAllocator(at::kCUDA);
    const c10::DeviceIndex index = place.has_index() ? place.index() : c10::DeviceIndex{0};
    const auto stats = allocator->getDeviceStats(index);
    memory.allocated = static_cast<uint64_t>(stats.allocated_bytes[kAll].current);
    memory.driver = static_cast<uint64_t>(stats.reserved_bytes[kAll].current);
    // What other processes hold is not to be had.
    const auto [free, total] = allocator->getMemoryInfo(index);
    memory.recommended = std::min<uint64_t>(total, free + memory.driver);
  }
  return memory;
}

void empty_device_cache(const std::string& device) {
  const at::Device place = torch_device(device);
  if (place.is_mps()) {
    at::detail::getMPSHooks().emptyCache();
  } else if (place.is_cuda()) {
    c10::getDeviceAllocator(at::kCUDA)->emptyCache();
  } else {
#if defined(__GLIBC__)
    ::malloc_trim(0);
#endif
  }
}

}  // namespace xlstm
