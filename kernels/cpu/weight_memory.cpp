#include "kernels/cpu/weight_memory.h"

#include <ATen/ATen.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "xlstm/core/errors.h"
#include "xlstm/core/str.h"

namespace xlstm::cpu {
namespace {

constexpr int64_t kHugePage = int64_t{2} << 20;
constexpr int64_t kLine = 64;

// Address space of a chunk; pages that are never written take no memory.
constexpr int64_t kChunkBytes = int64_t{64} << 20;

int64_t round_up(int64_t value, int64_t unit) {
  return (value + unit - 1) / unit * unit;
}

}  // namespace

struct WeightMemory::Chunk {
  explicit Chunk(int64_t bytes) : size(round_up(bytes, kHugePage)), mapped(size + kHugePage) {
    void* const memory =
        ::mmap(nullptr, static_cast<size_t>(mapped), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON, -1, 0);
    if (memory == MAP_FAILED) {
      fail(ExitCode::kMemory, "memory", "packed weights", cat(mapped, " bytes"), std::strerror(errno));
    }
    base = memory;
    const auto address = reinterpret_cast<uintptr_t>(memory);
    const auto offset = static_cast<uintptr_t>(kHugePage) - address % static_cast<uintptr_t>(kHugePage);
    data = static_cast<std::byte*>(memory) + offset % static_cast<uintptr_t>(kHugePage);
#if defined(MADV_HUGEPAGE)
    static_cast<void>(::madvise(data, static_cast<size_t>(size), MADV_HUGEPAGE));  // a wish, not a need
#endif
  }
  ~Chunk() {
    ::munmap(base, static_cast<size_t>(mapped));
  }
  Chunk(const Chunk&) = delete;
  Chunk& operator=(const Chunk&) = delete;

  int64_t size;
  int64_t mapped;
  void* base = nullptr;
  std::byte* data = nullptr;
};

at::Tensor WeightMemory::allocate(int64_t bytes) {
  if (chunk_ == nullptr || used_ + bytes > chunk_->size) {
    chunk_ = std::make_shared<Chunk>(std::max(bytes, kChunkBytes));
    used_ = 0;
  }
  void* const data = chunk_->data + used_;
  used_ += round_up(bytes, kLine);
  return at::from_blob(
      data, {bytes}, [keep = chunk_](void*) {}, at::kByte);
}

}  // namespace xlstm::cpu
