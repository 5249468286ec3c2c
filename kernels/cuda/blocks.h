// How many blocks of a size hold a number of things. No CUDA header.
#pragma once

#include <cstdint>

namespace xlstm::cuda {

[[nodiscard]] constexpr int64_t blocks_of(int64_t count, int64_t block) {
  return (count + block - 1) / block;
}

}  // namespace xlstm::cuda
