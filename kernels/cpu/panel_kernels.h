// Products of prepared rows with one panel of a matrix (panel_layout.h), on the calling thread.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/panel_layout.h"

namespace xlstm::cpu {

// What a product's input rows are turned into. Every kind is a stream of 4-byte units: one float32, two bfloat16 or
// four int8 of consecutive inputs.
enum class InputKind { kFloat32, kBfloat16, kInt8 };

struct PanelArgs {
  const std::byte* panel = nullptr;
  int64_t width = kPanelWidth;     // 16 or 32
  const void* x = nullptr;         // a block of prepared rows: [units][rows] (input_rows.h)
  const float* x_scale = nullptr;  // [rows], int8 input only
  const int32_t* x_sum = nullptr;  // [groups][rows] sums of the row's codes over a group, int8 input only
  const PanelLayout* layout = nullptr;
  float* out = nullptr;  // [rows][32], results
};

// A value of `out` has the same bits whatever rows are computed beside it.
using PanelFunction = void (*)(int rows, const PanelArgs& args);

struct PanelKernel {
  InputKind input = InputKind::kFloat32;
  int block_rows = 1;  // the most rows of one call
  PanelFunction run = nullptr;
};

// The best kernel of the instruction set in use.
[[nodiscard]] PanelKernel pick_panel_kernel(const PanelLayout& layout);

// How far ahead of its use a weight is fetched from memory: less hides too little of DRAM's latency, and what lies
// behind a panel is the next one.
constexpr int64_t kPrefetchBytes = 4096;

}  // namespace xlstm::cpu
