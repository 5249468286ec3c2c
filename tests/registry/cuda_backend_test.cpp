// What the registry says of NVIDIA GPUs that cannot be used: a program of its own, which has the CUDA backend.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "kernels/cuda/driver.h"
#include "src/registry/cuda_backend.h"
#include "tests/support/expect_error.h"

namespace xlstm {
namespace {

constexpr const char* kOldDriver = "NVIDIA driver (CUDA): expected one for CUDA 13.0 or later, got one for CUDA 12.4";

int old_driver() {
  cuda::fail_for_old_driver(12040, 13000);
}

TEST(NvidiaGpus, NoneIsOneThatCannotBeUsed) {
  const std::vector<BackendDevice> found = find_nvidia_gpus([] { return 0; });
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0].info.name, "cuda:0");
  EXPECT_FALSE(found[0].info.available);
  EXPECT_EQ(found[0].info.details, "no NVIDIA GPU, or no driver for it");
}

TEST(NvidiaGpus, SayThatTheirDriverIsTooOld) {
  const std::vector<BackendDevice> found = find_nvidia_gpus(old_driver);
  ASSERT_EQ(found.size(), 1U);
  EXPECT_FALSE(found[0].info.available);
  EXPECT_EQ(found[0].info.details, kOldDriver);
}

TEST(NvidiaGpus, OfAnOldDriverAreRefusedWithTheReason) {
  replace_device_backend(cuda_backend(find_nvidia_gpus(old_driver)));
  RuntimeOpts opts;
  for (const char* name : {"cuda", "cuda:1"}) {
    opts.device = name;
    test::expect_error([&] { (void)resolve(opts); }, ExitCode::kDevice, {"device (configuration)", name, kOldDriver});
  }
  EXPECT_EQ(pick_device("auto"), "cpu");
}

}  // namespace
}  // namespace xlstm
