// A mapped tensor by blocks of its rows.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "xlstm/core/progress.h"
#include "xlstm/core/stop.h"
#include "xlstm/io/safetensors.h"

namespace xlstm {

// Of a tensor between two looks at the stop request and two drawings of the progress bar.
inline constexpr int64_t kRowBlockBytes = int64_t{16} << 20;

// Calls visit(first row, rows, their bytes) for consecutive blocks. Stopped if a stop is requested.
template <class Visit>
void for_each_row_block(const TensorView& source, Progress& progress, const Visit& visit) {
  const int64_t rows = source.shape.at(0);
  const auto each = static_cast<int64_t>(source.bytes.size()) / std::max<int64_t>(1, rows);
  const int64_t step = std::max<int64_t>(1, kRowBlockBytes / std::max<int64_t>(1, each));
  for (int64_t first = 0; first < rows; first += step) {
    throw_if_stopped();
    const int64_t count = std::min(step, rows - first);
    visit(first, count, source.bytes.subspan(static_cast<size_t>(first * each), static_cast<size_t>(count * each)));
    progress.advance(count * each);
  }
}

}  // namespace xlstm
