// The instruction sets that the CPU kernels choose from at run time.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace xlstm::cpu {

// Name of the instruction set in use: Highway's, for example "AVX3" (AVX-512), "AVX2" or "NEON"; "AVX3_VNNI" and
// "AVX3_BF16" are AVX-512 with the dot products of 8-bit integers, and of bfloat16 too.
[[nodiscard]] std::string active_isa();

// Those that were compiled in and that this CPU supports, best first: AVX3_BF16 comes after AVX3_VNNI where dot
// products of bfloat16 are slower than float32's multiply-add on widened weights.
[[nodiscard]] std::vector<std::string> supported_isas();

// Makes the kernels use one of supported_isas(); an empty name means the best one again. Not to be called while kernels
// run. For tests and measurements.
void force_isa(std::string_view name);

// Whether the set in use has the instructions of panel_dot.h.
[[nodiscard]] bool uses_bfloat16_dot();
[[nodiscard]] bool uses_int8_dot();

}  // namespace xlstm::cpu
