// Kernels that are broken on purpose are caught, and said to be what they are.
#include <gmock/gmock.h>

#include "run_kernel.h"

namespace xlstm::emulator {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

struct MutantArgs {
  int rows;
  int columns;
};

// A kernel of samples/mutants.metal, what it is to compute, and what it does.
struct Case {
  std::string kernel;
  TestGrid grid;
  MutantArgs args;
  std::vector<at::Tensor> in;
  at::Tensor expected;

  // What is reported about the variant `_mutation`, or the largest error as "wrong: …", or "".
  std::string caught(const std::string& mutation) const {
    const Shader shader("samples/mutants.metal");
    const at::Tensor out = at::full_like(expected, NAN);
    const std::string name = kernel + (mutation.empty() ? "" : "_" + mutation);
    const std::string fault = in.size() == 1 ? shader.fault_of(name, grid, args, {in[0], out})
                                             : shader.fault_of(name, grid, args, {in[0], in[1], out});
    if (!fault.empty()) {
      EXPECT_THAT(fault, StartsWith("Metal kernel " + name + " (threadgroup "));
      return fault;
    }
    return at::allclose(out, expected, 1e-4, 1e-4) ? "" : "wrong results";
  }
};

Case gemv() {
  at::manual_seed(1);
  const at::Tensor weight = at::randn({10, 70});
  const at::Tensor x = at::randn({70});
  return {"gemv", {.groups = {3, 1, 1}, .threads = 128}, {10, 70}, {weight, x}, at::mv(weight, x)};
}

Case row_sum() {
  at::manual_seed(2);
  const at::Tensor x = at::randn({5, 300});
  return {"row_sum", {.groups = {3, 1, 1}, .threads = 128}, {5, 300}, {x}, x.sum(1)};
}

Case tiled() {
  at::manual_seed(3);
  const at::Tensor a = at::randn({32, 24});
  const at::Tensor b = at::randn({32, 24});
  return {"tiled", {.groups = {2, 2, 1}, .threads = 128}, {32, 24}, {a, b}, at::mm(a, b.t())};
}

class MetalMutants : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!has_checks()) GTEST_SKIP() << kNotChecked;
  }
};

TEST(MetalMutantsUnchecked, CorrectKernelsPassInEveryOrder) {
  const ScopedSettings saved;
  for (const Order order : {Order::kForward, Order::kReversed, Order::kShuffled}) {
    settings().order = order;
    for (const Case& kernel : {gemv(), row_sum(), tiled()}) EXPECT_EQ(kernel.caught(""), "") << kernel.kernel;
  }
}

TEST_F(MetalMutants, MissingBarriersAreRaces) {
  const ScopedSettings saved;
  for (const Order order : {Order::kForward, Order::kReversed, Order::kShuffled}) {
    settings().order = order;
    EXPECT_THAT(row_sum().caught("missing_barrier"), HasSubstr("threadgroup array partial"));
    EXPECT_THAT(row_sum().caught("missing_second_barrier"), HasSubstr("no barrier between: a race"));
    EXPECT_THAT(tiled().caught("missing_barrier"), HasSubstr("threadgroup array tile_"));
    EXPECT_THAT(tiled().caught("missing_second_barrier"), HasSubstr("no barrier between: a race"));
  }
}

TEST_F(MetalMutants, BarriersThatOrderSomethingElseAreRaces) {
  const ScopedSettings saved;
  settings().order = Order::kForward;
  EXPECT_THAT(row_sum().caught("barrier_for_other_memory"), HasSubstr("no barrier between: a race"));
  settings().order = Order::kReversed;  // the reading simdgroup last
  EXPECT_THAT(row_sum().caught("simdgroup_barrier_only"), HasSubstr("no barrier between: a race"));
}

