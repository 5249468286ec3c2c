// The instruction sets that the CPU kernels choose from at run time.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace xlstm::cpu {

// Name of the instruction set in use, for example "AVX3" (Highway's name for AVX-512), "AVX2" or "NEON".
[[nodiscard]] std::string active_isa();

// Those that were compiled in and that this CPU supports, best first.
[[nodiscard]] std::vector<std::string> supported_isas();

// Makes the kernels use one of supported_isas(); an empty name means the best one again. Not to be called while kernels
// run. For tests and measurements.
void force_isa(std::string_view name);

}  // namespace xlstm::cpu
