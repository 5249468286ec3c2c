// Between float matrices and the canonical int8 and int4 tensors of kernels/weights.h.
//
// Scales are rounded to float16 first and the codes computed with the rounded scale. int8 takes the largest magnitude
// of a group as 127. int4 tries some widths and positions of the range of a group and keeps the one with the smallest
// squared error. Results depend on nothing but the values: not on threads, not on the instruction set.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "xlstm/core/thread_pool.h"
#include "xlstm/io/dtype.h"
#include "xlstm/model/quantization.h"

namespace xlstm {

// [rows, columns] row-major, F32, BF16 or F16; bytes may be unaligned.
struct FloatRows {
  DType dtype = DType::F32;
  int64_t rows = 0;
  int64_t columns = 0;
  const std::byte* data = nullptr;
};

// Rows of a canonical matrix, in memory of the caller. G = groups_per_row(format, columns).
template <class Byte, class Half>
struct BasicQuantizedRows {
  MatrixFormat format;  // int8 or int4
  int64_t rows = 0;
  int64_t columns = 0;
  Byte* codes = nullptr;  // [rows, row_bytes(format, columns)]; int8 codes as two's complement
  Half* scale = nullptr;  // [rows, G] float16
  Byte* zero = nullptr;   // [rows, G], int4 only
};
using QuantizedRows = BasicQuantizedRows<uint8_t, uint16_t>;
using ConstQuantizedRows = BasicQuantizedRows<const uint8_t, const uint16_t>;

struct QuantizedError {
  double error = 0;  // Σ (w - ŵ)²
  double norm = 0;   // Σ w²
};

// Quantizes all rows. Error kCheckpoint, with `what` and `where` naming the matrix, for NaN, infinity and values beyond
// what a float16 scale reaches (8.3e6 in int8, 4.5e5 in int4).
struct MatrixName {
  std::string what;       // "tensor X.weight"
  std::string where;      // the checkpoint
  int64_t first_row = 0;  // of the source within it
};
QuantizedError quantize_rows(const FloatRows& source, const QuantizedRows& target, QuantScheme scheme, ThreadPool& pool,
                             const MatrixName& name);

// One row in float32, exact. `target` has `columns` elements.
void dequantize_row(const ConstQuantizedRows& source, int64_t row, std::span<float> target);

// Whether the codes are those nearest to the floats, given scales and zero points.
[[nodiscard]] bool has_nearest_codes(const FloatRows& source, const ConstQuantizedRows& codes, ThreadPool& pool);

// What is wrong with the scales or zero points of stored rows; nullptr if nothing is.
[[nodiscard]] const char* damaged_scales(const ConstQuantizedRows& rows);

}  // namespace xlstm
