// For the CUDA kernels in *.cu: the language as nvcc and, in tests, the emulator know it.
//
// A kernel is a __global__ function of one parameter, a trivially copyable struct. It calls wait_for_previous() before
// it first touches memory that a kernel may have written in this pass (weights, and a layer's state, which no earlier
// kernel of the pass writes, may be read before), and start_next() once: early, or where it has a block for each
// processor behind wait_for_previous() (kTwoBlocksBytes).
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/queue.h"

namespace xlstm::cuda {
using SharedBarrier = uint64_t;
}  // namespace xlstm::cuda

#if defined(__CUDACC__)

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "kernels/cuda/errors.h"

// Dynamic shared memory, aligned to 16 bytes, as an array of T; once in a kernel.
#define XLSTM_DYNAMIC_SHARED(T, name)                               \
  extern __shared__ __align__(16) unsigned char xlstm_shared_raw[]; \
  T* const name = reinterpret_cast<T*>(xlstm_shared_raw)
#define XLSTM_UNROLL _Pragma("unroll")

namespace xlstm::cuda {

__device__ inline void wait_for_previous() {
  asm volatile("griddepcontrol.wait;" ::: "memory");
}

__device__ inline void start_next() {
  asm volatile("griddepcontrol.launch_dependents;");
}

// (bits & kMask) | kMore in one instruction, which the compiler does not find for two constants.
template <uint32_t kMask, uint32_t kMore>
__device__ inline uint32_t pick_bits(uint32_t bits) {
  constexpr int kAndThenOr = 0xea;  // the truth table
  uint32_t result;
  asm("lop3.b32 %0, %1, %2, %3, %4;" : "=r"(result) : "r"(bits), "r"(kMask), "r"(kMore), "n"(kAndThenOr));
  return result;
}

// D += A · B on the matrix units by a warp. A: 16 × 16 bfloat16, row-major fragments; B: 16 × 8; C, D: 16 × 8 float32.
// Of lane l, with g = l / 4 and t = l % 4 (PTX's mma.m16n8k16):
//   a[0]: row g, columns 2t, 2t+1;  a[1]: row g+8;  a[2]: row g, columns 2t+8, 2t+9;  a[3]: row g+8, those columns
//   b[0]: rows 2t, 2t+1 of column g;  b[1]: rows 2t+8, 2t+9 of column g
//   c[0], c[1]: row g, columns 2t, 2t+1;  c[2], c[3]: row g+8
// The lower half of each register is the element of the lower index.
__device__ inline void mma_bf16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// The same of 16 × 8 and 8 × 8 values in tf32 (float32 of which the upper 19 bits count; PTX's mma.m16n8k8):
//   a[0]: row g, column t;  a[1]: row g+8, column t;  a[2]: row g, column t+4;  a[3]: row g+8, column t+4
//   b[0]: row t of column g;  b[1]: row t+4 of column g;  c as above
__device__ inline void mma_tf32(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// 16 bytes from device to shared memory, behind the caller's back; a group of them is waited for.
__device__ inline void copy_async_16(void* shared, const void* global) {
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(address), "l"(global) : "memory");
}
__device__ inline void commit_copies() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
// Returns when at most `kLater` of the caller's groups are still under way; then a barrier is needed for the others'.
template <int kLater>
__device__ inline void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kLater) : "memory");
}

// Barriers in shared memory, at which some threads arrive and others wait. A phase ends when all arrivals have come and
// all bytes that were announced have been copied; then the next one begins. A thread that waits must not be two phases
// behind: it knows them by their parity only.
__device__ inline uint32_t shared_address(const void* shared) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(shared));
}
// By one thread; behind it, by the same, publish_barriers(), and then a barrier of the block.
__device__ inline void init_barrier(SharedBarrier* barrier, int arrivals) {
  asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals) : "memory");
}
__device__ inline void publish_barriers() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
__device__ inline void arrive(SharedBarrier* barrier) {
  asm volatile("mbarrier.arrive.shared.b64 _, [%0];" ::"r"(shared_address(barrier)) : "memory");
}
__device__ inline void arrive_announcing(SharedBarrier* barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared.b64 _, [%0], %1;" ::"r"(shared_address(barrier)), "r"(bytes)
               : "memory");
}
// By a whole warp: until the phase of that parity, 0 for the first, has ended.
__device__ inline void wait_at(SharedBarrier* barrier, int parity) {
  asm volatile(
      "{\n.reg .pred ended;\nagain:\nmbarrier.try_wait.parity.shared.b64 ended, [%0], %1;\n@!ended bra again;\n}" ::"r"(
          shared_address(barrier)),
      "r"(parity)
      : "memory");
}
// Copies by the copy engine, which `barrier` counts. Addresses and bytes are multiples of 16.
__device__ inline void copy_bulk(void* shared, const void* global, int bytes, SharedBarrier* barrier) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
                   shared_address(shared)),
               "l"(global), "r"(bytes), "r"(shared_address(barrier))
               : "memory");
}
// kBoxBytes: of kBoxLines lines, from `line` on, kBoxRows rows from `row` on; zeros where there is none. `shared` is a
// multiple of kBoxAlignment; place_in_box() says where a row's bytes are.
__device__ inline void copy_box(void* shared, const TensorMap* map, int line, int row, SharedBarrier* barrier) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4}], "
      "[%5];" ::"r"(shared_address(shared)),
      "l"(map), "r"(0), "r"(row), "r"(line), "r"(shared_address(barrier))
      : "memory");
}

