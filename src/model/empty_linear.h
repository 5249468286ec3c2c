// Canonical matrices without contents, to be filled on the CPU.
#pragma once

#include "kernels/weights.h"
#include "xlstm/model/quantization.h"
#include "xlstm/model/quantize.h"

namespace xlstm {

[[nodiscard]] Linear empty_linear(const MatrixFormat& format, int64_t out, int64_t in);

// Rows [first, first + rows) of a quantized canonical matrix.
[[nodiscard]] QuantizedRows rows_of(const Linear& linear, int64_t first, int64_t rows);

}  // namespace xlstm
