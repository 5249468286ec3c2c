// Facts about the processor that choices depend on.
#pragma once

#include <string>

namespace xlstm {

// The processor's name as the system reports it, with the number of cores this process may use.
[[nodiscard]] std::string cpu_name();

// The system's name and release, for example "Darwin 23.6.0 arm64".
[[nodiscard]] std::string system_name();

// Whether this process may use AVX-512 (F, BW, VL, DQ) together with dot products of bfloat16 (vdpbf16ps) or of 8-bit
// integers (vpdpbusd): the processor has them and the system saves their registers. False on other architectures.
[[nodiscard]] bool has_avx512_bf16();
[[nodiscard]] bool has_avx512_vnni();

// Whether vdpbf16ps multiplies more in a time than float32's multiply-add does: measured, twice as much on AMD's
// processors (Zen 4), half as much on Intel's (a 16-core Xeon with AMX).
[[nodiscard]] bool has_fast_bf16_dot();

}  // namespace xlstm
