// Counts the calls of operator new in the program that links allocation_count.cpp.
#pragma once

#include <cstdint>

namespace xlstm::test {

[[nodiscard]] int64_t allocation_count();

}  // namespace xlstm::test
