// Matrices of a simdgroup.
#include <gmock/gmock.h>

#include "run_kernel.h"

namespace xlstm::emulator {
namespace {

struct MatrixArgs {
  int stride = 8;
  int column = 0;
  int row = 0;
  int transpose = 0;
};

class MetalMatrix : public ::testing::Test {
 protected:
  Shader shader_{"samples/matrix.metal"};
};

TEST_F(MetalMatrix, LoadsFromAnOriginWithAStrideAndTransposed) {
  for (const auto& [name, type] : {std::pair("float", at::kFloat), {"half", at::kHalf}, {"bfloat", at::kBFloat16}}) {
    const at::Tensor in = at::arange(20 * 13, at::kFloat).remainder(251).to(type).view({20, 13});
    const at::Tensor out = at::empty({8, 8}, type);
    const at::Tensor part = in.narrow(0, 7, 8).narrow(1, 3, 8);
    shader_.run(std::string("copy_matrix_") + name, {}, MatrixArgs{13, 3, 7, 0}, {in, out});
    EXPECT_TRUE(at::equal(out, part)) << name;
    shader_.run(std::string("copy_matrix_") + name, {}, MatrixArgs{13, 3, 7, 1}, {in, out});
    EXPECT_TRUE(at::equal(out, part.t())) << name;
  }
}

TEST_F(MetalMatrix, StoresToAnOriginWithAStrideAndTransposed) {
  const at::Tensor in = at::randn({8, 8});
  const at::Tensor out = at::zeros({20, 13});
  shader_.run("store_matrix", {}, MatrixArgs{13, 3, 7, 0}, {in, out});
  EXPECT_TRUE(at::equal(out.narrow(0, 7, 8).narrow(1, 3, 8), in));
  EXPECT_EQ(out.count_nonzero().item<int64_t>(), 64);
  shader_.run("store_matrix", {}, MatrixArgs{13, 3, 7, 1}, {in, out});
  EXPECT_TRUE(at::equal(out.narrow(0, 7, 8).narrow(1, 3, 8), in.t()));
}

TEST_F(MetalMatrix, MultipliesInFloat) {
  at::manual_seed(6);
  for (const auto& [name, type] : {std::pair("float", at::kFloat), {"half", at::kHalf}, {"bfloat", at::kBFloat16}}) {
    const at::Tensor a = at::randn({8, 8}).to(type);
    const at::Tensor b = at::randn({8, 8}).to(type);
    const at::Tensor c = at::randn({8, 8});
    const at::Tensor out = at::empty({8, 8});
    shader_.run(std::string("multiply_matrix_") + name, {}, MatrixArgs{}, {a, b, c, out});
    EXPECT_TRUE(at::allclose(out, at::mm(a.to(at::kFloat), b.to(at::kFloat)) + c, 1e-6, 1e-6)) << name;
  }
}

TEST_F(MetalMatrix, LanesHoldPairsInTheOrderOfAppleGpus) {
  const at::Tensor out = at::empty({32, 2});
  shader_.run("lanes_of_matrix", {}, MatrixArgs{}, {at::arange(64, at::kFloat), out});
  for (int lane : {0, 1, 2, 8, 9, 16, 31}) {
    const int q = lane / 4;
    const int row = (q & 4) + lane / 2 % 4;
    const int column = (q & 2) * 2 + lane % 2 * 2;
    EXPECT_EQ(out[lane][0].item<float>(), static_cast<float>(row * 8 + column)) << lane;
    EXPECT_EQ(out[lane][1].item<float>(), static_cast<float>(row * 8 + column + 1)) << lane;
  }
}

TEST_F(MetalMatrix, AnElementPastTheBufferIsReported) {
  if (!has_checks()) GTEST_SKIP() << kNotChecked;
  const at::Tensor in = at::zeros({63});
  EXPECT_THAT(shader_.fault_of("copy_matrix_float", {}, MatrixArgs{}, {in, at::empty({64})}),
              ::testing::HasSubstr("reads 4 bytes 0 bytes past the end of buffer 1 (252 bytes)"));
}

}  // namespace
}  // namespace xlstm::emulator
