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

#include <cstdint>
#include <functional>
#include <stdexcept>
#include <string>
#include <string_view>

namespace xlstm::emulator {

struct Fault : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Of threadgroups, of simdgroups between barriers, of lanes between simd_ functions.
enum class Order { kForward, kReversed, kShuffled };

struct Settings {
  Order order = Order::kShuffled;
  uint64_t seed = 1;  // of kShuffled
  int os_threads = 2;
  bool check_bounds = true;
  bool check_races = true;  // and threadgroup memory read before it was written; needs check_bounds
};

// Of all dispatches from now on.
[[nodiscard]] Settings& settings();

// Puts settings back at the end of a scope.
class ScopedSettings {
 public:
  ScopedSettings() : saved_(settings()) {}
  ~ScopedSettings() { settings() = saved_; }
  ScopedSettings(const ScopedSettings&) = delete;
  ScopedSettings& operator=(const ScopedSettings&) = delete;

 private:
  Settings saved_;
};

// False where the shaders are compiled with another sanitizer: then check_bounds and check_races do nothing.
[[nodiscard]] bool has_checks();

// Calls `run` in forward, reversed and some shuffled orders and returns what differs from the first result, bit by bit,
// or an empty string. `run` returns the bytes that it computed.
[[nodiscard]] std::string order_dependence(const std::function<std::string()>& run);

}  // namespace xlstm::emulator