// By a warp, before it first uses a map: it may have been written since another use of its memory.
__device__ inline void acquire_map(const TensorMap* map) {
  asm volatile("fence.proxy.tensormap::generic.acquire.sys [%0], 128;" ::"l"(map) : "memory");
}
// Brings what copy_box() would copy to the L2 cache.
__device__ inline void prefetch_box(const TensorMap* map, int line, int row) {
  asm volatile("cp.async.bulk.prefetch.tensor.3d.L2.global.tile [%0, {%1, %2, %3}];" ::"l"(map), "r"(0), "r"(row),
               "r"(line)
               : "memory");
}

// A barrier of the first kThreads threads of a block, or any others that all name the same kId, 1 to 15.
template <int kId, int kThreads>
__device__ inline void sync_threads() {
  asm volatile("bar.sync %0, %1;" ::"n"(kId), "n"(kThreads) : "memory");
}

// Brings the line around an address, kPrefetchBytes, to the L2 cache, behind the caller's back.
__device__ inline void prefetch_line(const void* global) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(global));
}

// Kernels of a pass that stream what no other writes have turns (Queue::take_turn): a block begins when that of the
// kernel before has asked for all that it reads. Otherwise the two would share the memory's speed, and where the first
// one's results are waited for nothing would be left to read. By a warp. No more than a hint: what was written before
// the turn need not have come, and a greater number that an earlier pass has left lets a block begin at once.
__device__ inline void wait_for_turn(const Turn& turn, int block) {
  if (block >= turn.blocks_before) return;
  const volatile int32_t* const number = turn.numbers + block;
  while (*number < turn.number) {
  }
}

// Once for a kernel and a device: all of a processor's shared memory, and the same division between it and the first
// cache for all kernels. A processor changes it only when it is idle, so that no kernel would start early otherwise.
template <auto kKernel>
void prepare() {
  static uint64_t prepared = 0;  // a bit for each device
  int device = 0;
  check(cudaGetDevice(&device), "device");
  const uint64_t bit = uint64_t{1} << (device % 64);
  if ((prepared & bit) != 0) return;
  int most = 0;
  check(cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device), "shared memory");
  cudaFuncAttributes attributes{};
  check(cudaFuncGetAttributes(&attributes, kKernel), "kernel");
  check(cudaFuncSetAttribute(kKernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             most - static_cast<int>(attributes.sharedSizeBytes)),
        "shared memory");
  check(cudaFuncSetAttribute(kKernel, cudaFuncAttributePreferredSharedMemoryCarveout, cudaSharedmemCarveoutMaxShared),
        "shared memory");
  prepared |= bit;
}

template <auto kKernel, class Args>
void invoke(const Grid& grid, const void* args, StreamHandle stream, bool early) {
  prepare<kKernel>();
  cudaLaunchAttribute overlap{};
  overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  overlap.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(grid.x, grid.y, grid.z);
  config.blockDim = dim3(grid.threads);
  config.dynamicSmemBytes = grid.shared_bytes;
  config.stream = static_cast<cudaStream_t>(stream);
  config.attrs = &overlap;
  config.numAttrs = early ? 1 : 0;
  check(cudaLaunchKernelEx(&config, kKernel, *static_cast<const Args*>(args)), "kernel launch");
}

}  // namespace xlstm::cuda

#else
#include "xlstm_cuda.h"  // tests/cuda_emulator
#endif

namespace xlstm::cuda {

constexpr int kPrefetchBytes = 128;  // of prefetch_line()

// Of copy_box(). The copy engine turns the 16-byte chunks of each row of a line, so that those of neighbouring rows are
// in different banks.
constexpr int kBoxLineBytes = kBoxRows * kLineBytes;
constexpr int kBoxBytes = kBoxLines * kBoxLineBytes;
constexpr int kBoxAlignment = 1024;
// In a line of kBoxLineBytes bytes.
__device__ inline int place_in_box(int row, int byte) {
  constexpr int kChunk = 16;
  return row * kLineBytes + (byte ^ row % 8 * kChunk);
}

// Shared memory of which a processor has room for two blocks and not for three. Kernels of a decode step that have a
// block for each processor, products of few rows and the step of few sequences, take at least so much and call
// start_next() behind wait_for_previous(): each processor then has one block of the kernel that runs and one of the
// next. If one had two and another none, the kernel would end late.
constexpr int64_t kTwoBlocksBytes = 77 * 1024;

// By one thread, when all has been asked for; behind wait_for_previous(), so that in a pass a number only grows.
__device__ inline void pass_turn(const Turn& turn, int block) {
  *static_cast<volatile int32_t*>(turn.numbers + block) = turn.number + 1;
}

template <auto kKernel, class Args>
void run(Queue& queue, const Grid& grid, const Args& args) {
  queue.run(&invoke<kKernel, Args>, grid, args);
}

}  // namespace xlstm::cuda
