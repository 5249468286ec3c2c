// Conversion between float32 and the 16-bit float types, and the search for values that are not finite.
// Plain loops that compilers vectorise; bytes may be unaligned. Everything here is thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "xlstm/io/dtype.h"
#include "xlstm/io/safetensors.h"

namespace xlstm {

// IEEE 754 binary16 and bfloat16 (the upper half of binary32). Rounding is to nearest, ties to even; values beyond the
// range become infinite; NaN stays NaN with its sign; subnormal numbers are kept.
[[nodiscard]] float f16_to_float(uint16_t bits);
[[nodiscard]] uint16_t float_to_f16(float value);
[[nodiscard]] float bf16_to_float(uint16_t bits);
[[nodiscard]] uint16_t float_to_bf16(float value);

// Converts an array. `dtype` is F32 (a copy), F16 or BF16 and describes the bytes; the sizes must match.
void to_float32(DType dtype, std::span<const std::byte> source, std::span<float> destination);
void from_float32(DType dtype, std::span<const float> source, std::span<std::byte> destination);

// The index of the first NaN or infinity, nullopt if there is none. Integer tensors have none.
[[nodiscard]] std::optional<int64_t> first_non_finite(DType dtype, std::span<const std::byte> bytes);
[[nodiscard]] std::optional<int64_t> first_non_finite(const TensorView& tensor);

}  // namespace xlstm
