#include "tests/registry/failing_allocation.h"

#include <algorithm>
#include <cstdlib>
#include <new>

namespace {
thread_local bool fails = false;
}

// In a file of its own: inlined into callers, the compiler would take malloc and operator delete for a mismatch.
void* operator new(size_t size, std::align_val_t alignment) {
  void* memory = nullptr;
  const size_t boundary = std::max(static_cast<size_t>(alignment), sizeof(void*));
  if (!fails && ::posix_memalign(&memory, boundary, std::max<size_t>(size, 1)) == 0) return memory;
  throw std::bad_alloc();
}
void* operator new(size_t size, std::align_val_t alignment, const std::nothrow_t&) noexcept {
  try {
    return ::operator new(size, alignment);
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}
void operator delete(void* memory, std::align_val_t) noexcept {
  std::free(memory);
}
void operator delete(void* memory, size_t, std::align_val_t) noexcept {
  std::free(memory);
}

namespace xlstm::test {

AlignedAllocationsFail::AlignedAllocationsFail() {
  fails = true;
}
AlignedAllocationsFail::~AlignedAllocationsFail() {
  fails = false;
}

}  // namespace xlstm::test
