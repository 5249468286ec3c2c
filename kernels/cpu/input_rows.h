// Rows of activations in the form that panel kernels read: blocks of up to `block_rows` rows, and in a block, unit by
// unit, that unit of each row, so that a kernel reads one stream.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/panel_kernels.h"

namespace xlstm::cpu {

// Where the parts of prepared rows lie in one piece of memory.
class InputLayout {
 public:
  struct Shape {
    int64_t in = 0;
    int64_t units = 0;  // of 4 bytes in a row; those behind the last input are 0
    int64_t group = 0;  // inputs whose codes are summed, int8 input only
    int64_t groups = 0;
  };

  InputLayout(const PanelKernel& kernel, const PanelLayout& matrix);

  [[nodiscard]] InputKind kind() const { return kind_; }
  [[nodiscard]] int64_t block_rows() const { return block_rows_; }
  [[nodiscard]] int64_t blocks(int64_t rows) const { return (rows + block_rows_ - 1) / block_rows_; }
  [[nodiscard]] int64_t row_bytes() const {
    return 4 * (shape_.units + (kind_ == InputKind::kInt8 ? 1 + shape_.groups : 0));
  }
  // Bytes of a full block; a block of fewer rows uses the beginning of its own.
  [[nodiscard]] int64_t block_bytes() const { return block_rows_ * row_bytes(); }
  [[nodiscard]] int64_t bytes(int64_t rows) const { return blocks(rows) * block_bytes(); }

  // The parts of block `block` of prepared rows, as a kernel takes them.
  void locate(const std::byte* prepared, int64_t block, int64_t rows, PanelArgs* args) const;

  // Writes row `row` of a block of `rows` rows: x has `in` values.
  void write(const float* x, int64_t row, int64_t rows, std::byte* block) const;

 private:
  InputKind kind_;
  int64_t block_rows_;
  Shape shape_;
};

}  // namespace xlstm::cpu
