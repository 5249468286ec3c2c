// Whole numbers in the arguments of kernels.
#pragma once

#include <cstdint>
#include <limits>

#include "xlstm/core/errors.h"

namespace xlstm::metal {

// Sizes and indices are 32 bits wide there.
inline int to_int(int64_t value) {
  XLSTM_ASSERT(value >= 0 && value <= std::numeric_limits<int>::max());
  return static_cast<int>(value);
}

// Blocks of `block` that hold `count`.
inline int64_t blocks_of(int64_t count, int64_t block) {
  return (count + block - 1) / block;
}

}  // namespace xlstm::metal
