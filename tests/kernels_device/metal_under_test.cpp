#include "kernels/metal/gpu.h"
#include "kernels/metal/metal_cell.h"
#include "kernels/metal/metal_ops.h"
#include "tests/kernels_device/device_under_test.h"
#include "tests/metal_emulator/emulator.h"

namespace xlstm::test {
namespace {

class MetalUnderTest : public DeviceUnderTest {
 public:
  [[nodiscard]] std::unique_ptr<DeviceOps> ops(const ModelDims& dims) override { return make_metal_ops(dims, gpu_); }
  [[nodiscard]] std::unique_ptr<CellKernel> step(const ModelDims& dims) override { return make_metal_step(dims, gpu_); }
  [[nodiscard]] std::unique_ptr<CellKernel> sequence(const ModelDims& dims) override {
    return make_metal_sequence(dims, gpu_);
  }
  [[nodiscard]] std::unique_ptr<CellKernel> chunkwise(const ModelDims& dims, int64_t chunk_size,
                                                      int64_t heads_per_band) override {
    return make_metal_chunkwise(dims, {chunk_size, heads_per_band}, gpu_);
  }
  void begin_pass() override { gpu_->begin_pass(); }
  void end_pass() override { gpu_->end_pass(); }
  [[nodiscard]] at::Tensor place(const at::Tensor& tensor) const override {
    return tensor.clone(at::MemoryFormat::Contiguous);
  }
  [[nodiscard]] std::string order_dependence(const std::function<std::string()>& run) override {
    return emulator::order_dependence(run);
  }

 private:
  std::shared_ptr<metal::Gpu> gpu_ = std::make_shared<metal::Gpu>(at::kCPU);
};

}  // namespace

std::unique_ptr<DeviceUnderTest> make_device_under_test() {
  return std::make_unique<MetalUnderTest>();
}

}  // namespace xlstm::test
