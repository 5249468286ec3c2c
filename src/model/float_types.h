// The float types of weights under all their names. libtorch's are element_type() of kernels/element_type.h.
#pragma once

#include <algorithm>
#include <array>
#include <string_view>

#include "kernels/weight_format.h"
#include "xlstm/core/errors.h"
#include "xlstm/io/dtype.h"

namespace xlstm {

struct FloatType {
  std::string_view name;  // in config.json and of --dtype
  WeightFormat format;
  DType stored;  // in safetensors files
};

inline constexpr std::array kFloatTypes = {
    FloatType{"float32", WeightFormat::kFloat32, DType::F32},
    FloatType{"bfloat16", WeightFormat::kBfloat16, DType::BF16},
    FloatType{"float16", WeightFormat::kFloat16, DType::F16},
};

// The row with this value in one of its fields; nullptr if there is none.
template <class Value>
[[nodiscard]] const FloatType* find_float_type(Value FloatType::*field, const Value& value) {
  const auto* found =
      std::find_if(kFloatTypes.begin(), kFloatTypes.end(), [&](const FloatType& type) { return type.*field == value; });
  return found == kFloatTypes.end() ? nullptr : found;
}

// `format` is a float format.
[[nodiscard]] inline const FloatType& float_type(WeightFormat format) {
  const FloatType* found = find_float_type(&FloatType::format, format);
  XLSTM_ASSERT(found != nullptr);
  return *found;
}

}  // namespace xlstm
