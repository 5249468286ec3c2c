#include "xlstm/model/load_weights.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cstring>
#include <limits>

#include "kernels/native/native_ops.h"
#include "tests/model/editable_checkpoint.h"
#include "tests/support/expect_error.h"
#include "tests/support/temp_dir.h"

namespace xlstm {
namespace {

using test::EditableCheckpoint;
using test::expect_error;
using test::zoo_dir;

Weights load(const std::filesystem::path& dir, at::ScalarType dtype = at::kFloat) {
  const Checkpoint checkpoint(dir);
  const CheckpointLayout layout = resolve_layout(checkpoint);
  const auto ops = make_native_ops(dims_of(layout.config), at::kCPU);
  return load_weights(checkpoint, layout, *ops, {dtype, /*progress=*/false});
}

TEST(LoadWeights, SingleAndFusedFilesGiveTheSameShapes) {
  const Weights single = load(zoo_dir("single_f32"));
  const Weights fused = load(zoo_dir("fused_f32"));
  ASSERT_EQ(single.blocks.size(), fused.blocks.size());
  for (size_t b = 0; b < single.blocks.size(); ++b) {
    EXPECT_EQ(single.blocks[b].qkvo.weight.sizes(), fused.blocks[b].qkvo.weight.sizes());
    EXPECT_EQ(single.blocks[b].gates.bias.sizes(), fused.blocks[b].gates.bias.sizes());
    EXPECT_EQ(single.blocks[b].ffn_gate_up.weight.sizes(), fused.blocks[b].ffn_gate_up.weight.sizes());
  }
}

TEST(LoadWeights, ATiedHeadSharesTheEmbeddingsMemory) {
  const Weights tied = load(zoo_dir("tied_qk1_f32"));
  EXPECT_TRUE(tied.head.weight.is_alias_of(tied.embedding));
  EXPECT_EQ(total_bytes(tied), bytes_read_per_token(tied));
}

TEST(LoadWeights, ConvertsMatricesAndKeepsVectorsAndGatesInFloat32) {
  const Weights weights = load(zoo_dir("bias_f32"), at::kBFloat16);
  const BlockWeights& block = weights.blocks.front();
  EXPECT_EQ(block.qkvo.weight.scalar_type(), at::kBFloat16);
  EXPECT_EQ(block.qkvo.bias.scalar_type(), at::kFloat);
  EXPECT_EQ(block.gates.weight.scalar_type(), at::kFloat);
  EXPECT_EQ(block.norm_mlstm.weight.scalar_type(), at::kFloat);
  const Weights exact = load(zoo_dir("bias_f32"));
  EXPECT_TRUE(at::equal(block.qkvo.weight, exact.blocks.front().qkvo.weight.to(at::kBFloat16)));
}

class DamagedCheckpoint : public testing::Test {
 protected:
  DamagedCheckpoint() : checkpoint_(zoo_dir("single_f32")) {}

  void set_first_element(const std::string& name, float value) {
    std::memcpy(checkpoint_.tensors.at(name).bytes.data(), &value, sizeof value);
  }

  void expect_refused(const std::vector<std::string>& parts, at::ScalarType dtype = at::kFloat) {
    checkpoint_.write(dir_.path());
    expect_error([&] { (void)load(dir_.path(), dtype); }, ExitCode::kCheckpoint, parts);
  }

  EditableCheckpoint checkpoint_;
  test::TempDir dir_;
};

TEST_F(DamagedCheckpoint, NamesTheTensorThatHoldsNan) {
  const std::string name = "backbone.blocks.1.ffn.proj_down.weight";
  set_first_element(name, std::numeric_limits<float>::quiet_NaN());
  expect_refused({name, "finite"});
}

TEST_F(DamagedCheckpoint, NamesTheTensorThatHoldsInfinity) {
  const std::string name = "backbone.embeddings.weight";
  set_first_element(name, -std::numeric_limits<float>::infinity());
  expect_refused({name, "finite"});
}

TEST_F(DamagedCheckpoint, NamesTheTensorThatFloat16CannotHold) {
  const std::string name = "lm_head.weight";
  set_first_element(name, 1e6F);
  expect_refused({name, "float16"}, at::kHalf);
}

TEST_F(DamagedCheckpoint, NamesAMissingTensor) {
  checkpoint_.tensors.erase("backbone.blocks.0.mlstm_layer.k.weight");
  expect_refused({"mlstm_layer.k.weight"});
}

TEST_F(DamagedCheckpoint, NamesAnUnexpectedTensor) {
  checkpoint_.zeros("backbone.blocks.0.mlstm_layer.extra.weight", {4, 4});
  expect_refused({"mlstm_layer.extra.weight"});
}

TEST_F(DamagedCheckpoint, NamesAMisshapenTensor) {
  checkpoint_.zeros("backbone.blocks.1.norm_ffn.weight", {7});
  expect_refused({"norm_ffn.weight", "[7]"});
}

TEST(RandomWeights, EqualSeedsGiveEqualWeights) {
  ModelDims dims;
  dims.vocab_size = 20;
  dims.embedding_dim = 16;
  dims.num_heads = 2;
  dims.head_dim_qk = 4;
  dims.head_dim_v = 8;
  dims.ffn_dim = 24;
  const auto ops = make_native_ops(dims, at::kCPU);
  const Weights a = random_weights(dims, 2, *ops, at::kFloat, 3);
  const Weights b = random_weights(dims, 2, *ops, at::kFloat, 3);
  const Weights c = random_weights(dims, 2, *ops, at::kFloat, 4);
  EXPECT_TRUE(at::equal(a.blocks[1].qkvo.weight, b.blocks[1].qkvo.weight));
  EXPECT_FALSE(at::equal(a.blocks[1].qkvo.weight, c.blocks[1].qkvo.weight));
}

}  // namespace
}  // namespace xlstm
