// Panel kernels on the dot product instructions of AVX-512: vdpbf16ps for bfloat16, vpdpbusd for int8 and int4.
// Highway's packaged versions have neither.
#pragma once

#include "kernels/cpu/panel_kernels.h"

namespace xlstm::cpu {

// run is null on other architectures. Only to be called where has_avx512_bf16() or has_avx512_vnni() (cpu_features.h).
[[nodiscard]] PanelKernel bfloat16_dot_kernel();
[[nodiscard]] PanelKernel int8_dot_kernel(const PanelLayout& layout);  // of int8 and int4 matrices

}  // namespace xlstm::cpu
