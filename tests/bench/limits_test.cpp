// That limits are measured and that rows are held against them; how large they are is the machine's business.
#include "src/bench/limits.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "src/bench/limit_loops.h"
#include "src/bench/team_probes.h"
#include "tests/support/expect_error.h"
#include "xlstm/core/cpu_features.h"

namespace xlstm {
namespace {

using testing::Contains;
using testing::Key;
using testing::SizeIs;

bool is_rate(double value) {
  return std::isfinite(value) && value > 0;
}

TEST(ReadLoop, DependsOnEveryWord) {
  std::vector<std::byte> memory(3 * kReadUnit + kReadUnit);
  void* start = memory.data();
  size_t space = memory.size();
  ASSERT_NE(std::align(kReadUnit, 3 * kReadUnit, start, space), nullptr);
  auto* data = static_cast<std::byte*>(start);
  EXPECT_EQ(read_memory(data, 3 * kReadUnit), 0U);
  for (const size_t place : {size_t{0}, size_t{63}, size_t{64}, size_t{700}, kReadUnit, 3 * kReadUnit - 1}) {
    data[place] = std::byte{1};
    EXPECT_NE(read_memory(data, 3 * kReadUnit), 0U) << place;
    data[place] = std::byte{0};
  }
  EXPECT_EQ(read_memory(data, 0), 0U);
}

TEST(ReadLoop, NeedsWholeUnits) {
  alignas(kReadUnit) std::byte memory[2 * kReadUnit] = {};
  test::expect_error([&] { (void)read_memory(memory, 100); }, ExitCode::kInternal, {"kReadUnit"});
  test::expect_error([&] { (void)read_memory(memory + 64, kReadUnit); }, ExitCode::kInternal, {"kReadUnit"});
}

TEST(PeakLoop, CountsItsOperations) {
  for (const PeakKind kind : kPeakKinds) {
    if (!has_peak(kind)) continue;
    SCOPED_TRACE(peak_name(kind));
    const double one = run_peak(kind, 1);
    EXPECT_GT(one, 0);
    EXPECT_DOUBLE_EQ(run_peak(kind, 1000), 1000 * one);
  }
  EXPECT_TRUE(has_peak(PeakKind::kFmaFloat32));
  EXPECT_EQ(has_peak(PeakKind::kDotBfloat16), has_avx512_bf16());
  EXPECT_EQ(has_peak(PeakKind::kDotInt8), has_avx512_vnni());
}

TEST(TeamProbes, MeasureWithOneThreadAndWithMoreThanTheMachineHas) {
  for (const int threads : {1, available_cores() + 1}) {
    TeamProbes probes(threads);
    EXPECT_TRUE(is_rate(probes.read_bytes_per_s(0.001)));
    EXPECT_TRUE(is_rate(probes.copy_bytes_per_s(0.001)));
    EXPECT_TRUE(is_rate(probes.peak_flop_per_s(PeakKind::kFmaFloat32, 0.001)));
  }
  EXPECT_TRUE(is_rate(TeamProbes(2).barrier_seconds()));
}

TEST(Limits, OfTheCpuAreFinitePositiveNumbers) {
  const std::unique_ptr<LimitProbes> probes = make_limit_probes("cpu", available_cores());
  const BenchLimits limits = probes->measure();
  EXPECT_EQ(limits.device, "cpu");
  EXPECT_EQ(limits.threads, available_cores());
  EXPECT_TRUE(is_rate(limits.read_gb_s));
  EXPECT_TRUE(is_rate(limits.copy_gb_s));
  EXPECT_THAT(limits.gemm_gflop_s, Contains(Key("float32")));
  for (const auto& [dtype, rate] : limits.gemm_gflop_s) EXPECT_TRUE(is_rate(rate)) << dtype;
  EXPECT_THAT(limits.peak_gflop_s, Contains(Key("fma_float32")));
  for (const auto& [kind, rate] : limits.peak_gflop_s) EXPECT_TRUE(is_rate(rate)) << kind;
  EXPECT_EQ(limits.barrier_ns.has_value(), available_cores() > 1) << "one thread waits for nobody";
  if (limits.barrier_ns) {
    EXPECT_TRUE(is_rate(*limits.barrier_ns));
  }

  EXPECT_THAT(probes->decode_gauges(), SizeIs(1));
  for (const char* dtype : {"float32", "bfloat16", "float16", "int8", "int4"}) {
    EXPECT_THAT(probes->prefill_gauges(dtype), SizeIs(2)) << dtype << ": product and instruction";
    for (const Gauge& gauge : probes->prefill_gauges(dtype)) EXPECT_TRUE(is_rate(gauge())) << dtype;
  }
}

TEST(Limits, CountTheMatricesThatTheyKeepAsTheirOwnMemory) {
  const std::unique_ptr<LimitProbes> probes = make_limit_probes("cpu", 1);
  const uint64_t without = probes->resident_bytes();
  for (const Gauge& gauge : probes->prefill_gauges("float32")) (void)gauge();
  EXPECT_EQ(probes->resident_bytes(), without + 2 * sizeof(float) * 1024 * 1024);
}

TEST(Limits, NameTheTypeThatJudgesAPrefill) {
  const std::unique_ptr<LimitProbes> probes = make_limit_probes("cpu", 1);
  const BenchLimits limits = probes->measure();
  EXPECT_EQ(probes->prefill_judge("float32"), "float32");
  for (const char* dtype : {"bfloat16", "float16", "int8", "int4"}) {
    const std::string judge = probes->prefill_judge(dtype);
    EXPECT_THAT(limits.gemm_gflop_s, Contains(Key(judge))) << dtype;
    EXPECT_EQ(judge == dtype, limits.gemm_gflop_s.count(dtype) > 0) << dtype;
  }
}

TEST(Limits, ArePartOfTheReportOnlyWhenMeasured) {
  BenchResult result;
  EXPECT_FALSE(bench_report(result).contains("limits"));
  BenchLimits limits;
  limits.device = "cuda:0";
  limits.read_gb_s = 3840;
  limits.copy_gb_s = 4260;
  limits.gemm_gflop_s = {{"bfloat16", 735000}};
  result.limits = limits;
  const nlohmann::ordered_json gpu = bench_report(result)["limits"];
  EXPECT_EQ(gpu["read_gb_s"], 3840);
  EXPECT_EQ(gpu["copy_gb_s"], 4260);
  EXPECT_EQ(gpu["gemm_gflop_s"]["bfloat16"], 735000);
  EXPECT_TRUE(gpu["threads"].is_null());
  EXPECT_FALSE(gpu.contains("peak_gflop_s") || gpu.contains("barrier_ns")) << "of a CPU only";

  limits.threads = 2;
  limits.peak_gflop_s = {{"fma_float32", 200}};
  limits.barrier_ns = 300;
  result.limits = limits;
  const nlohmann::ordered_json cpu = bench_report(result)["limits"];
  EXPECT_EQ(cpu["threads"], 2);
  EXPECT_EQ(cpu["peak_gflop_s"]["fma_float32"], 200);
  EXPECT_EQ(cpu["barrier_ns"], 300);
}

}  // namespace
}  // namespace xlstm
