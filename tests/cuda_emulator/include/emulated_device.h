// What xlstm_cuda.h needs of the emulator.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/runtime.h"

namespace xlstm::cuda_emulator {

struct Index {
  unsigned x = 0;
  unsigned y = 0;
  unsigned z = 0;
};

struct Block {
  Index index;
  Index threads;
  Index grid;
};

// Of the thread whose code runs on this OS thread.
extern constinit thread_local const Index* running_thread;
extern constinit thread_local const Block* running_block;

// All lanes of a warp meet at one `operation` in one line of the source; each leaves `bytes` bytes and then finds those
// of all lanes, kSlotBytes apart, until the warp meets again.
constexpr size_t kSlotBytes = 64;
[[nodiscard]] const std::byte* exchange(const void* mine, size_t bytes, const char* operation, int line);
[[nodiscard]] unsigned current_lane();
// All threads of the block meet.
void barrier(int line);
// As many threads of the block as each of them says meet, whole warps, under a number.
void barrier_of_some(int number, unsigned threads, int line);

// Barriers in shared memory, known by their address: kernels/cuda/kernel.h.
void init_barrier(void* barrier, int arrivals);
void publish_barriers();
void arrive_at(const void* barrier, int bytes, int line);
void wait_at(const void* barrier, int parity, int line);
// The destination holds poison until somebody has waited for the barrier's phase.
void copy_bulk(void* destination, const void* source, size_t bytes, const void* barrier, int line);
void copy_box(void* destination, const cuda::TensorMap* map, int line_of_row, int row, const void* barrier, int line);

[[nodiscard]] void* dynamic_shared();
// The destination holds poison until the copy is waited for.
void copy_async(void* destination, const void* source);
void commit_copies();
void wait_for_copies(int later_groups);
void wait_for_previous();
// Until `now` is `number` or more, which it becomes before the kernel before ends.
void wait_for_turn(const volatile int32_t* now, int32_t number);
// Ends the launch with an error.
[[noreturn]] void refuse(const char* what, int line);

struct Kernel {
  void (*body)(const void* arguments) = nullptr;  // one thread of it
  const char* name = nullptr;                     // a text that has it
  size_t argument_bytes = 0;
  bool has_padding = false;  // in its arguments
};
// Runs the grid at once, or records it if the stream is being captured.
void launch(const Kernel& kernel, const cuda::Grid& grid, const void* arguments, cuda::StreamHandle stream, bool early);

}  // namespace xlstm::cuda_emulator
