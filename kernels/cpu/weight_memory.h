// Memory for packed matrices: large pieces on 2 MiB pages where the system gives them, since a decode step walks over
// all weights and 4 KiB pages cost it address translations.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <memory>

namespace xlstm::cpu {

// Not thread-safe. Tensors keep their memory when the object is gone.
class WeightMemory {
 public:
  // Uninitialised bytes on a cache line boundary, behind those handed out before. Error kMemory.
  [[nodiscard]] at::Tensor allocate(int64_t bytes);

 private:
  struct Chunk;
  std::shared_ptr<Chunk> chunk_;
  int64_t used_ = 0;
};

}  // namespace xlstm::cpu
