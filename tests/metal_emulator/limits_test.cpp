// What Metal refuses or leaves undefined is reported, of host code and of kernels.
#include <gmock/gmock.h>

#include <optional>

#include "run_kernel.h"
#include "tests/metal_emulator/registry.h"

namespace xlstm::emulator {
namespace {

using at::native::mps::DynamicMetalShaderLibrary;
using at::native::mps::MetalKernelFunction;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

struct LimitArgs {
  int number = 0;
  int other = 0;
};

class MetalLimits : public ::testing::Test {
 protected:
  [[nodiscard]] MetalKernelFunction& function(const std::string& name) {
    return *library_.getCachedKernelFunctionPtr(name);
  }

  // What a command block reports in which `encode` runs after startEncoding.
  [[nodiscard]] std::string encoding(const std::string& name, const std::function<void(MetalKernelFunction&)>& encode) {
    MetalKernelFunction& kernel = function(name);
    try {
      kernel.runCommandBlock([&] {
        kernel.startEncoding();
        encode(kernel);
      });
    } catch (const Fault& fault) {
      return fault.what();
    }
    return "";
  }

  [[nodiscard]] std::string dispatch(const std::vector<uint64_t>& length, const std::vector<uint64_t>& group) {
    return encoding("copy_args", [&](MetalKernelFunction& kernel) {
      kernel.setArg(0, &args_, sizeof(args_));
      kernel.setArg(1, out_);
      kernel.dispatch(length, at::ArrayRef<uint64_t>(group));
    });
  }

