// Shapes and passes that the cell's tests of several devices have in common.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/model_dims.h"
#include "kernels/row_plan.h"

namespace xlstm::test {

// Only what a cell looks at.
inline ModelDims cell_dims(int64_t heads, int64_t dk, int64_t dv) {
  ModelDims dims;
  dims.vocab_size = 1;
  dims.embedding_dim = 1;
  dims.ffn_dim = 1;
  dims.num_heads = heads;
  dims.head_dim_qk = dk;
  dims.head_dim_v = dv;
  return dims;
}

constexpr int64_t kCellSlots = 9;

// A pass of several sequences, eight at most: spans in row order, slots scrambled, slot 1 unused.
inline std::vector<Span> make_spans(const std::vector<int64_t>& lengths) {
  const std::vector<int64_t> slots = {4, 0, 5, 2, 3, 7, 8, 6};
  std::vector<Span> spans;
  int64_t row = 0;
  for (size_t i = 0; i < lengths.size(); ++i) {
    spans.push_back({slots.at(i), row, lengths[i]});
    row += lengths[i];
  }
  return spans;
}

inline int64_t rows_of(const std::vector<Span>& spans) {
  return spans.back().first_row + spans.back().rows;
}

}  // namespace xlstm::test
