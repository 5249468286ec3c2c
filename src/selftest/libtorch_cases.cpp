#include "src/selftest/libtorch_cases.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include <array>
#include <cmath>

#include "xlstm/core/str.h"
#include "xlstm/registry/make_kernels.h"

namespace xlstm {
namespace {

constexpr int kTimes = 3;

struct Type {
  at::ScalarType type;
  double epsilon;  // distance from 1 to the next greater value
};
constexpr std::array kTypes = {Type{at::kFloat, 0x1p-23}, Type{at::kBFloat16, 0x1p-7}, Type{at::kHalf, 0x1p-10}};

struct Sizes {
  int64_t rows;
  int64_t in;
  int64_t out;
};
// Decoding, a ragged rest and a segment of the prompt with the bundled model's and larger matrices.
constexpr std::array kSizes = {Sizes{1, 256, 1024}, Sizes{1, 4096, 512},   Sizes{5, 1024, 2752},
                               Sizes{64, 704, 256}, Sizes{471, 256, 1408}, Sizes{128, 2048, 4096}};

at::Tensor normal(at::IntArrayRef sizes, at::ScalarType type, uint64_t seed) {
  at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  return at::empty(sizes, at::kFloat).normal_(0, 1, generator).to(type);
}

// The sum in float32 and the rounding of the result.
double tolerance(const Type& type, int64_t terms) {
  return 4 * 0x1p-23 * std::sqrt(static_cast<double>(terms)) + type.epsilon / 2;
}

}  // namespace

void check_libtorch(const Resolution& resolution, const CaseSink& sink) {
  const at::Device device = torch_device(resolution.device);
  for (const Type& type : kTypes) {
    for (const Sizes& size : kSizes) {
      const at::Tensor x = normal({size.rows, size.in}, type.type, 6);
      const at::Tensor w = normal({size.out, size.in}, type.type, 7);
      const at::Tensor expected = at::matmul(x.to(at::kDouble), w.to(at::kDouble).t());
      const at::Tensor on_device = x.to(device);
      const at::Tensor weight = w.to(device);
      for (int i = 0; i < kTimes; ++i) {
        sink(compare_tensors("libtorch product",
                             cat(c10::toString(type.type), ' ', size.rows, " x ", size.in, " x ", size.out),
                             at::linear(on_device, weight), expected, tolerance(type, size.in)));
      }
    }
    const at::Tensor q = normal({4, 64, 128}, type.type, 8);
    const at::Tensor c = normal({4, 128, 256}, type.type, 9);
    const at::Tensor expected = at::matmul(q.to(at::kDouble), c.to(at::kDouble));
    for (int i = 0; i < kTimes; ++i) {
      sink(compare_tensors("libtorch product", cat(c10::toString(type.type), " 4 heads of 64 x 128 x 256"),
                           at::matmul(q.to(device), c.to(device)), expected, tolerance(type, 128)));
    }
  }
}

}  // namespace xlstm