TEST(MetalMutantsUnchecked, DivergenceIsReportedWithBothPlaces) {
  EXPECT_THAT(row_sum().caught("divergent_barrier"),
              AllOf(HasSubstr("arrives at threadgroup_barrier of line"), HasSubstr("but simdgroup ")));
  EXPECT_THAT(gemv().caught("divergent_sum"), HasSubstr("simd_sum of line"));
  EXPECT_THAT(gemv().caught("other_call_of_sum"), AllOf(HasSubstr("arrives at simd_sum of line"), HasSubstr(", but ")));
  EXPECT_THAT(gemv().caught("early_return"), AllOf(HasSubstr("simd_sum of line"), HasSubstr("the kernel's end")));
}

TEST_F(MetalMutants, AccessesOutsideOfBuffersAreReported) {
  EXPECT_THAT(gemv().caught("row_too_many"), HasSubstr("reads 4 bytes "));
  EXPECT_THAT(gemv().caught("row_too_many"), HasSubstr("past the end of buffer 1 (2800 bytes)"));
  EXPECT_THAT(gemv().caught("column_too_many"), HasSubstr("reads 4 bytes 0 bytes past the end of buffer "));
  EXPECT_THAT(gemv().caught("wrong_row"), HasSubstr("past the end of buffer 1 (2800 bytes)"));
  EXPECT_THAT(gemv().caught("write_to_const"), HasSubstr("writes to buffer 1, which is const"));
  EXPECT_NE(tiled().caught("row_too_many"), "");
  EXPECT_NE(tiled().caught("other_tile"), "");
}

TEST_F(MetalMutants, AccessesOutsideOfThreadgroupArraysAreReported) {
  EXPECT_THAT(row_sum().caught("array_overrun"), HasSubstr("an index is outside of its array"));
  EXPECT_THAT(row_sum().caught("array_overrun_by_pointer"),
              HasSubstr("writes 4 bytes 0 bytes past the end of threadgroup array partial (16 bytes)"));
  EXPECT_THAT(row_sum().caught("array_underrun"),
              HasSubstr("reads 4 bytes 4 bytes before threadgroup array partial (16 bytes)"));
}

TEST_F(MetalMutants, UnwrittenThreadgroupMemoryIsReported) {
  EXPECT_THAT(row_sum().caught("unwritten_read"),
              HasSubstr("reads element 2 before it was written (threadgroup array partial)"));
}

TEST_F(MetalMutants, TwoWritersOfOneElementAreARace) {
  EXPECT_THAT(gemv().caught("wrong_simdgroup"), AllOf(HasSubstr("writes element "), HasSubstr("(buffer 3)")));
  EXPECT_THAT(gemv().caught("every_lane_writes"), AllOf(HasSubstr("writes element "), HasSubstr("a race (buffer 3)")));
  EXPECT_THAT(row_sum().caught("wrong_simdgroup"), HasSubstr("writes element "));
  EXPECT_THAT(tiled().caught("wrong_simdgroup"), HasSubstr("a race (buffer 3)"));
}

TEST(MetalMutantsUnchecked, WrongIndicesThatNoCheckSeesGiveWrongResults) {
  EXPECT_EQ(tiled().caught("wrong_transpose"), "wrong results");
}

// Without the checks, a difference between two orders of the threads still shows a missing barrier.
TEST(MetalMutantsUnchecked, OrdersShowWhatDependsOnThem) {
  const ScopedSettings saved;
  settings().check_races = false;
  const Shader shader("samples/mutants.metal");
  const Case kernel = row_sum();
  const auto run = [&](const std::string& name) {
    return order_dependence([&] {
      const at::Tensor out = at::zeros_like(kernel.expected);
      shader.run(name, kernel.grid, kernel.args, {kernel.in[0], out});
      return std::string(static_cast<const char*>(out.const_data_ptr()), out.nbytes());
    });
  };
  EXPECT_EQ(run("row_sum"), "");
  EXPECT_THAT(run("row_sum_missing_barrier"), HasSubstr("differs from the forward one at byte "));
}

}  // namespace
}  // namespace xlstm::emulator
