// Runs CUDA kernels on the CPU.
//
// kernels/cuda/*.cu are compiled as C++, unchanged, with include/xlstm_cuda.h in place of CUDA's headers, and this
// library defines the functions of kernels/cuda/runtime.h and library_multiply(). So cuda::Gpu(at::kCPU) works in a
// test that links xlstm_cuda_emulator.
//
// The threads of a block are fibers of one OS thread. A function of a warp or a barrier is where they meet; between two
// of those they run one after the other, in an order that settings() choose. A launch throws Fault, with the kernel,
// block and thread, for
//   - a function of a warp or a barrier that not all reach, or not the same one;
//   - a kernel that does not wait for the one before it;
//   - a barrier in shared memory that was not published, has an arrival too many, was written over, or is waited for
//   in vain; a copy that nobody waits for; a thread's second copy to where its first may still go;
//   - misaligned accesses, array indices out of range, shifts too far, signed overflow, conversions that don't fit;
//   - an access past the dynamic shared memory, or past what allocate_on_device() and allocate_pinned() returned;
//   - an end that is waited for with work of a branch (order_behind()) that nothing has been ordered behind;
//   - more than 1024 threads or 227 KB of dynamic shared memory; arguments with padding, whose bytes would be
//   arbitrary.
// Of a graph, a block of each kernel runs up to its wait_for_previous() before the two kernels before it, as far as
// their launches allow. Memory that was not written, and what an asynchronous copy has under way, holds NaNs, which
// tests see in the results. Not emulated: registers, occupancy, speed, static shared memory's size, fences between the
// copy engine's view of memory and the threads', prefetches.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>

#include "tests/emulation/settings.h"

namespace xlstm::cuda_emulator {

struct Fault : std::runtime_error {
  using std::runtime_error::runtime_error;
};

using emulation::Order;
using emulation::Settings;

// Of all launches from now on.
[[nodiscard]] Settings& settings();

// Puts settings back at the end of a scope.
struct ScopedSettings : emulation::ScopedSettings<Settings> {
  ScopedSettings() : emulation::ScopedSettings<Settings>(settings()) {}
};

// Calls so far that returned when a stream was done, by any thread.
[[nodiscard]] std::atomic<int64_t>& synchronizations();

// False in builds with a sanitizer, which reports bad accesses itself and ends the program.
[[nodiscard]] bool has_checks();

// Memory that holds NaNs, aligned to 16 bytes, and ends within 15 bytes of a page which no one may touch.
[[nodiscard]] std::shared_ptr<void> guarded_memory(size_t bytes);

// emulation::order_dependence() by settings().
[[nodiscard]] std::string order_dependence(const std::function<std::string()>& run);

}  // namespace xlstm::cuda_emulator
