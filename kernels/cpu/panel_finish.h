// What happens to the results of a panel kernel: bias, soft cap, SwiGLU, the residual sum.
#pragma once

#include <cstdint>

namespace xlstm::cpu {

// Where the columns of a panel go.
struct PanelTarget {
  float* y = nullptr;  // of the first row and column
  int64_t y_stride = 0;
  int64_t rows = 0;
  int64_t columns = 0;          // of a panel's 32
  const float* bias = nullptr;  // [columns] or null
};

struct PlainFinish {
  bool accumulate = false;  // add to y instead of overwriting it
  float soft_cap = 0;       // cap · tanh(y / cap); 0: none
};

// y (+)= cap(sums + bias); sums [rows][32]
void finish_plain(const PanelTarget& target, const PlainFinish& finish, const float* sums);

// y = SiLU(gate + bias) ⊙ (up + up_bias)
void finish_gate_up(const PanelTarget& target, const float* up_bias, const float* gate, const float* up);

}  // namespace xlstm::cpu
