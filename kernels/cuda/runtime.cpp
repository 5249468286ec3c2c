#include "kernels/cuda/runtime.h"

#include <cuda_runtime_api.h>

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

}  // namespace xlstm::cuda
