// Products with a matrix of weights: y = x · Wᵀ + bias. All pointers are the device's; nothing is waited for.
//
// Weights that are not float32 are multiplied on the matrix units: inputs are rounded to bfloat16, integer codes and
// bfloat16 weights are exact there, float16 weights are split into two bfloat16 values whose sum they are; sums, scales
// and results are float32. float32 weights and inputs are multiplied in float32. Of many rows, what integer codes stand
// for is rounded to bfloat16, too.
#pragma once

#include <cstdint>

#include "kernels/cuda/queue.h"
#include "kernels/cuda/rows.h"
#include "kernels/weight_format.h"

namespace xlstm::cuda {

// Rows of W are row_bytes apart, filled up with zeros behind column `in`, at least to a multiple of kColumnPad columns.
// int8 and int4 codes, scales and zeros mean what they mean in a canonical Linear (kernels/weights.h), but stand in the
// order in which the kernels use them. Codes: of four int8 columns 0, 2, 1, 3; of eight int4 columns 0, 2, 4, 6, 1, 3,
// 5, 7, from the lowest bits on. Scales and zeros: [⌈out / kTileOuts⌉, groups, kTileOuts / 2, 2], of tiles of kTileOuts
// rows, rows g and g + kTileOuts / 2 beside each other.
struct Matrix {
  const void* weight = nullptr;
  const void* scale = nullptr;  // float16
  const uint8_t* zero = nullptr;
  const float* bias = nullptr;  // [out] or null
  int64_t out = 0;
  int64_t in = 0;
  int64_t row_bytes = 0;  // a multiple of kLineBytes
  int64_t group = 0;      // columns with one scale: a multiple of 32, or at least `in`
  WeightFormat format = WeightFormat::kFloat32;
};
constexpr int64_t kColumnPad = 64;
constexpr int kTileOuts = 16;  // rows of W that a matrix instruction takes
[[nodiscard]] constexpr int64_t padded_columns(int64_t in) {
  return (in + kColumnPad - 1) / kColumnPad * kColumnPad;
}

// Gate and up rows of a kGateUp matrix alternate in runs of eight, so that a warp's 16 rows hold pairs: row
// 16·(j / 8) + j % 8 is gate row j, eight further is up row j. `width` is filled up to a multiple of eight by rows of
// zeros.
constexpr int64_t kGateUpRun = 8;
[[nodiscard]] constexpr int64_t gate_up_row(int64_t j, bool up) {
  return 2 * kGateUpRun * (j / kGateUpRun) + j % kGateUpRun + (up ? kGateUpRun : 0);
}

// A norm that the product of few rows computes itself, in each block, instead of a kernel before it.
struct InputNorm {
  enum Kind : int32_t { kNone, kRms, kGatedHead };
  Kind kind = kNone;
  int32_t head_dim = 0;           // of kGatedHead; `in` is a multiple of it
  const float* weight = nullptr;  // [in]
  const float* bias = nullptr;    // [in] or null
  const float* o = nullptr;       // of kGatedHead: the output gate before the sigmoid
  int64_t o_stride = 0;
  float eps = 0;
};
constexpr int64_t kFusedNormRows = 4;

struct ProductInput {
  // Without a norm: as ProductRows has them, bfloat16 unless the weights are float32. With a norm, of at most
  // kFusedNormRows rows: float32 rows of `in` values, x of rms_norm() or h of gated_head_norm() in rows.h.
  const void* values = nullptr;
  int64_t stride = 0;
  InputNorm norm = {};
};

// y[r][j] = cap(x · Wᵀ + bias), added to y if `add` (then there is no cap).
struct ProductOutput {
  void* y = nullptr;  // float32 or, if `bfloat16`, that
  int64_t stride = 0;
  bool add = false;
  float cap = 0;          // 0: none
  bool bfloat16 = false;  // of products by cuBLAS alone, without `add`, cap and bias
};

// Few rows go through kernels that read each weight once, more of them to cuBLAS where it knows the format.
[[nodiscard]] bool goes_to_library(WeightFormat format, int64_t rows);
void multiply(Queue& queue, const Matrix& matrix, const ProductInput& x, int64_t rows, const ProductOutput& y);

// multiply() of two matrices with the same rows of x, which both norm alike: norm.kind is kRms, `side` is float32, and
// of few rows. One kernel does both where it can.
void multiply_with_side(Queue& queue, const Matrix& matrix, const Matrix& side, const ProductInput& x, int64_t rows,
                        const ProductOutput& y, const ProductOutput& side_y);

// rms_norm() (rows.h) and, in the same kernel, multiply() of the rows that it makes, before they are rounded, by
// `side`: float32, of an even number of rows, which should be small, since there is a block for each two of them and
// each row. `norm`: rows and width for which takes_side() is true, a weight, no row_ids, one output of
// padded_columns(width); where the width is a multiple of four, so are addresses and strides. No `add`.
[[nodiscard]] bool takes_side(int64_t rows, int64_t width);
void rms_norm_with_side(Queue& queue, const RmsNorm& norm, const Matrix& side, const ProductOutput& y);

// Whether integer codes are multiplied faster as bfloat16 weights, made for each product, a slice of the matrix at a
// time. multiply_widened() is multiply() by way of these, in memory that other products may use before and after: of
// widened_bytes() at best, up to 64 MB or 128 rows of W; with less, but as many rows, it takes more slices.
constexpr int64_t kLeastWidenedRows = 256;
[[nodiscard]] bool is_widened(WeightFormat format, int64_t rows);
[[nodiscard]] int64_t widened_bytes(int64_t out, int64_t in);
struct WidenedScratch {
  void* memory;
  int64_t bytes;
};
void multiply_widened(Queue& queue, const Matrix& matrix, const ProductInput& x, int64_t rows, const ProductOutput& y,
                      const WidenedScratch& scratch);

// multiply() of an interleaved gate|up matrix with SiLU(gate) · up as the result, as the next product's input: `width`
// columns. For at most most_gate_up_rows() rows; beyond, multiply() into rows of matrix.out values and swiglu().
[[nodiscard]] int64_t most_gate_up_rows(WeightFormat format);
void multiply_gate_up(Queue& queue, const Matrix& matrix, const ProductInput& x, int64_t rows, int64_t width,
                      const ProductRows& y);

// y = x · Wᵀ (+ y if `add`) for float32, or bfloat16 inputs and weights, by cuBLAS; no bias, no cap. product.cu uses it
// for many rows.
struct LibraryProduct {
  const void* weight;
  const void* x;
  void* y;
  int64_t out, in, rows;
  int64_t weight_stride, x_stride, y_stride;  // elements
  int64_t bfloat16;                           // weight and x; else float32, multiplied in full precision
  int64_t bfloat16_y;                         // else float32
  int64_t add;
};
void library_multiply(Queue& queue, const LibraryProduct& args);

}  // namespace xlstm::cuda
