// Element types of stored tensors, named as in the safetensors format.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace xlstm {

enum class DType { F64, F32, F16, BF16, I64, I32, I16, I8, U64, U32, U16, U8, Bool };

// Bytes per element.
[[nodiscard]] uint64_t dtype_size(DType dtype);

// The name in a safetensors header: "F32", "BF16", "BOOL".
[[nodiscard]] std::string_view dtype_name(DType dtype);

// The inverse of dtype_name; nullopt for any other text.
[[nodiscard]] std::optional<DType> parse_dtype(std::string_view name);

// All names, separated by commas, for error messages.
[[nodiscard]] std::string dtype_names();

// F64, F32, F16 or BF16.
[[nodiscard]] bool is_float(DType dtype);

}  // namespace xlstm
