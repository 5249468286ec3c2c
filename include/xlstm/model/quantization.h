// How a checkpoint's matrices are quantized: the "quantization" object of its config.json (docs/quantization.md).
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "kernels/weight_format.h"
#include "xlstm/core/errors.h"

namespace xlstm {

inline constexpr int64_t kQuantizationVersion = 1;

// The most columns that may share a scale: kernels sum the products of a group in 32 bits.
inline constexpr int64_t kMaxGroup = int64_t{1} << 16;

// The elements of a matrix in memory and in files, canonical order (kernels/weights.h).
struct MatrixFormat {
  WeightFormat format = WeightFormat::kFloat32;
  int64_t group = 0;  // of int8 and int4: consecutive columns that share a scale; 0: all of a row, see below

  bool operator==(const MatrixFormat&) const = default;
};
// Columns of a quantized matrix that share a scale. Of group 0: all of a row of up to kMaxGroup columns, half of
// kMaxGroup in a wider one.
[[nodiscard]] int64_t effective_group(const MatrixFormat& format, int64_t columns);
// Scales per row of a quantized matrix of `columns` columns.
[[nodiscard]] int64_t groups_per_row(const MatrixFormat& format, int64_t columns);
// Bytes of one row's elements, without scales and zero points. columns < 2^60.
[[nodiscard]] int64_t row_bytes(WeightFormat format, int64_t columns);

enum class QuantScheme {
  kSymmetric,  // w = scale · q; in int4 the zero point is 8 everywhere
  kAffine,     // w = scale · (q - zero), int4 only
};

struct Quantization {
  int64_t bits = 8;   // 8 or 4
  int64_t group = 0;  // 0, or a multiple of 32 up to kMaxGroup
  QuantScheme scheme = QuantScheme::kSymmetric;

  [[nodiscard]] MatrixFormat matrices() const;
  [[nodiscard]] MatrixFormat head() const;        // int8 always: like the matrices, or one scale per row
  [[nodiscard]] QuantScheme head_scheme() const;  // symmetric
  [[nodiscard]] std::string dtype() const;        // "int8" or "int4"
  [[nodiscard]] std::string text() const;         // "int4, affine, group 32"

  bool operator==(const Quantization&) const = default;
};

// What measured best (docs/quantization.md): int8 symmetric with a scale per row, int4 affine in groups of 32.
[[nodiscard]] Quantization default_quantization(int64_t bits);

[[nodiscard]] const char* scheme_name(QuantScheme scheme);

// Reads the keys version (needed only if `versioned`), bits, group and scheme; those that are absent become the
// defaults for the bits. Unknown values are errors with this code that name the key; other keys are passed over.
struct QuantizationRules {
  ExitCode code = ExitCode::kCheckpoint;
  std::string object = "quantization";  // what messages call the object
  bool versioned = true;
};
[[nodiscard]] Quantization parse_quantization(const nlohmann::json& json, const std::string& where,
                                              const QuantizationRules& rules);
[[nodiscard]] nlohmann::ordered_json to_json(const Quantization& quantization);  // with the version

// "int8" or "int4" if the config.json of a checkpoint directory says so, "" for float matrices. A directory that cannot
// be read gives "" too: loading it reports what is wrong.
[[nodiscard]] std::string stored_dtype(const std::filesystem::path& directory);

}  // namespace xlstm
