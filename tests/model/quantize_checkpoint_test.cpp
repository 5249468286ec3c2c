#include "xlstm/model/quantize_checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <nlohmann/json.hpp>
#include <vector>

#include "tests/model/editable_checkpoint.h"
#include "tests/support/expect_error.h"
#include "tests/support/temp_dir.h"
#include "xlstm/core/run_status.h"
#include "xlstm/core/stop.h"
#include "xlstm/model/checkpoint_layout.h"

namespace xlstm {
namespace {

using test::EditableCheckpoint;
using test::expect_error;
using test::zoo_dir;
using testing::ElementsAre;
using testing::IsEmpty;
namespace fs = std::filesystem;

const std::string kQ = "backbone.blocks.0.mlstm_layer.q.weight";
const std::string kQScale = "backbone.blocks.0.mlstm_layer.q.scale";
const std::string kQZero = "backbone.blocks.0.mlstm_layer.q.zero";
constexpr Quantization kAffineInt4{4, 32, QuantScheme::kAffine};

class QuantizeCheckpoint : public testing::Test {
 protected:
  QuantizeReport run(const fs::path& source, const Quantization& quantization = kAffineInt4) {
    request_.source = source;
    request_.destination = out();
    request_.quantization = quantization;
    request_.progress = false;
    ThreadPool pool(2);
    return quantize_checkpoint(request_, pool);
  }

  void expect_refused(const fs::path& source, ExitCode code, const std::vector<std::string>& parts) {
    expect_error([&] { (void)run(source); }, code, parts);
    EXPECT_EQ(dir_.entries(), 0) << "something was left behind";
  }

  [[nodiscard]] fs::path out() const { return dir_ / "out"; }

