// Runs a shader's kernel, sound or broken on purpose, for compute-sanitizer to judge: does the check check?
//   metal_cuda_self_check sound | missing_barrier | divergent_barrier | past_the_end
#include <cuda_runtime_api.h>

#include <array>
#include <cmath>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernels/metal/rows_args.h"
#include "tests/metal_cuda/compiled_kernels.h"
#include "tests/metal_cuda/device_memory.h"

namespace xlstm::metal_cuda {
namespace {

constexpr int kRows = 3;
constexpr int kWidth = 200;

template <class T>
void* copy(DeviceMemory& memory, std::vector<T>& values) {
  return memory.mirror(reinterpret_cast<std::byte*>(values.data()), values.size() * sizeof(T), true);
}

// rms_norm of the shader file of that name, told that rows have `width` values.
std::vector<float> rms_norm(const std::string& shader, int width, const std::vector<float>& x) {
  for (const CompiledKernel& kernel : compiled_kernels()) {
    if (kernel.shader != shader || kernel.name != "rms_norm") continue;
    DeviceMemory memory;
    std::vector<float> values = x;
    std::vector<float> weight(kWidth, 2.0F);
    std::vector<float> bias(kWidth, 1.0F);
    std::vector<float> y(values.size());
    shader::RmsNormArgs args{};
    args.width = width;
    args.has_bias = 1;
    Buffers buffers = {{memory.copy_of(&args, sizeof(args)), copy(memory, values), copy(memory, weight),
                        copy(memory, bias), copy(memory, y)}};
    std::array<void*, 1> arguments = {&buffers};
    cudaError_t result =
        cudaLaunchKernel(kernel.entry, dim3(kRows), dim3(shader::kRowThreads), arguments.data(), 0, nullptr);
    if (result == cudaSuccess) result = cudaDeviceSynchronize();
    if (result != cudaSuccess) throw std::runtime_error(cudaGetErrorString(result));
    memory.copy_back();
    return y;
  }
  throw std::runtime_error("rms_norm of " + shader + ": not compiled into this program");
}

int run(const std::string& what) {
  std::vector<float> x;
  for (int i = 0; i < kRows * kWidth; ++i) x.push_back(std::sin(static_cast<float>(i)));
  if (what == "missing_barrier" || what == "divergent_barrier") {
    rms_norm(what, kWidth, x);
    return 0;
  }
  const std::vector<float> y = rms_norm("kernels/metal/rows.metal", what == "past_the_end" ? kWidth + 1 : kWidth, x);
  if (what == "past_the_end") return 0;
  if (what != "sound") throw std::runtime_error(what + ": not one of this program's kernels");
  for (int row = 0; row < kRows; ++row) {
    double squares = 0;
    for (int i = 0; i < kWidth; ++i) squares += std::pow(x[static_cast<size_t>(row * kWidth + i)], 2);
    for (int i = 0; i < kWidth; ++i) {
      const auto at = static_cast<size_t>(row * kWidth + i);
      const double expected = x[at] / std::sqrt(squares / kWidth) * 2 + 1;
      if (!(std::abs(y[at] - expected) < 1e-5)) {
        std::fprintf(stderr, "row %d, column %d: expected %g, got %g\n", row, i, expected, static_cast<double>(y[at]));
        return 1;
      }
    }
  }
  return 0;
}

}  // namespace
}  // namespace xlstm::metal_cuda

int main(int argc, char** argv) {
  try {
    return xlstm::metal_cuda::run(argc == 2 ? argv[1] : "");
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
