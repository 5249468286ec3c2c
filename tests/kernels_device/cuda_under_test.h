// CUDA's kernels, on an NVIDIA GPU or on the emulator: what the two have in common.
#pragma once

#include <memory>
#include <utility>

#include "kernels/cuda/cuda_chunkwise.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/cuda_recurrent.h"
#include "kernels/cuda/gpu.h"
#include "tests/kernels_device/device_under_test.h"

namespace xlstm::test {

class CudaUnderTest : public DeviceUnderTest {
 public:
  explicit CudaUnderTest(at::Device tensors) : gpu_(std::make_shared<cuda::Gpu>(tensors)) {}

  [[nodiscard]] const std::shared_ptr<cuda::Gpu>& gpu() const { return gpu_; }

  [[nodiscard]] std::unique_ptr<DeviceOps> ops(const ModelDims& dims) override { return make_cuda_ops(dims, gpu_); }
  [[nodiscard]] std::unique_ptr<CellKernel> step(const ModelDims& dims) override { return make_cuda_step(dims, gpu_); }
  [[nodiscard]] std::unique_ptr<CellKernel> sequence(const ModelDims& dims) override {
    return make_cuda_sequence(dims, gpu_);
  }
  [[nodiscard]] std::unique_ptr<CellKernel> chunkwise(const ModelDims& dims, int64_t chunk_size,
                                                      int64_t heads_per_band) override {
    return make_cuda_chunkwise(dims, {.chunk_size = chunk_size, .heads_per_band = heads_per_band}, gpu_);
  }
  void begin_pass() override { gpu_->queue.begin_pass(true); }
  void end_pass() override { gpu_->queue.end_pass(); }

 private:
  std::shared_ptr<cuda::Gpu> gpu_;
};

[[nodiscard]] std::unique_ptr<CudaUnderTest> make_cuda_under_test();

}  // namespace xlstm::test