  test::TempDir dir_;
  QuantizeRequest request_;
};

TEST_F(QuantizeCheckpoint, WritesACompleteCheckpointOfEveryKind) {
  for (const char* name :
       {"single_f32", "fused_f32", "bias_f32", "sharded_f32", "tied_qk1_f32", "caps_f16", "heads3_bf16"}) {
    for (const Quantization& quantization : {default_quantization(8), kAffineInt4}) {
      const QuantizeReport report = run(zoo_dir(name), quantization);
      const Checkpoint written(out());
      const CheckpointLayout layout = resolve_layout(written);
      EXPECT_THAT(layout.problems, IsEmpty()) << name;
      EXPECT_EQ(layout.config.quantization, quantization);
      EXPECT_EQ(report.bytes, written.total_bytes());
      EXPECT_LT(report.relative_error, quantization.bits == 8 ? 0.01 : 0.1);
      EXPECT_FALSE(layout.head_is_embedding) << "a tied head is stored quantized";
      EXPECT_EQ(layout.config.dtype, resolve_layout(Checkpoint(zoo_dir(name))).config.dtype);
      fs::remove_all(out());
    }
  }
}

TEST_F(QuantizeCheckpoint, StoresCodesScalesAndZeroPointsAsDocumented) {
  (void)run(zoo_dir("single_f32"));
  const Checkpoint written(out());
  EXPECT_EQ(written.tensor(kQ).dtype, DType::U8);
  EXPECT_THAT(written.tensor(kQ).shape, ElementsAre(64, 64));
  EXPECT_EQ(written.tensor(kQScale).dtype, DType::F16);
  EXPECT_THAT(written.tensor(kQScale).shape, ElementsAre(64, 4));
  EXPECT_EQ(written.tensor(kQZero).dtype, DType::U8);
  EXPECT_THAT(written.tensor(kQZero).shape, ElementsAre(64, 4));
  EXPECT_EQ(written.tensor("lm_head.weight").dtype, DType::I8);
  EXPECT_THAT(written.tensor("lm_head.scale").shape, ElementsAre(160, 1));
  EXPECT_EQ(written.find("lm_head.zero"), nullptr);
  EXPECT_EQ(written.tensor("backbone.embeddings.weight").dtype, DType::F32);
  EXPECT_EQ(written.config().at("quantization"),
            nlohmann::json({{"version", 1}, {"bits", 4}, {"group", 32}, {"scheme", "affine"}}));
}

TEST_F(QuantizeCheckpoint, CopiesTokenizerAndGenerationConfigAsTheyAre) {
  (void)run(test::tales_dir());
  for (const char* name : {"tokenizer.json", "generation_config.json"}) {
    EXPECT_EQ(read_file(out() / name, ExitCode::kUsage), read_file(test::tales_dir() / name, ExitCode::kUsage)) << name;
  }
}

TEST_F(QuantizeCheckpoint, WritesShardsWithAnIndexThatKeepAMatrixAndItsScalesTogether) {
  (void)run(zoo_dir("single_f32"));
  const Checkpoint whole(out());
  const uint64_t bytes = whole.total_bytes();
  request_.shard_bytes = bytes / 3;
  fs::rename(out(), dir_ / "whole");
  const QuantizeReport report = run(zoo_dir("single_f32"));
  EXPECT_GT(report.files, 2U);
  const Checkpoint sharded(out());
  EXPECT_EQ(sharded.files().size(), report.files);
  EXPECT_EQ(sharded.file_of(kQ), sharded.file_of(kQScale));
  EXPECT_EQ(sharded.file_of(kQ), sharded.file_of(kQZero));
  EXPECT_EQ(sharded.fingerprint(), Checkpoint(dir_ / "whole").fingerprint());
}

TEST_F(QuantizeCheckpoint, TakesAnEmptyDirectoryAndATrailingSlash) {
  fs::create_directory(out());
  request_.destination = out();
  (void)run(zoo_dir("single_f32"));
  EXPECT_TRUE(fs::exists(out() / "model.safetensors"));
  EXPECT_EQ(dir_.entries(), 1);
  fs::remove_all(out());
  request_.source = zoo_dir("single_f32");
  request_.destination = fs::path(out().string() + "/");
  ThreadPool pool(1);
  (void)quantize_checkpoint(request_, pool);
  EXPECT_TRUE(fs::exists(out() / "model.safetensors"));
}

TEST_F(QuantizeCheckpoint, LeavesADirectoryWithFilesAndAFileAlone) {
  fs::create_directory(out());
  test::write_bytes(out() / "mine", "text");
  expect_error([&] { (void)run(zoo_dir("single_f32")); }, ExitCode::kOutput, {"out", "new or an empty directory"});
  EXPECT_EQ(read_file(out() / "mine", ExitCode::kUsage), "text");
  fs::remove_all(out());
  test::write_bytes(out(), "text");
  expect_error([&] { (void)run(zoo_dir("single_f32")); }, ExitCode::kOutput, {"out", "a file"});
}

TEST_F(QuantizeCheckpoint, RefusesADestinationInTheCheckpointOrNowhere) {
  EditableCheckpoint(zoo_dir("single_f32")).write(dir_ / "in");
  for (const fs::path& destination : {dir_ / "in", dir_ / "in" / "out", dir_ / "in" / "." / "a" / ".." / "out"}) {
    request_.source = dir_ / "in";
    request_.destination = destination;
    ThreadPool pool(1);
    expect_error([&] { (void)quantize_checkpoint(request_, pool); }, ExitCode::kUsage, {"outside the checkpoint"});
  }
  request_.destination = dir_ / "no" / "such";
  ThreadPool pool(1);
  expect_error([&] { (void)quantize_checkpoint(request_, pool); }, ExitCode::kOutput, {"no directory"});
}

TEST_F(QuantizeCheckpoint, RefusesALinkThatLeadsNowhereBeforeTheWork) {
  const fs::path nowhere = dir_ / "absent";
  fs::create_symlink(nowhere, out());
  expect_error([&] { (void)run(zoo_dir("single_f32")); }, ExitCode::kOutput, {"out", "leads nowhere"});
  EXPECT_EQ(dir_.entries(), 1);
  fs::create_directory(nowhere);
  (void)run(zoo_dir("single_f32"));
  EXPECT_TRUE(fs::exists(nowhere / "model.safetensors")) << "a link to an empty directory is as good as it";
}

TEST_F(QuantizeCheckpoint, CountsATiedTableOnceInItsReportAndTwiceInItsProgress) {
  request_.verify = false;
  const Checkpoint tied(zoo_dir("tied_qk1_f32"));
  const uint64_t table = tied.tensor(resolve_layout(tied).embedding.sources.front()).bytes.size();
  EXPECT_EQ(run(zoo_dir("tied_qk1_f32")).source_bytes, tied.total_bytes());
  EXPECT_EQ(run_counters().total, static_cast<int64_t>(tied.total_bytes() + table));
  EXPECT_EQ(run_counters().done, run_counters().total);
}

TEST_F(QuantizeCheckpoint, GivesRowsTooWideForOneScaleSeveral) {
  constexpr int64_t kWide = 65'600;
  EditableCheckpoint wide(zoo_dir("single_f32"));
  const int64_t e = wide.config.at("embedding_dim");
  for (auto& [name, tensor] : wide.tensors) {
    if (name.find("ffn.proj_") == std::string::npos) continue;
    const bool down = name.find("proj_down") != std::string::npos;
    tensor.shape = down ? std::vector<int64_t>{e, kWide} : std::vector<int64_t>{kWide, e};
    tensor.bytes.resize(static_cast<size_t>(e * kWide) * sizeof(float));
  }
  const test::TempDir source;
  wide.write(source.path());
  const QuantizeReport report = run(source.path(), default_quantization(8));
  const std::string down = "backbone.blocks.0.ffn.proj_down.weight";
  {
    const Checkpoint written(out());
    EXPECT_EQ(report.bytes, written.total_bytes());
    EXPECT_THAT(resolve_layout(written).problems, IsEmpty());
    EXPECT_THAT(written.tensor(scale_name(down)).shape, ElementsAre(e, 3));
    EXPECT_THAT(written.tensor(scale_name("backbone.blocks.0.ffn.proj_up.weight")).shape, ElementsAre(kWide, 1));
  }
  EditableCheckpoint one_scale(out());
  one_scale.zeros(scale_name(down), {e, 1}, DType::F16);
  const test::TempDir other;
  one_scale.write(other.path());
  EXPECT_THAT(resolve_layout(Checkpoint(other.path())).problems,
              ElementsAre(testing::AllOf(testing::HasSubstr(scale_name(down)), testing::HasSubstr("3], got"))));
}

TEST_F(QuantizeCheckpoint, RefusesAQuantizedSource) {
  const test::TempDir quantized;
  request_.source = zoo_dir("single_f32");
  request_.destination = quantized / "int4";
  ThreadPool pool(1);
  (void)quantize_checkpoint(request_, pool);
  expect_refused(quantized / "int4", ExitCode::kCheckpoint, {"one of floats", "quantized already"});
}

TEST_F(QuantizeCheckpoint, RefusesADamagedSourceAndLeavesNothing) {
  const test::TempDir source;
  EditableCheckpoint damaged(zoo_dir("single_f32"));
  const float nan = std::numeric_limits<float>::quiet_NaN();
  std::memcpy(damaged.tensors.at("lm_head.weight").bytes.data(), &nan, sizeof nan);
  damaged.write(source.path());
  expect_refused(source.path(), ExitCode::kCheckpoint, {"lm_head.weight", "finite"});
  damaged = EditableCheckpoint(zoo_dir("single_f32"));
  std::memcpy(damaged.tensors.at("backbone.embeddings.weight").bytes.data() + 5 * sizeof nan, &nan, sizeof nan);
  damaged.write(source.path());
  expect_refused(source.path(), ExitCode::kCheckpoint, {"backbone.embeddings.weight", "infinity at element 5"});
  damaged.tensors.erase(kQ);
  damaged.write(source.path());
  expect_refused(source.path(), ExitCode::kCheckpoint, {kQ, "no such tensor"});
}

TEST_F(QuantizeCheckpoint, LeavesNothingWhenItIsStopped) {
  request_stop(StopReason::kInterrupt);
  EXPECT_THROW((void)run(zoo_dir("single_f32")), Stopped);
  clear_stop();
  EXPECT_EQ(dir_.entries(), 0);
}

TEST_F(QuantizeCheckpoint, LeavesNothingWhenTheFilesDoNotFit) {
  rlimit before{};
  ::getrlimit(RLIMIT_FSIZE, &before);
  rlimit small = before;
  small.rlim_cur = 100'000;
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  ::setrlimit(RLIMIT_FSIZE, &small);
  expect_refused(zoo_dir("single_f32"), ExitCode::kOutput, {"room to write"});
  ::setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
}

// ---- layouts of quantized checkpoints ----

class QuantizedLayout : public testing::Test {
 protected:
  QuantizedLayout() : checkpoint_(make()) {}

