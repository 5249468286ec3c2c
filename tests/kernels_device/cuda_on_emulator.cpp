#include <cstring>

#include "tests/cuda_emulator/emulator.h"
#include "tests/kernels_device/cuda_under_test.h"

namespace xlstm::test {
namespace {

class EmulatedCuda : public CudaUnderTest {
 public:
  EmulatedCuda() : CudaUnderTest(at::kCPU) {}

  // Just before memory that no one may touch.
  [[nodiscard]] at::Tensor place(const at::Tensor& tensor) const override {
    const at::Tensor values = tensor.contiguous();
    const std::shared_ptr<void> memory = cuda_emulator::guarded_memory(values.nbytes());
    if (values.nbytes() > 0) std::memcpy(memory.get(), values.const_data_ptr(), values.nbytes());
    return at::from_blob(
        memory.get(), values.sizes(), [memory](void*) {}, values.options());
  }
  [[nodiscard]] std::string order_dependence(const std::function<std::string()>& run) override {
    return cuda_emulator::order_dependence(run);
  }
};

}  // namespace

std::unique_ptr<CudaUnderTest> make_cuda_under_test() {
  return std::make_unique<EmulatedCuda>();
}
std::unique_ptr<DeviceUnderTest> make_device_under_test() {
  return make_cuda_under_test();
}

}  // namespace xlstm::test
