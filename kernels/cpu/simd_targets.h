// Which instruction sets the SIMD files are compiled for. Include it before any Highway header, so that all files of
// this folder agree.
//
// x86: the compiler's baseline, SSE4, AVX2, AVX-512. arm64: NEON. Left out are SSSE3, which no machine with enough
// memory stops at, and scalable vectors, whose registers cannot be kept in arrays as the kernels here do.
#pragma once

// AVX-512 is one target here, with or without the dot products of panel_dot.h (isa.h), however many Highway knows: the
// bits of HWY_AVX3_ZEN4, HWY_AVX3_SPR and HWY_AVX10_2, which 1.0 has no names for.
#define XLSTM_LATER_AVX3 ((1LL << 6) | (1LL << 4) | (1LL << 3))

#ifndef HWY_DISABLED_TARGETS
#define HWY_DISABLED_TARGETS \
  (HWY_SSSE3 | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV | HWY_AVX3_DL | XLSTM_LATER_AVX3)
#endif
