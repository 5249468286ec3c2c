// What one forward pass computes: which rows belong to which sequence, and whose logits are wanted; and how large the
// passes get that memory is planned for.
#pragma once

#include <cstdint>
#include <vector>

#include "xlstm/core/errors.h"

namespace xlstm {

enum class LogitRows { kNone, kLast, kAll };

// `rows` consecutive tokens of the sequence in state slot `slot`; they are rows [first_row, first_row + rows) of the
// pass. Spans of one plan are independent sequences, so their slots differ.
struct Span {
  int64_t slot = 0;
  int64_t first_row = 0;
  int64_t rows = 0;
};

class RowPlan {
 public:
  // Appends a span of one row or more behind the rows so far.
  void add(int64_t slot, int64_t rows, LogitRows logits) {
    XLSTM_ASSERT(rows >= 1);
    spans_.push_back({slot, rows_, rows});
    const int64_t end = rows_ + rows;
    const int64_t first_logit = logits == LogitRows::kAll ? rows_ : logits == LogitRows::kLast ? end - 1 : end;
    for (int64_t row = first_logit; row < end; ++row) logit_rows_.push_back(row);
    rows_ = end;
  }
  void clear() {
    spans_.clear();
    logit_rows_.clear();
    rows_ = 0;
  }

  [[nodiscard]] const std::vector<Span>& spans() const { return spans_; }
  [[nodiscard]] int64_t rows() const { return rows_; }
  // The rows whose logits are computed, ascending; row j of the pass's logits belongs to logit_rows()[j].
  [[nodiscard]] const std::vector<int64_t>& logit_rows() const { return logit_rows_; }

 private:
  std::vector<Span> spans_;
  std::vector<int64_t> logit_rows_;
  int64_t rows_ = 0;
};

// Rows of a pass that all devices take. More at once would gain nothing: the products are long, and weights are read
// once for so many rows.
constexpr int64_t kMostPassRows = int64_t{1} << 18;

// Bounds of all passes of a run.
struct PassSize {
  int64_t rows = 1;
  int64_t sequences = 1;
};

}  // namespace xlstm
