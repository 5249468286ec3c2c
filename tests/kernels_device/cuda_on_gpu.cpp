#include <gtest/gtest.h>

#include <cstdio>

#include "tests/kernels_device/cuda_under_test.h"
#include "xlstm/core/errors.h"

namespace xlstm::test {
namespace {

class GpuUnderTest : public CudaUnderTest {
 public:
  GpuUnderTest() : CudaUnderTest({at::kCUDA, 0}) {}

  [[nodiscard]] at::Tensor place(const at::Tensor& tensor) const override {
    return tensor.contiguous().to(gpu()->tensors, tensor.scalar_type(), /*non_blocking=*/false, /*copy=*/true);
  }
  [[nodiscard]] std::string order_dependence(const std::function<std::string()>& run) override {
    const std::string expected = run();
    for (int i = 1; i <= 4; ++i) {
      if (run() != expected) return "run " + std::to_string(i) + " differs from the first";
    }
    return "";
  }
};

}  // namespace

std::unique_ptr<CudaUnderTest> make_cuda_under_test() {
  return std::make_unique<GpuUnderTest>();
}
std::unique_ptr<DeviceUnderTest> make_device_under_test() {
  return make_cuda_under_test();
}

}  // namespace xlstm::test

int main(int argc, char** argv) {
  constexpr int kSkipped = 77;  // as ctest is told
  try {
    if (xlstm::cuda::device_count() == 0) {
      std::puts("NOT RUN: no NVIDIA GPU");
      return kSkipped;
    }
  } catch (const xlstm::Error& error) {  // the driver is too old
    std::printf("NOT RUN: %s\n", error.what());
    return kSkipped;
  }
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
