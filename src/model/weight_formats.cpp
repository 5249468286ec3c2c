#include "xlstm/model/weight_formats.h"

#include <cmath>

#include "xlstm/core/errors.h"
#include "xlstm/core/str.h"

namespace xlstm {
namespace {

WeightFormat float_format(const std::string& dtype) {
  if (dtype == "float32") return WeightFormat::kFloat32;
  if (dtype == "bfloat16") return WeightFormat::kBfloat16;
  if (dtype == "float16") return WeightFormat::kFloat16;
  fail(ExitCode::kInternal, "dtype", "weight formats", "a weight type", dtype);
}

WeightFormats formats(const std::string& dtype, const Quantization& quantization, WeightFormat embedding) {
  if (dtype == quantization.dtype()) {
    return {quantization.matrices(), quantization.head(), embedding, quantization.scheme};
  }
  const WeightFormat format = float_format(dtype);
  return {{format, 0}, {format, 0}, format, {}};
}

Quantization default_for(const std::string& dtype) {
  return default_quantization(dtype == "int4" ? 4 : 8);
}

}  // namespace

WeightFormats weight_formats(const std::string& dtype) {
  return formats(dtype, default_for(dtype), WeightFormat::kBfloat16);
}

WeightFormats weight_formats(const std::string& dtype, const CheckpointLayout& layout) {
  const WeightFormat embedding = float_format(layout.config.dtype);
  return formats(dtype, layout.config.quantization.value_or(default_for(dtype)), embedding);
}

double matrix_bytes(const MatrixFormat& format, double rows, double columns) {
  switch (format.format) {
    case WeightFormat::kFloat32: return 4 * rows * columns;
    case WeightFormat::kBfloat16:
    case WeightFormat::kFloat16: return 2 * rows * columns;
    case WeightFormat::kInt8:
    case WeightFormat::kInt4: break;
  }
  constexpr double kScale = 2;
  constexpr double kZero = 1;
  const bool int4 = format.format == WeightFormat::kInt4;
  const double groups = format.group == 0 ? 1 : std::ceil(columns / static_cast<double>(format.group));
  return rows * ((int4 ? std::ceil(columns / 2) : columns) + groups * (kScale + (int4 ? kZero : 0)));
}

}  // namespace xlstm
