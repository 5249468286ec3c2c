// Numbers, vectors and functions of the shading language behave as libtorch's.
#include <gmock/gmock.h>

#include <cmath>
#include <limits>

#include "run_kernel.h"

namespace xlstm::emulator {
namespace {

struct TypesArgs {
  int count;
};

class MetalTypes : public ::testing::TestWithParam<std::pair<const char*, at::ScalarType>> {
 protected:
  void run(const std::string& kernel, const at::Tensor& in, const at::Tensor& out) const {
    run(kernel, in.numel(), {in, out});
  }
  void run(const std::string& kernel, int64_t count, std::initializer_list<at::Tensor> buffers) const {
    const auto groups = static_cast<uint64_t>((count + 31) / 32);
    shader_.run(kernel + "_" + GetParam().first, {.groups = {groups, 1, 1}}, TypesArgs{static_cast<int>(count)},
                buffers);
  }

  [[nodiscard]] static at::Tensor all_of(at::ScalarType type) {
    return at::arange(65536, at::kInt).to(at::kShort).view(type);
  }
  // Equal bits, or NaN in both.
  static void expect_same(const at::Tensor& got, const at::Tensor& expected) {
    const at::Tensor same = at::eq(got, expected).logical_and(at::eq(got.signbit(), expected.signbit()));
    EXPECT_TRUE(same.logical_or(got.isnan().logical_and(expected.isnan())).all().item<bool>());
  }

  Shader shader_{"samples/types.metal"};
};

TEST_P(MetalTypes, EveryValueWidensExactly) {
  const at::Tensor in = all_of(GetParam().second);
  const at::Tensor out = at::empty({65536}, at::kFloat);
  run("widen", in, out);
  expect_same(out, in.to(at::kFloat));
}

TEST_P(MetalTypes, FloatsRoundToNearestEven) {
  const at::Tensor exact = all_of(GetParam().second).to(at::kFloat);
  // Every value, halfway to its neighbour, and a float more and less than that.
  const at::Tensor steps = at::tensor(
      {-32769, -32768, -32767, -4097, -4096, -4095, -1, 0, 1, 4095, 4096, 4097, 32767, 32768, 32769}, at::kInt);
  const at::Tensor in = (exact.view(at::kInt).unsqueeze(1) + steps).reshape(-1).view(at::kFloat);
  const at::Tensor out = at::empty(in.sizes(), GetParam().second);
  run("narrow", in, out);
  expect_same(out.to(at::kFloat), in.to(GetParam().second).to(at::kFloat));
}

TEST_P(MetalTypes, SubnormalAndRandomFloatsRoundAsInLibtorch) {
  at::manual_seed(4);
  const at::Tensor in =
      at::randint(std::numeric_limits<int>::min(), std::numeric_limits<int>::max(), {1 << 17}, at::kInt)
          .view(at::kFloat);
  const at::Tensor small = at::randn({1 << 16}) * std::ldexp(1.0, -20);
  for (const at::Tensor& values : {in, small}) {
    const at::Tensor out = at::empty(values.sizes(), GetParam().second);
    run("narrow", values, out);
    expect_same(out.to(at::kFloat), values.to(GetParam().second).to(at::kFloat));
  }
}

TEST_P(MetalTypes, EachOperationRounds) {
  at::manual_seed(5);
  const at::Tensor a = at::randn({4096}).to(GetParam().second);
  const at::Tensor b = at::randn({4096}).to(GetParam().second);
  const at::Tensor out = at::empty_like(a);
  run("multiply_add", 4096, {a, b, out});
  EXPECT_TRUE(at::equal(out, a * b + a));
}

INSTANTIATE_TEST_SUITE_P(Formats, MetalTypes,
                         ::testing::Values(std::pair("half", at::kHalf), std::pair("bfloat", at::kBFloat16)),
                         [](const auto& format) { return format.param.first; });

TEST(MetalVectors, ElementsAreWhatTheyAreInMetal) {
  const Shader shader("samples/types.metal");
  const at::Tensor in = at::tensor({1.0, 2.0, 3.0, 4.5, 5.0, -6.0, 7.0, 8.0}, at::kFloat);
  const at::Tensor out = at::empty({18}, at::kFloat);
  shader.run("vectors", {}, TypesArgs{18}, {in, out});
  const at::Tensor expected =
      at::tensor({50.0, -2.0, -2.0, 7.0, 4.0, -128.0, -1.0, 8.0, 5.0, 3.0, 5.0, 1.0, 0.0, 1.0, 16.0, -10.0, -3.0, 3.0},
                 at::kFloat);
  EXPECT_TRUE(at::equal(out, expected)) << out;
}

TEST(MetalFunctions, AgreeWithLibtorchAtOrdinaryAndSpecialValues) {
  const Shader shader("samples/types.metal");
  const float infinity = std::numeric_limits<float>::infinity();
  const at::Tensor x =
      at::tensor({0.0F, 1.0F, -1.5F, 2.5F, 88.0F, -200.0F, infinity, -infinity, NAN, 1e-30F}, at::kFloat);
  const at::Tensor padded = at::zeros({32}, at::kFloat);
  padded.narrow(0, 0, x.numel()).copy_(x);
  const at::Tensor out = at::empty({9, x.numel()}, at::kFloat);
  shader.run("functions", {}, TypesArgs{static_cast<int>(x.numel())}, {padded, out});
  const at::Tensor kind = x.isnan().to(at::kFloat) + 2 * x.isinf().to(at::kFloat);
  const at::Tensor expected = at::stack(
      {x.exp(), x.log(), x.tanh(), x.sqrt(), x.rsqrt(), x.floor(), kind, at::fmax(x, at::zeros({})), x.abs()});
  EXPECT_TRUE(at::allclose(out, expected, 1e-6, 0, true)) << out << expected;
}

}  // namespace
}  // namespace xlstm::emulator
