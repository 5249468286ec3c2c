// Matrices as the CPU multiplies with them: canonical to panels at load, and panels to kernels in a pass.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/input_rows.h"
#include "kernels/cpu/panel_finish.h"
#include "kernels/cpu/panel_kernels.h"
#include "kernels/cpu/weight_memory.h"
#include "kernels/device_ops.h"
#include "xlstm/core/thread_pool.h"

namespace xlstm::cpu {

// The panels of a canonical matrix; with kGateUp a panel of the gate half lies before the panel of the up half that
// meets it. Error kDevice for tensors of another type than the format's.
[[nodiscard]] Linear pack_linear(const Linear& canonical, RowOrder order, WeightMemory& memory, ThreadPool& pool);

// Part of a product's result.
struct Region {
  int64_t row_begin = 0, row_end = 0;      // row_begin is a multiple of kRowGrain
  int64_t panel_begin = 0, panel_end = 0;  // of kPanelWidth columns; of a kGateUp matrix, pairs of panels
};

// The block_rows of every kernel divide it.
constexpr int64_t kRowGrain = 12;

struct RowsOf {
  float* data = nullptr;
  int64_t stride = 0;
  [[nodiscard]] float* row(int64_t index) const { return data + index * stride; }
};

// A packed matrix with the kernel that multiplies with it. Refers to the Linear's memory.
class CpuMatrix {
 public:
  explicit CpuMatrix(const Linear& packed, RowOrder order = RowOrder::kPlain);

  [[nodiscard]] const InputLayout& input() const { return input_; }
  [[nodiscard]] int64_t panels() const { return layout_.panels(); }

  // y (+)= cap(x · Wᵀ + b) of a region; x: all `rows` prepared rows.
  void multiply(const std::byte* x, int64_t rows, const Region& region, const PlainFinish& finish, RowsOf y) const;
  // y = SiLU(x · Wgateᵀ) ⊙ (x · Wupᵀ) of a kGateUp matrix.
  void multiply_gate_up(const std::byte* x, int64_t rows, const Region& region, RowsOf y) const;

 private:
  // run(panel, args, target) for each block of rows and panel of a region.
  template <class Run>
  void for_each_block(const std::byte* x, int64_t rows, const Region& region, RowsOf y, const Run& run) const;
  [[nodiscard]] const float* bias_at(int64_t column) const { return bias_ == nullptr ? nullptr : bias_ + column; }

  PanelLayout layout_;  // of a kGateUp matrix: of either half
  PanelKernel kernel_;
  InputLayout input_;
  const std::byte* data_;
  const float* bias_;
  int64_t halves_;
};

}  // namespace xlstm::cpu
