#include "kernels/cuda/stage.h"

#include "kernels/cuda/kernel.h"

namespace xlstm::cuda {
namespace {

struct StageArgs {
  const int32_t* host;
  int32_t* device;
  uint64_t count;
};

constexpr unsigned kThreads = 256;

__global__ void copy_values(StageArgs args) {
  wait_for_previous();
  start_next();
  const uint64_t i = static_cast<uint64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i < args.count) args.device[i] = args.host[i];
}

}  // namespace

void copy_staged(Queue& queue, const int32_t* host, int32_t* device, size_t count) {
  const auto blocks = static_cast<unsigned>((count + kThreads - 1) / kThreads);
  run<copy_values>(queue, {.x = blocks, .threads = kThreads}, StageArgs{host, device, count});
}

}  // namespace xlstm::cuda
