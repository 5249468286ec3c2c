// Which format each kind of weight has at run time: decided here, for loading and for the memory estimate alike.
#pragma once

#include <cstdint>
#include <string>

#include "xlstm/model/checkpoint_layout.h"
#include "xlstm/model/quantization.h"

namespace xlstm {

// Norms, biases and the gate projection are float32.
struct WeightFormats {
  MatrixFormat matrices;
  MatrixFormat head;
  WeightFormat embedding = WeightFormat::kFloat32;
  QuantScheme scheme = QuantScheme::kSymmetric;  // of matrices that are quantized while they are loaded
};

// `dtype`: "float32", "bfloat16", "float16", "int8" or "int4". A float type is that of all; int8 and int4 keep the
// embedding in the type of the checkpoint, of a synthetic shape in bfloat16. A quantized checkpoint is never quantized
// to other bits (asserted: resolve() refuses that).
[[nodiscard]] WeightFormats weight_formats(const std::string& dtype);
[[nodiscard]] WeightFormats weight_formats(const std::string& dtype, const CheckpointLayout& layout);

// Bytes of a canonical matrix, scales and zero points included. double: made-up shapes may exceed 64 bits.
[[nodiscard]] double matrix_bytes(const MatrixFormat& format, double rows, int64_t columns);

}  // namespace xlstm
