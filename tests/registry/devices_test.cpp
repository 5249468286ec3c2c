// A kind with several devices in the registry: a program of its own, whose device cuda is a stand-in.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kernels/native/native_cell.h"
#include "kernels/native/native_ops.h"
#include "src/registry/device_backend.h"
#include "tests/support/expect_error.h"
#include "xlstm/core/thread_pool.h"
#include "xlstm/registry/make_kernels.h"

namespace xlstm {
namespace {

using test::expect_error;

// What the registry asked the stand-in's kernels to be made for.
struct Made {
  std::vector<std::string> devices;
  std::vector<std::string> weight_dtypes;
  int flushes = 0;
};

Made& made() {
  static Made record;
  return record;
}

void note(const KernelRequest& request) {
  made().devices.push_back(request.device.str());
  made().weight_dtypes.push_back(request.settings.weight_dtype);
}

// Two devices that can be used and one that cannot. Tensors of the first live on the CPU, so that kernels run.
DeviceBackend stand_in() {
  DeviceBackend backend{{{{"cuda:0", "cuda", true, "first"}, at::kCPU},
                         {{"cuda:1", "cuda", true, "second"}, at::kMeta},
                         {{"cuda:2", "cuda", false, "a GPU that is too old"}, at::kMeta}}};
  backend.flush = [] { ++made().flushes; };
  backend.entries = {{{KernelFamily::kOps, "cuda", "cuda", "stand-in"},
                      {},
                      [](const KernelRequest& r) {
                        note(r);
                        return make_native_ops(r.dims, at::kCPU);
                      }},
                     {{KernelFamily::kStep, "cuda", "cuda", "stand-in"},
                      [](const KernelRequest& r) {
                        note(r);
                        return make_native_step(r.dims);
                      },
                      {}}};
  return backend;
}

class DevicesTest : public testing::Test {
 protected:
  static void SetUpTestSuite() { replace_device_backend(stand_in()); }
  void SetUp() override { made() = {}; }

  static ModelDims dims() {
    ModelDims dims;
    dims.vocab_size = 8;
    dims.embedding_dim = 4;
    dims.num_heads = 1;
    dims.head_dim_qk = 2;
    dims.head_dim_v = 4;
    dims.ffn_dim = 8;
    return dims;
  }

  static RuntimeOpts on(const std::string& device) {
    RuntimeOpts opts;
    opts.device = device;
    opts.chunkwise_backend = "native";
    opts.sequence_backend = "native";
    return opts;
  }
};

TEST_F(DevicesTest, ListsEachOfAKindAndTheCpuLast) {
  std::vector<std::string> names;
  for (const DeviceInfo& device : list_devices()) names.push_back(device.name);
  EXPECT_EQ(names, (std::vector<std::string>{"mps", "cuda:0", "cuda:1", "cuda:2", "cpu"}));
}

TEST_F(DevicesTest, ANameOrANumberChoosesAndAutoTakesTheFirst) {
  EXPECT_EQ(resolve(on("cuda")).device, "cuda:0");
  EXPECT_EQ(resolve(on("cuda:1")).device, "cuda:1");
  EXPECT_EQ(resolve(on("auto")).device, "cuda:0");
  EXPECT_EQ(torch_device("cuda:0"), at::Device(at::kCPU));
  EXPECT_EQ(torch_device("cuda:1"), at::Device(at::kMeta));
  EXPECT_EQ(torch_device("cpu"), at::Device(at::kCPU));
}

TEST_F(DevicesTest, RefusesOneThatIsNotThereOrCannotBeUsed) {
  expect_error([] { (void)resolve(on("cuda:2")); }, ExitCode::kDevice,
               {"one of cuda:0, cuda:1, cpu", "got cuda:2 (a GPU that is too old)"});
  expect_error([] { (void)resolve(on("cuda:3")); }, ExitCode::kDevice,
               {"one of cuda:0, cuda:1, cpu", "got cuda:3 (a device that this machine does not have)"});
}

TEST_F(DevicesTest, KernelsLearnTheirDeviceAndTheTypeOfTheWeights) {
  ThreadPool pool(1);
  (void)make_ops("cuda", "cuda:1", dims(), pool);
  (void)make_cell_kernel("cuda", "cuda:0", dims(), {.weight_dtype = "int8"}, pool);
  EXPECT_EQ(made().devices, (std::vector<std::string>{"meta", "cpu"}));
  EXPECT_EQ(made().weight_dtypes.back(), "int8");
}

TEST_F(DevicesTest, CollectedWorkBeginsBeforeACellOfPlainLibtorch) {
  ThreadPool pool(1);
  const auto step = make_cell_kernel("native", "cuda:0", dims(), {}, pool);
  Activations act;
  LayerState state;
  step->run({act, state, {}});
  EXPECT_EQ(made().flushes, 1);
}

}  // namespace
}  // namespace xlstm