  static EditableCheckpoint make() {
    const test::TempDir dir;
    QuantizeRequest request;
    request.source = zoo_dir("single_f32");
    request.destination = dir / "int4";
    request.quantization = kAffineInt4;
    request.progress = false;
    ThreadPool pool(1);
    (void)quantize_checkpoint(request, pool);
    return EditableCheckpoint(dir / "int4");
  }

  std::vector<std::string> problems() {
    checkpoint_.write(dir_.path());
    return resolve_layout(Checkpoint(dir_.path())).problems;
  }

  EditableCheckpoint checkpoint_;
  test::TempDir dir_;
};

TEST_F(QuantizedLayout, HasTheShapesAndDimensionsOfTheFloatCheckpoint) {
  checkpoint_.write(dir_.path());
  const CheckpointLayout quantized = resolve_layout(Checkpoint(dir_.path()));
  const CheckpointLayout floats = resolve_layout(Checkpoint(zoo_dir("single_f32")));
  EXPECT_EQ(parameter_count(quantized), parameter_count(floats));
  EXPECT_EQ(quantized.config.v_dim, floats.config.v_dim);
  EXPECT_EQ(quantized.config.ffn_dim, floats.config.ffn_dim);
  EXPECT_EQ(quantized.blocks[0].qkvo.shape, floats.blocks[0].qkvo.shape);
  EXPECT_EQ(quantized.blocks[0].qkvo.quantized, kAffineInt4.matrices());
  EXPECT_EQ(quantized.head.quantized, kAffineInt4.head());
  EXPECT_FALSE(quantized.embedding.quantized.has_value());
  EXPECT_FALSE(quantized.blocks[0].gates.quantized.has_value());
}

TEST_F(QuantizedLayout, ReportsMissingAndMisshapenScalesAndZeroPoints) {
  checkpoint_.tensors.erase(kQScale);
  EXPECT_THAT(problems(),
              ElementsAre(testing::AllOf(testing::HasSubstr(kQScale), testing::HasSubstr("no such tensor"))));
  checkpoint_.zeros(kQScale, {64, 2}, DType::F16);
  EXPECT_THAT(problems(), ElementsAre(testing::HasSubstr("expected shape [64, 4], got [64, 2]")));
  checkpoint_.zeros(kQScale, {64, 4}, DType::F32);
  EXPECT_THAT(problems(), ElementsAre(testing::HasSubstr("expected F16, got F32")));
  checkpoint_.zeros(kQScale, {64, 4}, DType::F16);
  checkpoint_.zeros(kQZero, {64, 4}, DType::I8);
  EXPECT_THAT(problems(), ElementsAre(testing::HasSubstr("expected U8, got I8")));
  checkpoint_.tensors.erase(kQZero);
  EXPECT_THAT(problems(), ElementsAre(testing::HasSubstr(kQZero)));
}

TEST_F(QuantizedLayout, ReportsFloatsWhereCodesBelongAndCodesOfOtherBits) {
  checkpoint_.zeros(kQ, {64, 128}, DType::F32);
  EXPECT_THAT(problems(), testing::Contains(testing::HasSubstr("expected U8, got F32")));
  checkpoint_.config["quantization"]["bits"] = 8;
  checkpoint_.config["quantization"]["scheme"] = "symmetric";
  EXPECT_THAT(problems(), testing::Contains(testing::HasSubstr("expected I8, got U8")));
}

TEST_F(QuantizedLayout, ReportsScalesThatNothingUses) {
  checkpoint_.config.erase("quantization");
  EXPECT_THAT(problems(), testing::Contains(testing::AllOf(testing::HasSubstr(kQScale),
                                                           testing::HasSubstr("no tensor of this name"))));
}

}  // namespace
}  // namespace xlstm
