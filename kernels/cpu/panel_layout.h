// The order in which the CPU kernels read a matrix: panels of output columns, one behind the other.
//
// A panel holds the weights of 32 consecutive outputs (the last one of 16 if no more are left), in the order of the
// sum:
//
//   float32   [in][width]
//   float16   [in][width]
//   bfloat16  [⌈in/2⌉][width][2]
//   int8      scales [groups][width] float16, codes [⌈in/4⌉][width][4], code = q + 128
//   int4      scales [groups][width] float16, zeros [groups][width] uint8, codes [⌈in/8⌉][width][4]: of eight inputs,
//             byte b of a column holds input b (low nibble) and b + 4 (high nibble)
//
// Outputs beyond the matrix are zeros; what stands for inputs beyond it is multiplied by zeros. A thread reads its
// panels as one stream.
#pragma once

#include <cstdint>

#include "kernels/weight_format.h"

namespace xlstm::cpu {

constexpr int64_t kPanelWidth = 32;
constexpr int64_t kNarrowWidth = 16;

struct PanelLayout {
  WeightFormat format = WeightFormat::kFloat32;
  int64_t out = 0;
  int64_t in = 0;
  int64_t group = 0;  // columns per scale of int8 and int4

  [[nodiscard]] int64_t groups() const { return is_quantized(format) ? (in + group - 1) / group : 0; }
  [[nodiscard]] int64_t panels() const { return (out + kPanelWidth - 1) / kPanelWidth; }
  [[nodiscard]] int64_t width(int64_t panel) const {
    return out - panel * kPanelWidth <= kNarrowWidth ? kNarrowWidth : kPanelWidth;
  }
  // Bytes of scales and zeros in front of the codes of a panel.
  [[nodiscard]] int64_t header_bytes(int64_t panel_width) const {
    const int64_t per_column = format == WeightFormat::kInt8 ? 2 : format == WeightFormat::kInt4 ? 3 : 0;
    return groups() * panel_width * per_column;
  }
  [[nodiscard]] int64_t code_bytes(int64_t panel_width) const {
    switch (format) {
      case WeightFormat::kFloat32: return in * panel_width * 4;
      case WeightFormat::kFloat16: return in * panel_width * 2;
      case WeightFormat::kBfloat16: return (in + 1) / 2 * panel_width * 4;
      case WeightFormat::kInt8: return (in + 3) / 4 * panel_width * 4;
      case WeightFormat::kInt4: return (in + 7) / 8 * panel_width * 4;
    }
    return 0;
  }
  [[nodiscard]] int64_t panel_bytes(int64_t panel_width) const {
    return header_bytes(panel_width) + code_bytes(panel_width);
  }
  [[nodiscard]] int64_t offset(int64_t panel) const { return panel * panel_bytes(kPanelWidth); }
  [[nodiscard]] int64_t total_bytes() const {
    return panels() == 0 ? 0 : offset(panels() - 1) + panel_bytes(width(panels() - 1));
  }
};

}  // namespace xlstm::cpu
