// library_multiply() without cuBLAS, as a kernel: a row of x per block, an output per thread.
#include "kernels/cuda/kernel.h"
#include "kernels/cuda/product.h"

namespace xlstm::cuda {
namespace {

constexpr unsigned kThreads = 32;

float element(const void* values, int64_t index, bool bfloat16) {
  if (bfloat16) return __bfloat162float(static_cast<const __nv_bfloat16*>(values)[index]);
  return static_cast<const float*>(values)[index];
}

void multiply_rows(LibraryProduct args) {
  wait_for_previous();
  const int64_t column = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (column >= args.out) return;
  for (int64_t row = blockIdx.y; row < args.rows; row += gridDim.y) {
    double sum = 0;
    for (int64_t i = 0; i < args.in; ++i) {
      const double weight = element(args.weight, column * args.weight_stride + i, args.bfloat16 != 0);
      sum += weight * element(args.x, row * args.x_stride + i, args.bfloat16 != 0);
    }
    const int64_t at = row * args.y_stride + column;
    if (args.add != 0) sum += element(args.y, at, args.bfloat16_y != 0);
    if (args.bfloat16_y != 0) {
      static_cast<__nv_bfloat16*>(args.y)[at] = __float2bfloat16_rn(static_cast<float>(sum));
    } else {
      static_cast<float*>(args.y)[at] = static_cast<float>(sum);
    }
  }
}

}  // namespace

void library_multiply(Queue& queue, const LibraryProduct& args) {
  const auto columns = static_cast<unsigned>((args.out + kThreads - 1) / kThreads);
  const auto rows = static_cast<unsigned>(args.rows < 8 ? args.rows : 8);
  run<multiply_rows>(queue, {.x = columns, .y = rows, .threads = kThreads}, args);
}

}  // namespace xlstm::cuda
