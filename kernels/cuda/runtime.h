// What the queue needs of CUDA's runtime, without its headers. Tests put an emulator in its place.
//
// All functions act on the device that select() named last on the calling thread. Error kDevice, or kMemory where there
// is none left, with what CUDA says.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace xlstm::cuda {

// A grid of blocks, and what a kernel needs beside its arguments.
struct Grid {
  unsigned x = 1;  // blocks
  unsigned y = 1;
  unsigned z = 1;
  unsigned threads = 32;      // of a block, along x; a multiple of 32
  unsigned shared_bytes = 0;  // of dynamic shared memory

  [[nodiscard]] bool operator==(const Grid&) const = default;
};

using StreamHandle = void*;
using GraphHandle = void*;

// Launches one kernel with the bytes of its arguments. `early`: it may begin while the kernel before it in the stream
// still runs, for which it waits itself before it reads what that one writes (kernel.h).
using Invoke = void (*)(const Grid& grid, const void* args, StreamHandle stream, bool early);

struct DeviceProperties {
  std::string name;
  int major = 0;  // compute capability
  int minor = 0;
  int processors = 0;
  size_t memory_bytes = 0;
  size_t shared_bytes = 0;  // that a block may have
};

// Shared memory of a block that the kernels are planned for.
constexpr size_t kPlannedSharedBytes = size_t{227} * 1024;
// CUDA takes so much more for each block; a processor has room for one of the largest.
constexpr size_t kReservedSharedBytes = 1024;
constexpr size_t kProcessorSharedBytes = kPlannedSharedBytes + kReservedSharedBytes;

// 0 where there is no driver, or no device. Error kDevice for a driver that is too old for this CUDA.
[[nodiscard]] int device_count();
[[nodiscard]] DeviceProperties device_properties(int device);
void select(int device);

// A stream that is ordered with libtorch's work, which runs on the default stream.
[[nodiscard]] StreamHandle make_stream();
void destroy_stream(StreamHandle stream);
void synchronize(StreamHandle stream);
// What is launched into `later` from now on comes behind all that `earlier` has so far.
void order_behind(StreamHandle later, StreamHandle earlier);
// Returns when `word`, in pinned memory, has the value that a kernel in the stream gives it; those behind it may go on.
void wait_for_value(const uint64_t* word, uint64_t value, StreamHandle stream);

// Between the two, launches into the stream are recorded and not run. end_capture() returns what can be launched as a
// whole.
void begin_capture(StreamHandle stream);
[[nodiscard]] GraphHandle end_capture(StreamHandle stream);
// After an error between the two.
void abandon_capture(StreamHandle stream);
void launch_graph(GraphHandle graph, StreamHandle stream);
void destroy_graph(GraphHandle graph);

// Host memory that kernels can read, at the same address; and the device's.
[[nodiscard]] void* allocate_pinned(size_t bytes);
void free_pinned(void* memory);
[[nodiscard]] void* allocate_on_device(size_t bytes);
void free_on_device(void* memory);

// What the copy engine knows about a matrix of bytes in device memory, of which copy_box() in kernel.h copies kBoxRows
// rows by kBoxLines lines. Rows are `row_bytes` apart, whole lines.
struct TensorMap;
constexpr int kLineBytes = 128;
constexpr int kBoxRows = 16;
constexpr int kBoxLines = 4;
[[nodiscard]] const TensorMap* make_tensor_map(const void* rows, int64_t row_bytes, int64_t count);
void free_tensor_map(const TensorMap* map);

}  // namespace xlstm::cuda
