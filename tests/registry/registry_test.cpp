#include "xlstm/registry/registry.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <set>
#include <string>
#include <tuple>

#include "tests/support/expect_error.h"
#include "xlstm/core/thread_pool.h"
#include "xlstm/registry/make_kernels.h"

namespace xlstm {
namespace {

using test::expect_error;

RuntimeOpts on_cpu() {
  RuntimeOpts opts;
  opts.device = "cpu";
  return opts;
}

TEST(Registry, KeysAreUniqueWithinAFamilyAndDevice) {
  std::set<std::tuple<KernelFamily, std::string, std::string>> seen;
  for (const KernelInfo& kernel : list_kernels()) {
    EXPECT_TRUE(seen.insert({kernel.family, kernel.key, kernel.device}).second) << kernel.key;
    EXPECT_FALSE(kernel.description.empty()) << kernel.key;
  }
}

TEST(Registry, HoldsTheKeysOfTheCommandLineContract) {
  std::set<std::string> keys;
  for (const KernelInfo& kernel : list_kernels()) keys.insert(kernel.key);
  for (const char* key : {"chunkwise--ray_compiled_steps", "chunkwise--queued_compiled_steps", "chunkwise--native",
                          "chunkwise--native_compiled", "chunkwise--cpu", "native_sequence__native",
                          "native_sequence__cpu", "native", "cpu", "parallel--native"}) {
    EXPECT_EQ(keys.count(key), 1U) << key;
  }
}

TEST(Registry, MakesEveryCellKernelThatItListsForTheCpu) {
  ThreadPool pool(1);
  ModelDims dims;
  dims.vocab_size = 8;
  dims.embedding_dim = 4;
  dims.num_heads = 1;
  dims.head_dim_qk = 2;
  dims.head_dim_v = 4;
  dims.ffn_dim = 8;
  for (const KernelInfo& kernel : list_kernels()) {
    if (kernel.family == KernelFamily::kAnalysis || !why_not(kernel, "cpu").empty()) continue;
    if (kernel.family == KernelFamily::kOps) {
      EXPECT_NE(make_ops(kernel.key, "cpu", dims, pool), nullptr) << kernel.key;
    } else {
      EXPECT_NE(make_cell_kernel(kernel.key, "cpu", dims, {}, pool), nullptr) << kernel.key;
    }
  }
}

TEST(Resolve, AutoPicksTheCompiledKernelsOfTheDevice) {
  const Resolution r = resolve(on_cpu());
  EXPECT_EQ(r.device, "cpu");
  EXPECT_EQ(r.ops, "cpu");
  EXPECT_EQ(r.chunkwise, "chunkwise--ray_compiled_steps");
  EXPECT_EQ(r.sequence, "native_sequence__cpu");
  EXPECT_EQ(r.step, "cpu");
  EXPECT_EQ(r.threads, available_cores());
  EXPECT_EQ(r.workers, available_cores());
}

TEST(Resolve, AcceptsFullKeysAndAliases) {
  struct Case {
    const char* asked;
    const char* key;
  };
  for (const Case& c :
       {Case{"chunkwise--native", "chunkwise--native"}, Case{"native_autograd", "chunkwise--native"},
        Case{"native_custbw", "chunkwise--native"}, Case{"native_stablef_custbw", "chunkwise--native"},
        Case{"native_compiled", "chunkwise--native_compiled"}, Case{"native_compiled_xl", "chunkwise--native_compiled"},
        Case{"auto", "chunkwise--cpu"}, Case{"cpu", "chunkwise--cpu"},
        Case{"chunkwise--queued_compiled_steps", "chunkwise--queued_compiled_steps"}}) {
    RuntimeOpts opts = on_cpu();
    opts.chunkwise_backend = c.asked;
    EXPECT_EQ(resolve(opts).chunkwise, c.key) << c.asked;
  }
  RuntimeOpts opts = on_cpu();
  opts.sequence_backend = "native_sequence__native";
  EXPECT_EQ(resolve(opts).sequence, "native_sequence__native");
}

TEST(Resolve, RefusesACompiledKernelOfAnotherDeviceAndListsWhatRuns) {
  RuntimeOpts opts = on_cpu();
  opts.step_backend = "metal";
  expect_error([&] { (void)resolve(opts); }, ExitCode::kDevice, {"step_backend", "device cpu", "native, cpu", "metal"});
  opts = on_cpu();
  opts.chunkwise_backend = "metal_autograd";
  expect_error([&] { (void)resolve(opts); }, ExitCode::kDevice, {"chunkwise_backend", "chunkwise--native"});
  opts = on_cpu();
  opts.ops_backend = "cuda";
  expect_error([&] { (void)resolve(opts); }, ExitCode::kDevice, {"ops_backend"});
}

TEST(Resolve, RefusesAnUnknownNameWithASuggestion) {
  RuntimeOpts opts = on_cpu();
  opts.chunkwise_backend = "ray_compiled_step";
  expect_error([&] { (void)resolve(opts); }, ExitCode::kUsage,
               {"chunkwise_backend", "did you mean ray_compiled_steps?"});
  opts = on_cpu();
  opts.step_backend = "triton";
  expect_error([&] { (void)resolve(opts); }, ExitCode::kUsage, {"step_backend", "triton"});
  opts = on_cpu();
  opts.chunkwise_backend = "triton_xl_chunk_siging";
  expect_error([&] { (void)resolve(opts); }, ExitCode::kUsage, {"chunkwise_backend", "siging"});
}

TEST(Resolve, RefusesADeviceThatIsNotThere) {
  if (at::hasMPS()) GTEST_SKIP() << "NOT RUN: this machine has an Apple GPU, the test needs one without";
  RuntimeOpts opts;
  opts.device = "mps";
  expect_error([&] { (void)resolve(opts); }, ExitCode::kDevice, {"device", "cpu", "mps"});
}

TEST(Resolve, TakesWeightTypesAsAskedAndAutoAsStored) {
  for (const char* dtype : {"float32", "bfloat16", "float16", "int8", "int4"}) {
    RuntimeOpts opts = on_cpu();
    opts.dtype = dtype;
    EXPECT_EQ(resolve(opts).weight_dtype, dtype);
  }
  EXPECT_EQ(resolve(on_cpu()).weight_dtype, "bfloat16");
  EXPECT_EQ(resolve(on_cpu(), "int4").weight_dtype, "int4");
}

TEST(Resolve, AQuantizedCheckpointRunsAsItIsOrAsFloatsButNotInOtherBits) {
  RuntimeOpts opts = on_cpu();
  for (const char* dtype : {"int4", "float32", "bfloat16", "float16"}) {
    opts.dtype = dtype;
    EXPECT_EQ(resolve(opts, "int4").weight_dtype, dtype);
  }
  opts.dtype = "int8";
  expect_error([&] { (void)resolve(opts, "int4"); }, ExitCode::kDevice, {"dtype (int4 checkpoint)", "got int8"});
  opts.dtype = "int4";
  expect_error([&] { (void)resolve(opts, "int8"); }, ExitCode::kDevice, {"dtype (int8 checkpoint)", "got int4"});
}

TEST(Resolve, RefusesARayClusterOnlyWhereRayWouldRun) {
  RuntimeOpts opts = on_cpu();
  opts.ray_local_mode = 0;
  expect_error([&] { (void)resolve(opts); }, ExitCode::kDevice, {"ray_local_mode", "cluster"});
  opts.chunkwise_backend = "native";
  EXPECT_EQ(resolve(opts).chunkwise, "chunkwise--native");
}

TEST(Resolve, TakesThreadsAndWorkersAsGiven) {
  RuntimeOpts opts = on_cpu();
  opts.threads = 3;
  opts.workers = 5;
  EXPECT_EQ(resolve(opts).threads, 3);
  EXPECT_EQ(resolve(opts).workers, 5);
}

}  // namespace
}  // namespace xlstm
