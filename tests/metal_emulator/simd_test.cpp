// The functions of a simdgroup.
#include <gmock/gmock.h>

#include <functional>

#include "run_kernel.h"

namespace xlstm::emulator {
namespace {

using ::testing::HasSubstr;

struct SimdArgs {
  int op;
  int lanes;
};

constexpr TestGrid kGrid{.groups = {4, 1, 1}, .threads = 64};

class MetalSimd : public ::testing::Test {
 protected:
  // Of `in`, [8, 32]: the lanes of eight simdgroups.
  [[nodiscard]] at::Tensor apply(const std::string& kernel, SimdArgs args, const at::Tensor& in) const {
    const at::Tensor out = at::empty_like(in);
    shader_.run(kernel, kGrid, args, {in, out});
    return out;
  }
  // What lane i gets if it takes the value of lane source(i), or of none.
  [[nodiscard]] static at::Tensor moved(const at::Tensor& in, const std::function<int(int)>& source) {
    at::Tensor result = at::full_like(in, NAN);
    for (int lane = 0; lane < 32; ++lane) {
      const int from = source(lane);
      if (from >= 0 && from < 32) result.select(1, lane).copy_(in.select(1, from));
    }
    return result;
  }

  Shader shader_{"samples/simd.metal"};
  at::Tensor in_ = (at::manual_seed(7), at::randn({8, 32}));
};

TEST_F(MetalSimd, ReductionsReachEveryLane) {
  const auto spread = [](const at::Tensor& column) { return column.unsqueeze(1).expand({8, 32}); };
  EXPECT_TRUE(at::allclose(apply("simd_float", {0, 0}, in_), spread(in_.sum(1)), 1e-5, 1e-6));
  EXPECT_TRUE(at::equal(apply("simd_float", {1, 0}, in_), spread(in_.amax(1))));
  EXPECT_TRUE(at::equal(apply("simd_float", {2, 0}, in_), spread(in_.amin(1))));
  const at::Tensor whole = at::randint(-1000, 1000, {8, 32}, at::kInt);
  EXPECT_TRUE(at::equal(apply("reduce_int", {0, 0}, whole), spread(whole.sum(1).to(at::kInt))));
  EXPECT_TRUE(at::equal(apply("reduce_int", {1, 0}, whole), spread(whole.amax(1))));
  EXPECT_TRUE(at::equal(apply("reduce_int", {2, 0}, whole), spread(whole.amin(1))));
  // As unsigned numbers the negative ones are the largest.
  const at::Tensor negative_max = at::where(whole < 0, whole, at::full_like(whole, INT_MIN)).amax(1);
  EXPECT_TRUE(at::equal(apply("reduce_uint", {1, 0}, whole), spread(negative_max)));
}

TEST_F(MetalSimd, MovesTakeTheLanesTheyName) {
  EXPECT_TRUE(at::equal(apply("simd_float", {3, 17}, in_), moved(in_, [](int) { return 17; })));
  EXPECT_TRUE(at::equal(apply("simd_float", {4, 0}, in_), moved(in_, [](int) { return 0; })));
  EXPECT_TRUE(at::equal(apply("simd_float", {5, 3}, in_), moved(in_, [](int) { return 3; })));
  EXPECT_TRUE(at::equal(apply("simd_float", {6, 5}, in_), moved(in_, [](int lane) { return lane ^ 5; })));
}

TEST_F(MetalSimd, LanesThatNoLaneGivesAnythingGetNan) {
  const at::Tensor down = apply("simd_float", {7, 4}, in_);
  EXPECT_TRUE(at::allclose(down, moved(in_, [](int lane) { return lane + 4; }), 0, 0, true));
  const at::Tensor up = apply("simd_float", {8, 4}, in_);
  EXPECT_TRUE(at::allclose(up, moved(in_, [](int lane) { return lane - 4; }), 0, 0, true));
}

TEST_F(MetalSimd, ValuesOfEverySizeMove) {
  const auto source = [](int lane) { return lane * 7 % 32; };
  EXPECT_TRUE(at::equal(apply("permute_float", {0, 7}, in_), moved(in_, source)));
  const at::Tensor halves = in_.to(at::kHalf);
  EXPECT_TRUE(at::equal(apply("permute_half", {0, 7}, halves), moved(halves, source)));
  const at::Tensor bytes = at::randint(0, 256, {8, 32}, at::kByte);
  const at::Tensor moved_bytes = moved(bytes.to(at::kFloat), source).to(at::kByte);
  EXPECT_TRUE(at::equal(apply("permute_uchar", {0, 7}, bytes), moved_bytes));
  const at::Tensor quads = at::randn({8, 32, 4});
  EXPECT_TRUE(at::equal(apply("permute_float4", {0, 7}, quads), moved(quads, source)));
}

TEST_F(MetalSimd, ResultsDoNotDependOnTheOrder) {
  EXPECT_EQ(order_dependence([&] {
              const at::Tensor out = apply("simd_float", {0, 0}, in_);
              return std::string(static_cast<const char*>(out.const_data_ptr()), out.nbytes());
            }),
            "");
}

}  // namespace
}  // namespace xlstm::emulator
