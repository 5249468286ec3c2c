#include "xlstm/model/quantize.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "xlstm/core/errors.h"
#include "xlstm/core/str.h"
#include "xlstm/io/half.h"

namespace xlstm {
namespace {

constexpr float kMaxHalf = 65504.0F;
constexpr uint16_t kSmallestHalf = 1;  // 2^-24
constexpr int kInt8Max = 127;
constexpr int kInt4Max = 15;
constexpr int kInt4Middle = 8;

// To the nearest integer, ties to even, for magnitudes below 2^22; beyond, something large of the same sign. Integer
// code, because compilers vectorise it on every instruction set.
inline int32_t nearest_integer(float x) {
  constexpr float kShift = 12582912.0F;  // 1.5 · 2^23: the last bit of the sum is 1
  return std::bit_cast<int32_t>(x + kShift) - std::bit_cast<int32_t>(kShift);
}

struct HalfScale {
  uint16_t bits = 0;
  float value = 0;
};

// The float16 scale nearest to `scale`, never 0 for a positive one. scale ≤ kMaxHalf.
HalfScale half_scale(float scale) {
  uint16_t bits = float_to_f16(scale);
  if (bits == 0 && scale > 0) bits = kSmallestHalf;
  return {bits, f16_to_float(bits)};
}

// Limits of the codes of a grid, relative to its zero point.
struct CodeRange {
  int32_t low = 0;
  int32_t high = 0;
};

CodeRange code_range(WeightFormat format, int32_t zero) {
  if (format == WeightFormat::kInt8) return {-kInt8Max, kInt8Max};
  return {-zero, kInt4Max - zero};
}

// The codes nearest to w / scale, relative to the zero point.
void nearest_codes(std::span<const float> group, float scale, const CodeRange& range, int32_t* codes) {
  if (scale == 0) {
    std::fill_n(codes, group.size(), 0);
    return;
  }
  const auto [low, high] = range;
  for (size_t i = 0; i < group.size(); ++i) {
    codes[i] = std::min(high, std::max(low, nearest_integer(group[i] / scale)));
  }
}

// The extent of a group, zero included.
struct Extent {
  float low = 0;
  float high = 0;
};

Extent extent_of(std::span<const float> group) {
  Extent extent;
  for (const float w : group) {
    extent.low = std::min(extent.low, w);
    extent.high = std::max(extent.high, w);
  }
  return extent;
}

// Scale and zero point of a group.
struct Grid {
  HalfScale scale;
  int32_t zero = 0;  // of codes 0 … 15; 0 in int8
};

// The largest magnitude becomes 127. A scale that float16 rounds down so far that it would not is taken one up.
Grid int8_grid(const Extent& extent) {
  const float largest = std::max(extent.high, -extent.low);
  HalfScale scale = half_scale(largest / kInt8Max);
  if (largest > (kInt8Max + 0.5F) * scale.value) {
    ++scale.bits;
    scale.value = f16_to_float(scale.bits);
  }
  return {scale, 0};
}

// Σ (w - ŵ)² of int4 codes, in sums of a fixed order so that every instruction set gives the same.
float squared_error(std::span<const float> group, float scale, int32_t zero) {
  constexpr size_t kBlock = 32;
  std::array<float, kBlock> squares{};
  std::array<float, 4> sums{};
  const float inverse = 1 / scale;
  const auto [low, high] = code_range(WeightFormat::kInt4, zero);
  for (size_t begin = 0; begin < group.size(); begin += kBlock) {
    const float* w = group.data() + begin;
    const size_t count = std::min(kBlock, group.size() - begin);
    for (size_t i = 0; i < count; ++i) {
      const float exact = w[i] * inverse;
      const float off = exact - static_cast<float>(std::min(high, std::max(low, nearest_integer(exact))));
      squares[i] = off * off;
    }
    for (size_t i = count; i < kBlock; ++i) squares[i] = 0;
    for (size_t i = 0; i < kBlock; i += 4) {
      for (size_t lane = 0; lane < 4; ++lane) sums[lane] += squares[i + lane];
    }
  }
  return ((sums[0] + sums[1]) + (sums[2] + sums[3])) * scale * scale;
}

// Tries grids for one group and keeps the best.
class GridSearch {
 public:
  explicit GridSearch(std::span<const float> group) : group_(group) {}

  void try_grid(float scale, int32_t zero) {
    if (!(scale > 0) || scale > kMaxHalf) return;
    const Grid grid{half_scale(scale), zero};
    const float error = squared_error(group_, grid.scale.value, zero);
    if (error < best_error_) {
      best_error_ = error;
      best_ = grid;
    }
  }

  // The scale that fits the codes of the best grid by least squares. `codes`: room for those of a group.
  void refine(std::span<int32_t> codes) {
    nearest_codes(group_, best_.scale.value, code_range(WeightFormat::kInt4, best_.zero), codes.data());
    float code_w = 0;
    float code_code = 0;
    for (size_t i = 0; i < group_.size(); ++i) {
      const auto code = static_cast<float>(codes[i]);
      code_w += code * group_[i];
      code_code += code * code;
    }
    if (code_code > 0) try_grid(code_w / code_code, best_.zero);
  }

