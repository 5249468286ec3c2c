#include "src/bench/gemm_probe.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <chrono>

#include "src/bench/device_wait.h"

namespace xlstm {
namespace {

using Clock = std::chrono::steady_clock;

constexpr const char* kInt8 = "int8";

at::ScalarType scalar_type(const std::string& dtype) {
  if (dtype == "bfloat16") return at::kBFloat16;
  if (dtype == "float16") return at::kHalf;
  return dtype == kInt8 ? at::kChar : at::kFloat;
}

at::Tensor matrix_product(const at::Tensor& x, const at::Tensor& w) {
  return x.scalar_type() == at::kChar ? at::_int_mm(x, w.t()) : at::linear(x, w);
}

}  // namespace

GemmProbe::GemmProbe(at::Device device) : device_(device), dtypes_{"float32"} {
  const std::optional<double> float32 = quick_rate("float32");
  for (const char* dtype : {"bfloat16", "float16", kInt8}) {
    constexpr double kManyTimes = 8;
    const std::optional<double> rate = quick_rate(dtype);
    if (rate && *rate * kManyTimes > *float32) dtypes_.emplace_back(dtype);
  }
}

std::optional<double> GemmProbe::quick_rate(const std::string& dtype) const {
  constexpr int64_t kSmall = 128;
  constexpr double kSeconds = 0.001;
  try {
    const Operands operands = make(dtype, kSmall);
    double best = 0;  // of several, for one may fall into another process's time
    for (int i = 0; i < 5; ++i) best = std::max(best, measure(operands, kSeconds));
    return best;
  } catch (const c10::Error&) {
    return std::nullopt;
  }
}

std::string GemmProbe::judge_of(const std::string& weight_dtype) const {
  std::vector<std::string> order = {weight_dtype};
  if (weight_dtype == "int4") order.emplace_back(kInt8);
  if (weight_dtype == "int4" || weight_dtype == kInt8) order.emplace_back("bfloat16");
  for (const std::string& dtype : order) {
    if (std::find(dtypes_.begin(), dtypes_.end(), dtype) != dtypes_.end()) return dtype;
  }
  return "float32";
}

double GemmProbe::flop_per_s(const std::string& dtype, double seconds) {
  const int64_t size = device_.is_cpu() ? 1024 : 8192;
  auto& operands = operands_[dtype];
  if (!operands.x.defined()) operands = make(dtype, size);
  return measure(operands, seconds);
}

uint64_t GemmProbe::operand_bytes() const {
  uint64_t total = 0;
  for (const auto& [dtype, operands] : operands_) total += operands.x.nbytes() + operands.w.nbytes();
  return total;
}

GemmProbe::Operands GemmProbe::make(const std::string& dtype, int64_t size) const {
  // Not constants: a chip that switches fewer transistors runs faster.
  const auto random = [&] {
    return at::randn({size, size}, at::TensorOptions().device(device_)).to(scalar_type(dtype));
  };
  return {random(), random()};
}

double GemmProbe::measure(const Operands& operands, double seconds) const {
  const c10::InferenceMode no_autograd;
  wait_for(matrix_product(operands.x, operands.w));  // libraries prepare themselves in the first call
  const auto start = Clock::now();
  double passed = 0;
  int64_t products = 0;
  for (int64_t batch = 1; passed < seconds; batch = device_.is_cpu() ? 1 : 2 * batch) {
    at::Tensor result;
    for (int64_t i = 0; i < batch; ++i) result = matrix_product(operands.x, operands.w);
    wait_for(result);
    products += batch;
    passed = std::chrono::duration<double>(Clock::now() - start).count();
  }
  const auto size = static_cast<double>(operands.x.size(0));
  return 2 * size * size * size * static_cast<double>(products) / passed;
}

}  // namespace xlstm
