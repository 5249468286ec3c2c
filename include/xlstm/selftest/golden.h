// Comparison of a loaded model with stored reference outputs of another implementation.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "xlstm/runtime/engine.h"

namespace xlstm {

// One case of a golden.safetensors file: a prompt, and what the reference answered. Empty: not stored.
struct GoldenCase {
  std::string name;
  std::vector<int64_t> input_ids;
  std::vector<float> logits;  // [rows, V]; rows = prompt length, or 1: the last position only
  std::vector<int64_t> greedy_ids;
  std::vector<float> greedy_margin;  // best logit minus second best, per greedy id
  struct LayerState {
    int64_t layer = 0;
    SavedState::Layer arrays;
  };
  std::vector<LayerState> states;  // after the prompt
};

// Error kCheckpoint for a file that is not of this form.
[[nodiscard]] std::vector<GoldenCase> load_goldens(const std::filesystem::path& golden_safetensors);

// Deviations from the reference. "Relative" is the Frobenius norm of the difference over that of the reference.
struct GoldenResult {
  double logits_max_abs = 0;
  double logits_relative = 0;
  double worst_row_relative = 0;
  double state_relative = 0;  // worst tensor, compared as e^m·C and e^m·n; 0 if the case stores none
  int64_t greedy_equal = 0;   // leading ids that agree
};

// Runs the case from a fresh state with the engine's kernels.
[[nodiscard]] GoldenResult compare_with_golden(Engine& engine, const GoldenCase& golden);

// ‖a - b‖ / ‖b‖ over equally long arrays; infinity for NaN.
[[nodiscard]] double relative_error(std::span<const float> a, std::span<const float> b);

}  // namespace xlstm
