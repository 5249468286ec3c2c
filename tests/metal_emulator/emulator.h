// Runs Metal kernels on the CPU.
//
// The shaders of kernels/metal are compiled as C++, unchanged, with include/xlstm_msl.h in place of Metal's headers,
// and this library defines the members of libtorch's MetalShaderLibrary and MetalKernelFunction that host code calls
// (only libtorch for macOS has them). So metal::Gpu(at::kCPU) works in a test that links xlstm_metal_emulator.
//
// The threads of a threadgroup are fibers of one OS thread. A simd_ function or a barrier is where they meet; between
// two of those they run one after the other, in an order that settings() choose. Shaders are compiled with the calls of
// ThreadSanitizer at each memory access, which the emulator answers itself. A dispatch throws Fault, with the kernel,
// threadgroup, simdgroup and lane, for
//   - a simd_ function or barrier that not all reach, or not the same one;
//   - an access outside of the buffers, the arguments and the threadgroup's arrays, or to a buffer given as const;
//   - threadgroup memory read before it was written;
//   - a data race: two threads of a dispatch access a byte of device or threadgroup memory, one of them writing, and no
//     barrier lies between;
//   - misaligned vectors, array indices out of range, integer division by zero, conversions of floats that don't fit;
//   - limits of Metal: 1024 threads, 32 KB of threadgroup memory, 31 buffers, 4096 bytes of arguments;
//   - missing or too small arguments, a tensor freed before its dispatch.
// Not emulated: registers, occupancy, speed, the order of sums, what Apple's compiler refuses. Lanes that meet at one
// line in different turns of a loop are taken for converged.
//
// Host code may be used on one thread at a time.
#pragma once

#include <functional>
#include <stdexcept>
#include <string>

#include "tests/emulation/settings.h"

namespace xlstm::emulator {

struct Fault : std::runtime_error {
  using std::runtime_error::runtime_error;
};

using emulation::Order;

struct Settings : emulation::Settings {
  bool check_bounds = true;
  bool check_races = true;  // and threadgroup memory read before it was written; needs check_bounds
};

// Of all dispatches from now on.
[[nodiscard]] Settings& settings();

// Puts settings back at the end of a scope.
struct ScopedSettings : emulation::ScopedSettings<Settings> {
  ScopedSettings() : emulation::ScopedSettings<Settings>(settings()) {}
};

// False where the shaders are compiled with another sanitizer: then check_bounds and check_races do nothing.
[[nodiscard]] bool has_checks();

// emulation::order_dependence() by settings().
[[nodiscard]] std::string order_dependence(const std::function<std::string()>& run);

}  // namespace xlstm::emulator
