// Quantizing while loading, and loading what `quantize` wrote.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "kernels/native/dequantize.h"
#include "kernels/native/native_ops.h"
#include "tests/model/editable_checkpoint.h"
#include "tests/support/expect_error.h"
#include "tests/support/temp_dir.h"
#include "xlstm/core/run_status.h"
#include "xlstm/model/load_weights.h"
#include "xlstm/model/quantize_checkpoint.h"

namespace xlstm {
namespace {

using test::EditableCheckpoint;
using test::expect_error;
using test::zoo_dir;

constexpr const char* kZoo[] = {"single_f32", "fused_f32", "bias_f32", "tied_qk1_f32", "caps_f16", "heads3_bf16"};

Weights load(const std::filesystem::path& dir, const std::string& dtype) {
  const Checkpoint checkpoint(dir);
  const CheckpointLayout layout = resolve_layout(checkpoint);
  const auto ops = make_native_ops(dims_of(layout.config), at::kCPU);
  ThreadPool pool(2);
  return load_weights(checkpoint, layout, *ops, {weight_formats(dtype, layout), pool, /*progress=*/false});
}

void write_quantized(const std::filesystem::path& source, const std::filesystem::path& destination,
                     const Quantization& quantization) {
  QuantizeRequest request;
  request.source = source;
  request.destination = destination;
  request.quantization = quantization;
  request.progress = false;
  ThreadPool pool(2);
  (void)quantize_checkpoint(request, pool);
}

// Every matrix that may be quantized.
std::vector<Linear> matrices(const Weights& weights) {
  std::vector<Linear> out;
  for (const BlockWeights& block : weights.blocks) {
    out.insert(out.end(), {block.qkvo, block.out_proj, block.ffn_gate_up, block.ffn_down});
  }
  out.push_back(weights.head);
  return out;
}

bool same(const at::Tensor& a, const at::Tensor& b) {
  return a.defined() == b.defined() && (!a.defined() || (a.scalar_type() == b.scalar_type() && at::equal(a, b)));
}

TEST(LoadQuantized, QuantizingAtLoadAndAheadOfTimeGiveTheSameBits) {
  for (const char* name : kZoo) {
    for (const int64_t bits : {8, 4}) {
      const test::TempDir dir;
      const Quantization quantization = default_quantization(bits);
      write_quantized(zoo_dir(name), dir / "q", quantization);
      const Weights at_load = load(zoo_dir(name), quantization.dtype());
      const Weights ahead = load(dir / "q", quantization.dtype());
      const std::vector<Linear> a = matrices(at_load);
      const std::vector<Linear> b = matrices(ahead);
      for (size_t i = 0; i < a.size(); ++i) {
        EXPECT_EQ(a[i].format, b[i].format);
        EXPECT_EQ(a[i].group, b[i].group);
        EXPECT_TRUE(same(a[i].weight, b[i].weight)) << name << ' ' << i;
        EXPECT_TRUE(same(a[i].scale, b[i].scale)) << name << ' ' << i;
        EXPECT_TRUE(same(a[i].zero, b[i].zero)) << name << ' ' << i;
        EXPECT_TRUE(same(a[i].bias, b[i].bias)) << name << ' ' << i;
      }
      EXPECT_TRUE(same(at_load.embedding, ahead.embedding));
      EXPECT_TRUE(same(at_load.blocks[0].gates.weight, ahead.blocks[0].gates.weight));
    }
  }
}

TEST(LoadQuantized, KeepsTheEmbeddingInItsOwnTypeAndTheRestInFloat32) {
  const Weights weights = load(zoo_dir("heads3_bf16"), "int8");
  EXPECT_EQ(weights.embedding.scalar_type(), at::kBFloat16);
  EXPECT_EQ(weights.blocks[0].gates.format, WeightFormat::kFloat32);
  EXPECT_EQ(weights.blocks[0].norm_mlstm.weight.scalar_type(), at::kFloat);
  EXPECT_EQ(weights.head.format, WeightFormat::kInt8);
}

TEST(LoadQuantized, ATiedHeadIsQuantizedFromTheTable) {
  const Weights weights = load(zoo_dir("tied_qk1_f32"), "int4");
  EXPECT_EQ(weights.head.format, WeightFormat::kInt8);
  const at::Tensor table = weights.embedding.to(at::kFloat);
  EXPECT_LT((dequantize(weights.head) - table).norm().item<double>(), 0.01 * table.norm().item<double>());
}

TEST(LoadQuantized, TheProgressOfATiedModelCountsTheTableTwice) {
  const Checkpoint checkpoint(zoo_dir("tied_qk1_f32"));
  const auto file = static_cast<int64_t>(checkpoint.total_bytes());
  const std::string table = resolve_layout(checkpoint).embedding.sources.front();
  (void)load(zoo_dir("tied_qk1_f32"), "int8");
  EXPECT_EQ(run_counters().total, file + static_cast<int64_t>(checkpoint.tensor(table).bytes.size()));
  EXPECT_EQ(run_counters().done, run_counters().total);
  (void)load(zoo_dir("tied_qk1_f32"), "float32");
  EXPECT_EQ(run_counters().total, file);
  EXPECT_EQ(run_counters().done, run_counters().total);
}

TEST(LoadQuantized, FloatTypesOfAQuantizedCheckpointAreItsDequantizedValues) {
  for (const Quantization& quantization :
       {default_quantization(8), default_quantization(4), Quantization{8, 64, QuantScheme::kSymmetric}}) {
    const test::TempDir dir;
    write_quantized(zoo_dir("bias_f32"), dir / "q", quantization);
    const std::vector<Linear> codes = matrices(load(dir / "q", quantization.dtype()));
    const std::vector<Linear> floats = matrices(load(dir / "q", "float32"));
    const std::vector<Linear> halves = matrices(load(dir / "q", "bfloat16"));
    for (size_t i = 0; i < codes.size(); ++i) {
      EXPECT_EQ(floats[i].format, WeightFormat::kFloat32);
      EXPECT_TRUE(at::equal(floats[i].weight, dequantize(codes[i])));
      EXPECT_TRUE(at::equal(halves[i].weight, floats[i].weight.to(at::kBFloat16)));
    }
  }
}

class DamagedQuantized : public testing::Test {
 protected:
  static EditableCheckpoint make() {
    const test::TempDir dir;
    write_quantized(zoo_dir("single_f32"), dir / "q", default_quantization(4));
    return EditableCheckpoint(dir / "q");
  }