  [[nodiscard]] const Grid& best() const { return best_; }

 private:
  std::span<const float> group_;
  Grid best_{{}, kInt4Middle};
  float best_error_ = std::numeric_limits<float>::infinity();
};

// A range narrower than the group's cuts off its ends and makes the steps of all others finer. Which width is best
// differs from group to group.
constexpr std::array kWidths = {1.0F, 0.95F, 0.9F, 0.85F, 0.8F, 0.75F, 0.7F, 0.65F, 0.6F};
constexpr int kRefinements = 2;

Grid int4_grid(std::span<const float> group, QuantScheme scheme, std::span<int32_t> codes) {
  const Extent extent = extent_of(group);
  GridSearch search(group);
  const float width = extent.high - extent.low;
  const float middle = (extent.high + extent.low) / 2;
  // Codes reach from -8 to 7 about the zero point of the symmetric scheme: one side decides.
  const float reach = std::max(-extent.low / kInt4Middle, extent.high / (kInt4Max - kInt4Middle));
  for (const float part : kWidths) {
    if (scheme == QuantScheme::kSymmetric) {
      search.try_grid(reach * part, kInt4Middle);
    } else {
      const float scale = width * part / kInt4Max;
      const float centre = kInt4Max / 2.0F - middle / half_scale(scale).value;
      search.try_grid(scale, nearest_integer(std::clamp(centre, 0.0F, float{kInt4Max})));
    }
  }
  for (int i = 0; i < kRefinements; ++i) search.refine(codes);
  return search.best();
}

// Whether every scale that may be tried is a finite float16.
bool fits(const Extent& extent, WeightFormat format) {
  const float int8_limit = kMaxHalf * kInt8Max;
  const float int4_limit = kMaxHalf * (kInt4Max - kInt4Middle);
  const float limit = format == WeightFormat::kInt8 ? int8_limit : int4_limit;
  return extent.high <= limit && -extent.low <= limit;
}

// The smallest index that any thread reports.
void keep_first(std::atomic<int64_t>& first, int64_t index) {
  int64_t known = first.load();
  while (index < known && !first.compare_exchange_weak(known, index)) continue;
}

constexpr int64_t kNone = std::numeric_limits<int64_t>::max();

std::span<const std::byte> row_of(const FloatRows& rows, int64_t row) {
  const auto bytes = static_cast<size_t>(rows.columns) * dtype_size(rows.dtype);
  return {rows.data + static_cast<size_t>(row) * bytes, bytes};
}

// Stores codes from column `begin`, an even one, on.
void put_codes(std::span<const int32_t> codes, WeightFormat format, uint8_t* row, int64_t begin) {
  if (format == WeightFormat::kInt8) {
    auto* const out = reinterpret_cast<int8_t*>(row + begin);
    for (size_t i = 0; i < codes.size(); ++i) out[i] = static_cast<int8_t>(codes[i]);
    return;
  }
  uint8_t* const out = row + begin / 2;
  for (size_t i = 0; i < codes.size(); i += 2) {
    const auto even = static_cast<unsigned>(codes[i]);
    const unsigned odd = i + 1 < codes.size() ? static_cast<unsigned>(codes[i + 1]) : 0U;
    out[i / 2] = static_cast<uint8_t>(even | odd << 4);
  }
}

// The code of column `c`, relative to nothing: -128 … 127 or 0 … 15.
int32_t get_code(const uint8_t* row, WeightFormat format, int64_t c) {
  if (format == WeightFormat::kInt8) return static_cast<int8_t>(row[c]);
  return c % 2 == 0 ? row[c / 2] & 15 : row[c / 2] >> 4;
}

// The groups of a row: the place of a group's scale, its first column and the one behind its last.
template <class Rows, class Visit>
void for_each_group(const Rows& rows, int64_t row, Visit visit) {
  const int64_t size = effective_group(rows.format, rows.columns);
  const int64_t groups = groups_per_row(rows.format, rows.columns);
  for (int64_t g = 0; g < groups; ++g) {
    const int64_t begin = g * size;
    visit(row * groups + g, begin, std::min(rows.columns, begin + size));
  }
}

// `buffer`: room for a row.
QuantizedError quantize_row(std::span<const float> values, const QuantizedRows& target, int64_t row, QuantScheme scheme,
                            std::span<int32_t> buffer) {
  const WeightFormat format = target.format.format;
  uint8_t* const out = target.codes + row * row_bytes(format, target.columns);
  QuantizedError sums;
  for_each_group(target, row, [&](int64_t at, int64_t begin, int64_t end) {
    const auto group = values.subspan(static_cast<size_t>(begin), static_cast<size_t>(end - begin));
    const std::span<int32_t> codes = buffer.first(group.size());
    const Grid grid = format == WeightFormat::kInt8 ? int8_grid(extent_of(group)) : int4_grid(group, scheme, codes);
    target.scale[at] = grid.scale.bits;
    if (format == WeightFormat::kInt4) target.zero[at] = static_cast<uint8_t>(grid.zero);
    nearest_codes(group, grid.scale.value, code_range(format, grid.zero), codes.data());
    for (size_t i = 0; i < group.size(); ++i) {
      const auto w = static_cast<double>(group[i]);
      const auto off = w - static_cast<double>(static_cast<float>(codes[i]) * grid.scale.value);
      sums.error += off * off;
      sums.norm += w * w;
      codes[i] += grid.zero;
    }
    put_codes(codes, format, out, begin);
  });
  return sums;
}

}  // namespace

QuantizedError quantize_rows(const FloatRows& source, const QuantizedRows& target, QuantScheme scheme, ThreadPool& pool,
                             const MatrixName& name) {
  XLSTM_ASSERT(source.rows == target.rows && source.columns == target.columns);
  XLSTM_ASSERT(is_quantized(target.format.format));
  std::vector<QuantizedError> row_errors(static_cast<size_t>(source.rows));
  std::atomic<int64_t> not_finite{kNone};
  std::atomic<int64_t> too_large{kNone};
  pool.parallel_for(source.rows, 1, [&](int64_t begin, int64_t end, int) {
    std::vector<float> values(static_cast<size_t>(source.columns));
    std::vector<int32_t> buffer(values.size());
    for (int64_t row = begin; row < end; ++row) {
      if (const auto bad = first_non_finite(source.dtype, row_of(source, row))) {
        keep_first(not_finite, (name.first_row + row) * source.columns + *bad);
        continue;
      }
      to_float32(source.dtype, row_of(source, row), values);
      if (!fits(extent_of(values), target.format.format)) {
        keep_first(too_large, name.first_row + row);
        continue;
      }
      row_errors[static_cast<size_t>(row)] = quantize_row(values, target, row, scheme, buffer);
    }
  });
  if (not_finite != kNone) {
    fail(ExitCode::kCheckpoint, name.what, name.where, "finite numbers",
         cat("NaN or infinity at element ", not_finite.load()));
  }
  if (too_large != kNone) {
    fail(ExitCode::kCheckpoint, name.what, name.where, "values within the range of int8 and int4",
         cat("a larger one in row ", too_large.load()));
  }
  QuantizedError sum;
  for (const QuantizedError& row : row_errors) {
    sum.error += row.error;
    sum.norm += row.norm;
  }
  return sum;
}

void dequantize_row(const ConstQuantizedRows& source, int64_t row, std::span<float> target) {
  const WeightFormat format = source.format.format;
  const uint8_t* codes = source.codes + row * row_bytes(format, source.columns);
  for_each_group(source, row, [&](int64_t at, int64_t begin, int64_t end) {
    const float scale = f16_to_float(source.scale[at]);
    const int32_t zero = format == WeightFormat::kInt4 ? source.zero[at] : 0;
    for (int64_t c = begin; c < end; ++c) {
      target[static_cast<size_t>(c)] = scale * static_cast<float>(get_code(codes, format, c) - zero);
    }
  });
}

bool has_nearest_codes(const FloatRows& source, const ConstQuantizedRows& codes, ThreadPool& pool) {
  XLSTM_ASSERT(source.rows == codes.rows && source.columns == codes.columns);
  const WeightFormat format = codes.format.format;
  std::atomic<bool> same{true};
  pool.parallel_for(source.rows, 1, [&](int64_t first, int64_t last, int) {
    std::vector<float> values(static_cast<size_t>(source.columns));
    std::vector<int32_t> nearest(values.size());
    for (int64_t row = first; row < last && same; ++row) {
      to_float32(source.dtype, row_of(source, row), values);
      const uint8_t* stored = codes.codes + row * row_bytes(format, codes.columns);
      for_each_group(codes, row, [&](int64_t at, int64_t begin, int64_t end) {
        const float scale = f16_to_float(codes.scale[at]);
        const int32_t zero = format == WeightFormat::kInt4 ? codes.zero[at] : 0;
        const auto group = std::span(values).subspan(static_cast<size_t>(begin), static_cast<size_t>(end - begin));
        nearest_codes(group, scale, code_range(format, zero), nearest.data());
        for (int64_t c = begin; c < end; ++c) {
          if (get_code(stored, format, c) != nearest[static_cast<size_t>(c - begin)] + zero) same = false;
        }
      });
    }
  });
  return same;
}

const char* damaged_scales(const ConstQuantizedRows& rows) {
  const auto count = static_cast<size_t>(rows.rows * groups_per_row(rows.format, rows.columns));
  const auto scales = std::as_bytes(std::span(rows.scale, count));
  if (first_non_finite(DType::F16, scales)) return "a scale that is NaN or infinite";
  if (rows.format.format != WeightFormat::kInt4) return nullptr;
  const bool in_range = std::all_of(rows.zero, rows.zero + count, [](uint8_t zero) { return zero <= kInt4Max; });
  return in_range ? nullptr : "a zero point above 15";
}

}  // namespace xlstm
