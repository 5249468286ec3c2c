// Loops that do nothing but what a limit is about: read memory, or compute in registers. On the calling thread.
#pragma once

#include <cstddef>
#include <cstdint>

namespace xlstm {

// Reads `bytes` bytes, a multiple of kReadUnit, from an address divisible by kReadUnit, front to back. Returns a number
// that depends on all of them, so that no read can be left out.
inline constexpr size_t kReadUnit = 1024;
[[nodiscard]] uint64_t read_memory(const std::byte* from, size_t bytes);

// Kinds of multiply-add instructions, each with the widest registers that this CPU has.
enum class PeakKind {
  kFmaFloat32,   // multiply-add of float32 (AVX-512, AVX2, NEON, …)
  kDotBfloat16,  // vdpbf16ps: pairs of bfloat16, summed in float32
  kDotInt8,      // vpdpbusd: quadruples of 8-bit integers, summed in 32 bits
};
inline constexpr PeakKind kPeakKinds[] = {PeakKind::kFmaFloat32, PeakKind::kDotBfloat16, PeakKind::kDotInt8};

[[nodiscard]] const char* peak_name(PeakKind kind);  // "fma_float32", "dot_bfloat16", "dot_int8"
[[nodiscard]] bool has_peak(PeakKind kind);

// Runs independent chains of the instruction, `rounds` times each, enough of them to keep every unit busy. Returns the
// operations done; a multiply-add is two. Only for a kind that has_peak().
double run_peak(PeakKind kind, int64_t rounds);

}  // namespace xlstm
