#include "src/bench/limits.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "src/bench/device_wait.h"
#include "src/bench/gemm_probe.h"
#include "src/bench/team_probes.h"
#include "xlstm/registry/make_kernels.h"

namespace xlstm {
namespace {

constexpr double kGiga = 1e9;
constexpr double kReading = 0.03;  // seconds of one reading around a sample
constexpr int kTries = 3;

double best_of(const Gauge& gauge) {
  double best = 0;
  for (int i = 0; i < kTries; ++i) best = std::max(best, gauge());
  return best;
}

void measure_gemm(GemmProbe& gemm, BenchLimits& limits) {
  for (const std::string& dtype : gemm.dtypes()) {
    limits.gemm_gflop_s[dtype] = best_of([&] { return gemm.flop_per_s(dtype, kReading); }) / kGiga;
  }
}

// The fastest instruction that products with weights of this type can be made of here.
PeakKind peak_of(const std::string& weight_dtype) {
  if (weight_dtype == "bfloat16" && has_peak(PeakKind::kDotBfloat16)) return PeakKind::kDotBfloat16;
  const bool integers = weight_dtype == "int8" || weight_dtype == "int4";
  if (integers && has_peak(PeakKind::kDotInt8)) return PeakKind::kDotInt8;
  return PeakKind::kFmaFloat32;
}

class CpuProbes : public LimitProbes {
 public:
  explicit CpuProbes(int threads) : team_(with_library_threads(threads)), gemm_(at::kCPU) {}

  BenchLimits measure() override {
    BenchLimits limits;
    limits.device = "cpu";
    limits.threads = team_.threads();
    limits.read_gb_s = best_of([this] { return team_.read_bytes_per_s(2 * kReading); }) / kGiga;
    limits.copy_gb_s = best_of([this] { return team_.copy_bytes_per_s(2 * kReading); }) / kGiga;
    measure_gemm(gemm_, limits);
    for (const PeakKind kind : kPeakKinds) {
      if (!has_peak(kind)) continue;
      limits.peak_gflop_s[peak_name(kind)] = best_of([&] { return team_.peak_flop_per_s(kind, kReading); }) / kGiga;
    }
    if (team_.threads() > 1) limits.barrier_ns = team_.barrier_seconds() * kGiga;
    return limits;
  }

  void share_threads(ThreadPool& host) override { team_.share_threads(host); }

  std::vector<Gauge> decode_gauges() override {
    return {[this] { return team_.read_bytes_per_s(kReading); }};
  }

  std::vector<Gauge> prefill_gauges(const std::string& weight_dtype) override {
    return {[this, dtype = gemm_.judge_of(weight_dtype)] { return gemm_.flop_per_s(dtype, kReading); },
            [this, kind = peak_of(weight_dtype)] { return team_.peak_flop_per_s(kind, kReading); }};
  }

  std::string prefill_judge(const std::string& weight_dtype) const override { return gemm_.judge_of(weight_dtype); }

  uint64_t resident_bytes() const override { return team_.buffer_bytes() + gemm_.operand_bytes(); }

 private:
  static int with_library_threads(int threads) {
    at::set_num_threads(threads);
    return threads;
  }

  TeamProbes team_;
  GemmProbe gemm_;
};

// Any other device, as far as libtorch's operations show its limits.
class TorchProbes : public LimitProbes {
 public:
  explicit TorchProbes(const std::string& name)
      : name_(name),
        device_(torch_device(name)),
        gemm_(device_),
        from_(at::ones({device_.is_cuda() ? kRowsOnNvidia : kRows, kColumns}, device_)) {
    to_ = at::empty_like(from_);
  }

  BenchLimits measure() override {
    BenchLimits limits;
    limits.device = name_;
    limits.read_gb_s = best_of([this] { return read_bytes_per_s(); }) / kGiga;
    limits.copy_gb_s = best_of([this] { return copy_bytes_per_s(); }) / kGiga;
    measure_gemm(gemm_, limits);
    return limits;
  }

  // A copy comes nearer to the memory's limit than a sum does, whose last step is serial.
  std::vector<Gauge> decode_gauges() override {
    return {[this] { return copy_bytes_per_s(); }};
  }

  std::vector<Gauge> prefill_gauges(const std::string& weight_dtype) override {
    return {[this, dtype = gemm_.judge_of(weight_dtype)] { return gemm_.flop_per_s(dtype, kReading); }};
  }

  std::string prefill_judge(const std::string& weight_dtype) const override { return gemm_.judge_of(weight_dtype); }

 private:
  static constexpr int64_t kRows = 8192;           // 256 MiB
  static constexpr int64_t kRowsOnNvidia = 32768;  // 1 GiB: many times the cache
  static constexpr int64_t kColumns = 8192;

  template <class Work>
  [[nodiscard]] double rate(double amount, const Work& work) const {
    const c10::InferenceMode no_autograd;
    wait_for(work());
    const auto start = std::chrono::steady_clock::now();
    double passed = 0;
    double done = 0;
    for (int64_t batch = 4; passed < kReading; batch *= 2) {
      at::Tensor result;
      for (int64_t i = 0; i < batch; ++i) result = work();
      wait_for(result);
      done += amount * static_cast<double>(batch);
      passed = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    }
    return done / passed;
  }
  [[nodiscard]] double read_bytes_per_s() const {
    return rate(static_cast<double>(from_.nbytes()), [this] { return from_.sum().reshape({1, 1}); });
  }
  [[nodiscard]] double copy_bytes_per_s() {
    return rate(2 * static_cast<double>(from_.nbytes()), [this] { return to_.copy_(from_); });
  }

  std::string name_;
  at::Device device_;
  GemmProbe gemm_;
  at::Tensor from_;
  at::Tensor to_;
};

}  // namespace

std::unique_ptr<LimitProbes> make_limit_probes(const std::string& device, int threads) {
  if (device_kind(device) == "cpu") return std::make_unique<CpuProbes>(threads);
  return std::make_unique<TorchProbes>(device);
}

}  // namespace xlstm
