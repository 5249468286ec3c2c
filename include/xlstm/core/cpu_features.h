// Facts about the processor that choices depend on.
#pragma once

#include <string>

namespace xlstm {

// Whether the processor multiplies bfloat16 numbers in hardware (AVX-512 BF16 or AMX, Arm BF16).
[[nodiscard]] bool cpu_has_bfloat16();

// The processor's name as the system reports it, with the number of cores this process may use.
[[nodiscard]] std::string cpu_name();

}  // namespace xlstm
