#include "xlstm/model/load_weights.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <string>

#include "kernels/native/dequantize.h"
#include "kernels/native/native_ops.h"
#include "tests/model/editable_checkpoint.h"
#include "tests/support/expect_error.h"
#include "tests/support/temp_dir.h"

namespace xlstm {
namespace {

using test::EditableCheckpoint;
using test::expect_error;
using test::zoo_dir;

Weights load(const std::filesystem::path& dir, const std::string& dtype = "float32") {
  const Checkpoint checkpoint(dir);
  const CheckpointLayout layout = resolve_layout(checkpoint);
  const auto ops = make_native_ops(dims_of(layout.config), at::kCPU);
  ThreadPool pool(2);
  return load_weights(checkpoint, layout, *ops, {weight_formats(dtype, layout), pool, /*progress=*/false});
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
  const Weights weights = load(zoo_dir("bias_f32"), "bfloat16");
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

  void expect_refused(const std::vector<std::string>& parts, const std::string& dtype = "float32") {
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
  expect_refused({name, "float16"}, "float16");
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

ModelDims odd_dims() {
  ModelDims dims;
  dims.vocab_size = 20;
  dims.embedding_dim = 35;
  dims.num_heads = 2;
  dims.head_dim_qk = 4;
  dims.head_dim_v = 8;
  dims.ffn_dim = 71;
  return dims;
}

Weights random(uint64_t seed, const std::string& dtype, int threads = 2) {
  const auto ops = make_native_ops(odd_dims(), at::kCPU);
  ThreadPool pool(threads);
  return random_weights({odd_dims(), 2, seed}, *ops, {weight_formats(dtype), pool, /*progress=*/false});
}

TEST(RandomWeights, EqualSeedsGiveEqualWeightsOnAnyNumberOfThreads) {
  for (const char* dtype : {"float32", "bfloat16", "int8", "int4"}) {
    const Weights a = random(3, dtype, 1);
    const Weights b = random(3, dtype, 5);
    const Weights c = random(4, dtype);
    EXPECT_TRUE(at::equal(a.blocks[1].qkvo.weight, b.blocks[1].qkvo.weight)) << dtype;
    EXPECT_FALSE(at::equal(a.blocks[1].qkvo.weight, c.blocks[1].qkvo.weight)) << dtype;
    EXPECT_FALSE(at::equal(a.blocks[0].qkvo.weight, a.blocks[1].qkvo.weight)) << dtype;
  }
}

// Products of normal inputs then have about the size of one input.
TEST(RandomWeights, HaveTheVarianceOfOneOverTheInputs) {
  for (const char* dtype : {"float32", "float16", "int8", "int4"}) {
    const Weights weights = random(5, dtype);
    const at::Tensor values = dequantize(weights.blocks[0].ffn_gate_up);
    EXPECT_NEAR(values.std().item<double>() * std::sqrt(35.0), 1.0, 0.1) << dtype;
    EXPECT_NEAR(values.mean().item<double>() * std::sqrt(35.0), 0.0, 0.15) << dtype;
  }
}

TEST(RandomWeights, QuantizedOnesHaveAnInt8HeadAndABfloat16Table) {
  const Weights weights = random(1, "int4");
  EXPECT_EQ(weights.blocks[0].ffn_down.format, WeightFormat::kInt4);
  EXPECT_EQ(weights.head.format, WeightFormat::kInt8);
  EXPECT_EQ(weights.embedding.scalar_type(), at::kBFloat16);
  EXPECT_EQ(weights.blocks[0].gates.format, WeightFormat::kFloat32);
  EXPECT_LE(weights.blocks[0].ffn_down.zero.max().item<int64_t>(), 15);
}

}  // namespace
}  // namespace xlstm