  DynamicMetalShaderLibrary library_{read_text(XLSTM_SOURCE_DIR "/tests/metal_emulator/samples/limits.metal")};
  Shader shader_{"samples/limits.metal"};
  LimitArgs args_{5, 6};
  at::Tensor out_ = at::zeros({2}, at::kInt);
};

TEST_F(MetalLimits, KernelNamesAreThoseOfTheShader) {
  EXPECT_THAT(library_.getFunctionNames(),
              ::testing::UnorderedElementsAre("copy_args", "places", "misaligned", "arithmetic", "shared_floats_8192",
                                              "shared_floats_8193", "chained_groups", "deep_stack"));
  EXPECT_THAT([&] { library_.getKernelFunction("no_such_kernel"); }, ThrowsMessage<Fault>(HasSubstr("no_such_kernel")));
}

TEST_F(MetalLimits, TextsThatAreNoCompiledShaderAreRefused) {
  EXPECT_THAT([] { DynamicMetalShaderLibrary("[[kernel]] void other(device int* x [[buffer(0)]], XLSTM_THREAD) {}"); },
              ThrowsMessage<Fault>(HasSubstr("kernels other")));
  EXPECT_THAT([] { (void)kernels_of("[[kernel]] void f(device int* x [[buffer(1)]], XLSTM_THREAD) {}"); },
              ThrowsMessage<Fault>(HasSubstr("[[buffer(1)]] stands at position 0")));
  EXPECT_THAT([] { (void)kernels_of("[[kernel]] void f(device int* x, XLSTM_THREAD) {}"); },
              ThrowsMessage<Fault>(HasSubstr("has no [[buffer(n)]]")));
  EXPECT_THAT([] { (void)kernels_of("[[kernel]] void f(device int* x [[buffer(0)]]) {}"); },
              ThrowsMessage<Fault>(HasSubstr("no XLSTM_THREAD")));
}

TEST_F(MetalLimits, BytesAreCopiedWhenTheyAreSet) {
  EXPECT_EQ(encoding("copy_args",
                     [&](MetalKernelFunction& kernel) {
                       kernel.setArg(0, &args_, sizeof(args_));
                       args_.number = 7;
                       kernel.setArg(1, out_);
                       kernel.dispatch(32, 32);
                     }),
            "");
  EXPECT_TRUE(at::equal(out_, at::tensor({5, 6}, at::kInt)));
}

TEST_F(MetalLimits, EveryThreadKnowsItsPlace) {
  const at::Tensor out = at::zeros({4, 3, 2, 64, 4}, at::kInt);
  shader_.run("places", {.groups = {2, 3, 4}, .threads = 64}, LimitArgs{2, 3}, {out});
  for (int64_t z = 0; z < 4; ++z) {
    for (int64_t y = 0; y < 3; ++y) {
      for (int64_t x = 0; x < 2; ++x) {
        const at::Tensor group = out[z][y][x];
        EXPECT_TRUE(group.select(1, 0).eq(x + 10 * y + 100 * z).all().item<bool>());
        EXPECT_TRUE(at::equal(group.select(1, 1) * 32 + group.select(1, 2), at::arange(64, at::kInt)));
      }
    }
  }
}

TEST_F(MetalLimits, GridsAreOfWholeThreadgroupsOfWholeSimdgroups) {
  EXPECT_EQ(dispatch({64, 1, 1}, {32, 1, 1}), "");
  EXPECT_EQ(dispatch({1024, 1, 1}, {1024, 1, 1}), "");
  EXPECT_THAT(dispatch({1056, 1, 1}, {1056, 1, 1}), HasSubstr("1056 threads in a threadgroup"));
  EXPECT_THAT(dispatch({48, 1, 1}, {48, 1, 1}), HasSubstr("48 threads in a threadgroup"));
  EXPECT_THAT(dispatch({48, 1, 1}, {32, 1, 1}), HasSubstr("not of whole threadgroups"));
  EXPECT_THAT(dispatch({32, 32, 1}, {32, 2, 1}), HasSubstr("more than one dimension"));
  EXPECT_THAT(dispatch({32, 32}, {32}), HasSubstr("one to three dimensions"));
}

TEST_F(MetalLimits, ArgumentsAreThoseOfTheKernel) {
  const auto dispatch_with = [&](const std::function<void(MetalKernelFunction&)>& set) {
    return encoding("copy_args", [&](MetalKernelFunction& kernel) {
      set(kernel);
      kernel.dispatch(32, 32);
    });
  };
  EXPECT_THAT(dispatch_with([&](auto& kernel) { kernel.setArg(0, &args_, sizeof(args_)); }),
              HasSubstr("buffer 1 is not set"));
  EXPECT_THAT(dispatch_with([&](auto& kernel) {
                kernel.setArg(0, &args_, 4);
                kernel.setArg(1, out_);
              }),
              HasSubstr("buffer 0 has 4 bytes, but the kernel's struct 8"));
  EXPECT_THAT(dispatch_with([&](auto& kernel) { kernel.setArg(2, out_); }), HasSubstr("the kernel has 2"));
  EXPECT_THAT(dispatch_with([&](auto& kernel) {
                kernel.setArg(0, &args_, sizeof(args_));
                kernel.setArg(1, &args_, sizeof(args_));
              }),
              HasSubstr("buffer 1 is bytes, but the kernel writes to it"));
  const std::vector<char> large(4097);
  EXPECT_THAT(dispatch_with([&](auto& kernel) { kernel.setArg(0, large.data(), large.size()); }),
              HasSubstr("4097 bytes of arguments, at most 4096"));
  EXPECT_THAT(dispatch_with([&](auto& kernel) {
                kernel.setArg(0, &args_, sizeof(args_));
                kernel.setArg(1, at::zeros({2}, at::kInt));
              }),
              HasSubstr("buffer 1 is a tensor that was freed"));
}

TEST_F(MetalLimits, CommandsBelongToACommandBlock) {
  MetalKernelFunction& kernel = function("copy_args");
  EXPECT_THAT([&] { kernel.startEncoding(); }, ThrowsMessage<Fault>(HasSubstr("outside of a command block")));
  EXPECT_THAT([&] { kernel.dispatch(32, 32); }, ThrowsMessage<Fault>(HasSubstr("outside of a command block")));
  EXPECT_THAT(encoding("copy_args", [](MetalKernelFunction& self) { self.runCommandBlock([] {}); }),
              HasSubstr("a command block within a command block"));
  EXPECT_EQ(dispatch({32, 1, 1}, {32, 1, 1}), "");  // the block before has ended
}

TEST_F(MetalLimits, ThreadgroupMemoryIsLimited) {
  const at::Tensor out = at::zeros({1});
  shader_.run("shared_floats_8192", {}, LimitArgs{3, 0}, {out});
  EXPECT_EQ(out.item<float>(), 8130.0F);
  EXPECT_THAT(shader_.fault_of("shared_floats_8193", {}, LimitArgs{}, {out}),
              HasSubstr("32772 bytes of threadgroup memory, at most 32768"));
}

class MetalChecks : public MetalLimits {
 protected:
  void SetUp() override {
    if (!has_checks()) GTEST_SKIP() << kNotChecked;
  }
};

TEST_F(MetalChecks, UndefinedArithmeticIsReported) {
  const at::Tensor in = at::tensor({1.5F, 3e9F, NAN});
  const at::Tensor out = at::zeros({1}, at::kInt);
  const auto fault = [&](int op, int number) {
    return shader_.fault_of("arithmetic", {}, LimitArgs{number, op}, {in, out});
  };
  EXPECT_EQ(fault(0, 3), "");
  EXPECT_THAT(fault(0, 4), HasSubstr("an index is outside of its array in line "));
  EXPECT_EQ(fault(1, 3), "");
  EXPECT_THAT(fault(1, 0), HasSubstr("an integer is divided by zero in line "));
  EXPECT_EQ(fault(2, 0), "");
  EXPECT_THAT(fault(2, 1), HasSubstr("a float does not fit its integer"));
  EXPECT_THAT(fault(2, 2), HasSubstr("a float does not fit its integer"));
  EXPECT_THAT(fault(3, 32), HasSubstr("a shift is too far"));
  EXPECT_THAT(fault(4, 1), HasSubstr("an integer sum overflows"));
}

TEST_F(MetalLimits, ABroadcastHasOneSource) {
  const at::Tensor in = at::zeros({1});
  const at::Tensor out = at::zeros({1}, at::kInt);
  EXPECT_EQ(shader_.fault_of("arithmetic", {}, LimitArgs{1, 5}, {in, out}), "");
  EXPECT_EQ(out.item<int>(), 3);
  EXPECT_THAT(shader_.fault_of("arithmetic", {}, LimitArgs{0, 5}, {in, out}), HasSubstr("with different lanes"));
}

TEST_F(MetalChecks, MisalignedVectorsAreReported) {
  const at::Tensor in = at::ones({8});
  const at::Tensor out = at::zeros({1});
  EXPECT_EQ(shader_.fault_of("misaligned", {}, LimitArgs{4, 0}, {in, out}), "");
  EXPECT_THAT(shader_.fault_of("misaligned", {}, LimitArgs{1, 0}, {in, out}), HasSubstr("misaligned pointer"));
  EXPECT_THAT(shader_.fault_of("misaligned", {}, LimitArgs{8, 0}, {in, out}), HasSubstr("past the end of buffer 1"));
  // As a tensor whose storage begins before it.
  EXPECT_THAT(shader_.fault_of("misaligned", {}, LimitArgs{4, 0}, {in.narrow(0, 4, 4), out}),
              HasSubstr("past the end of buffer 1 (16 bytes)"));
}

TEST_F(MetalChecks, ThreadgroupsThatReadWhatOthersWriteAreARace) {
  const ScopedSettings saved;
  settings().os_threads = 1;
  const at::Tensor out = at::zeros({9}, at::kInt);
  EXPECT_THAT(shader_.fault_of("chained_groups", {.groups = {8, 1, 1}}, LimitArgs{2, 0}, {out}),
              HasSubstr("of another threadgroup"));
}

TEST_F(MetalChecks, CommandsSeeWhatCommandsBeforeThemWrote) {
  const at::Tensor out = at::zeros({2}, at::kInt);
  for (int i = 0; i < 3; ++i) shader_.run("chained_groups", {}, LimitArgs{i, 0}, {out.narrow(0, 0, 2)});
  EXPECT_EQ(out[1].item<int>(), 2);
}

TEST_F(MetalChecks, AStackThatOverflowsIsReported) {
  EXPECT_THAT(shader_.fault_of("deep_stack", {}, LimitArgs{100000, 7}, {out_}), HasSubstr("stack"));
}

}  // namespace
}  // namespace xlstm::emulator
