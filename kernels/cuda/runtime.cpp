#include "kernels/cuda/runtime.h"

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <array>
#include <atomic>

#include "kernels/cuda/driver.h"
#include "kernels/cuda/errors.h"

namespace xlstm::cuda {
namespace {

cudaStream_t as_stream(StreamHandle stream) {
  return static_cast<cudaStream_t>(stream);
}

}  // namespace

int device_count() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error == cudaSuccess) return count;
  (void)cudaGetLastError();  // it would be reported by a later call
  int driver = 0;            // CUDA says the same of a driver that is not there, whose version is 0
  int needed = 0;
  if (error == cudaErrorInsufficientDriver && cudaDriverGetVersion(&driver) == cudaSuccess && driver > 0 &&
      cudaRuntimeGetVersion(&needed) == cudaSuccess) {
    fail_for_old_driver(driver, needed);
  }
  return 0;
}

DeviceProperties device_properties(int device) {
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, device), "device properties");
  return {properties.name,           properties.major,
          properties.minor,          properties.multiProcessorCount,
          properties.totalGlobalMem, properties.sharedMemPerBlockOptin};
}

void select(int device) {
  check(cudaSetDevice(device), "device");
}

StreamHandle make_stream() {
  cudaStream_t stream = nullptr;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamDefault), "stream");
  return stream;
}

void destroy_stream(StreamHandle stream) {
  cudaStreamDestroy(as_stream(stream));
}

void synchronize(StreamHandle stream) {
  check(cudaStreamSynchronize(as_stream(stream)), "kernels");
}

void order_behind(StreamHandle later, StreamHandle earlier) {
  cudaEvent_t event = nullptr;
  check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "event");
  cudaError_t error = cudaEventRecord(event, as_stream(earlier));
  if (error == cudaSuccess) error = cudaStreamWaitEvent(as_stream(later), event, 0);
  cudaEventDestroy(event);  // once it is no longer needed
  check(error, "event");
}

void wait_for_value(const uint64_t* word, uint64_t value, StreamHandle stream) {
  const auto has_come = [&] {
    const bool is_there = *static_cast<const volatile uint64_t*>(word) == value;
    std::atomic_thread_fence(std::memory_order_acquire);
    return is_there;
  };
  constexpr int kReads = 4096;  // between questions whether the kernels still run
  for (;;) {
    for (int i = 0; i < kReads; ++i) {
      if (has_come()) return;
    }
    const cudaError_t state = cudaStreamQuery(as_stream(stream));
    if (state == cudaErrorNotReady) {
      (void)cudaGetLastError();  // it would be reported by a later call
      continue;
    }
    check(state, "kernels");
    XLSTM_ASSERT(has_come());
    return;
  }
}

void begin_capture(StreamHandle stream) {
  check(cudaStreamBeginCapture(as_stream(stream), cudaStreamCaptureModeThreadLocal), "graph capture");
}

GraphHandle end_capture(StreamHandle stream) {
  cudaGraph_t graph = nullptr;
  check(cudaStreamEndCapture(as_stream(stream), &graph), "graph capture");
  cudaGraphExec_t executable = nullptr;
  const cudaError_t error = cudaGraphInstantiate(&executable, graph, 0);
  cudaGraphDestroy(graph);
  check(error, "graph");
  return executable;
}

void abandon_capture(StreamHandle stream) {
  cudaGraph_t graph = nullptr;
  if (cudaStreamEndCapture(as_stream(stream), &graph) == cudaSuccess && graph != nullptr) cudaGraphDestroy(graph);
  (void)cudaGetLastError();
}

void launch_graph(GraphHandle graph, StreamHandle stream) {
  check(cudaGraphLaunch(static_cast<cudaGraphExec_t>(graph), as_stream(stream)), "graph launch");
}

void destroy_graph(GraphHandle graph) {
  cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(graph));
}

void* allocate_pinned(size_t bytes) {
  void* memory = nullptr;
  check(cudaHostAlloc(&memory, bytes, cudaHostAllocMapped), "pinned memory");
  return memory;
}

void free_pinned(void* memory) {
  cudaFreeHost(memory);
}

void* allocate_on_device(size_t bytes) {
  void* memory = nullptr;
  check(cudaMalloc(&memory, bytes), "device memory");
  return memory;
}

void free_on_device(void* memory) {
  cudaFree(memory);
}

const TensorMap* make_tensor_map(const void* rows, int64_t row_bytes, int64_t count) {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found{};
  constexpr unsigned kSince = 12000;
  check(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, kSince, cudaEnableDefault, &found),
        "tensor map");
  if (function == nullptr) fail(ExitCode::kDevice, "tensor map", "CUDA", "a driver that makes them", "none");
  CUtensorMap map{};
  // Of a line, down the rows, along the lines: so the engine turns the chunks of neighbouring rows, and not of lines.
  // Promotion to larger reads from memory measured slower.
  const auto line = static_cast<cuuint64_t>(kLineBytes);
  const auto row = static_cast<cuuint64_t>(row_bytes);
  const std::array<cuuint64_t, 3> sizes = {line, static_cast<cuuint64_t>(count), row / line};
  const std::array<cuuint64_t, 2> strides = {row, line};
  const std::array<cuuint32_t, 3> box = {kLineBytes, kBoxRows, kBoxLines};
  const std::array<cuuint32_t, 3> steps = {1, 1, 1};
  const auto encode = reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(function);
  const CUresult result =
      encode(&map, CU_TENSOR_MAP_DATA_TYPE_UINT8, 3, const_cast<void*>(rows), sizes.data(), strides.data(), box.data(),
             steps.data(), CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_NONE,
             CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS) {
    fail(ExitCode::kDevice, "tensor map", "CUDA", "success", "error " + std::to_string(result));
  }
  void* const memory = allocate_on_device(sizeof(map));
  check(cudaMemcpy(memory, &map, sizeof(map), cudaMemcpyHostToDevice), "tensor map");
  check(cudaStreamSynchronize(nullptr), "tensor map");  // a kernel that begins early does not wait for the copy
  return static_cast<const TensorMap*>(memory);
}

void free_tensor_map(const TensorMap* map) {
  cudaFree(const_cast<TensorMap*>(map));
}

}  // namespace xlstm::cuda
