#include "xlstm/model/weight_formats.h"

#include "src/model/float_types.h"
#include "xlstm/core/errors.h"

namespace xlstm {
namespace {

WeightFormat float_format(const std::string& dtype) {
  const FloatType* type = find_float_type(&FloatType::name, std::string_view(dtype));
  if (type == nullptr) fail(ExitCode::kInternal, "dtype", "weight formats", "a weight type", dtype);
  return type->format;
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

double matrix_bytes(const MatrixFormat& format, double rows, int64_t columns) {
  constexpr int64_t kScale = 2;
  constexpr int64_t kZero = 1;
  const int64_t per_group = format.format == WeightFormat::kInt4 ? kScale + kZero : kScale;
  return rows * static_cast<double>(row_bytes(format.format, columns) + groups_per_row(format, columns) * per_group);
}

}  // namespace xlstm