  void expect_refused(const std::vector<std::string>& parts) {
    checkpoint_.write(dir_.path());
    for (const char* dtype : {"int4", "float32"}) {
      expect_error([&] { (void)load(dir_.path(), dtype); }, ExitCode::kCheckpoint, parts);
    }
  }

  EditableCheckpoint checkpoint_ = make();
  test::TempDir dir_;
};

TEST_F(DamagedQuantized, NamesTheTensorWhoseScaleIsInfinite) {
  auto& bytes = checkpoint_.tensors.at("backbone.blocks.1.ffn.proj_down.scale").bytes;
  bytes[8] = std::byte{0x00};
  bytes[9] = std::byte{0x7c};
  expect_refused({"backbone.blocks.1.ffn.proj_down.weight", "NaN or infinite"});
}

TEST_F(DamagedQuantized, NamesTheTensorWhoseZeroPointIsAbove15) {
  checkpoint_.tensors.at("backbone.blocks.0.ffn.proj_up.zero").bytes[3] = std::byte{16};
  expect_refused({"backbone.blocks.0.ffn.proj_up.weight", "above 15"});
}

TEST(LoadQuantized, NamesTheTensorThatIsTooLargeForItsScales) {
  EditableCheckpoint checkpoint(zoo_dir("single_f32"));
  const float large = 1e30F;
  auto& bytes = checkpoint.tensors.at("lm_head.weight").bytes;
  std::copy_n(reinterpret_cast<const std::byte*>(&large), sizeof large, bytes.begin() + 128 * sizeof large);
  const test::TempDir dir;
  checkpoint.write(dir.path());
  expect_error([&] { (void)load(dir.path(), "int4"); }, ExitCode::kCheckpoint, {"lm_head.weight", "int8", "row 1"});
}

}  // namespace
}  // namespace xlstm
