#include "xlstm/selftest/golden.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>

#include "xlstm/core/errors.h"
#include "xlstm/core/str.h"
#include "xlstm/io/safetensors.h"
#include "xlstm/runtime/sequence.h"

namespace xlstm {
namespace {

template <class T>
std::vector<T> values_of(const TensorView& tensor, DType expected, const std::string& file) {
  if (tensor.dtype != expected) {
    fail(ExitCode::kCheckpoint, cat("tensor ", tensor.name), file, dtype_name(expected), dtype_name(tensor.dtype));
  }
  std::vector<T> values(tensor.bytes.size() / sizeof(T));
  std::memcpy(values.data(), tensor.bytes.data(), tensor.bytes.size());
  return values;
}

// The number in "state.3.c".
int64_t layer_number(const std::string& what, const std::string& where) {
  const std::string text = what.substr(6, what.size() - 8);
  int64_t layer = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), layer);
  if (error != std::errc() || end != text.data() + text.size() || layer < 0) {
    fail(ExitCode::kCheckpoint, "golden state", where, "state.LAYER.c", what);
  }
  return layer;
}

// C and n are relative to m: implementations with another stabiliser agree in e^m·C.
std::vector<float> unstabilised(const std::vector<float>& values, const std::vector<float>& m) {
  const size_t per_head = values.size() / m.size();
  std::vector<float> out(values.size());
  for (size_t i = 0; i < values.size(); ++i) out[i] = values[i] * std::exp(m[i / per_head]);
  return out;
}

double state_error(const SavedState::Layer& actual, const SavedState::Layer& expected) {
  return std::max(relative_error(unstabilised(actual.c, actual.m), unstabilised(expected.c, expected.m)),
                  relative_error(unstabilised(actual.n, actual.m), unstabilised(expected.n, expected.m)));
}

}  // namespace

std::vector<GoldenCase> load_goldens(const std::filesystem::path& golden_safetensors) {
  const SafetensorsFile file(golden_safetensors);
  const std::string where = golden_safetensors.string();
  std::map<std::string, GoldenCase> cases;
  for (const TensorView& tensor : file.tensors()) {
    const size_t dot = tensor.name.find('.');
    if (dot == std::string::npos) fail(ExitCode::kCheckpoint, "golden tensor", where, "CASE.WHAT", tensor.name);
    GoldenCase& golden = cases[tensor.name.substr(0, dot)];
    golden.name = tensor.name.substr(0, dot);
    const std::string what = tensor.name.substr(dot + 1);
    if (what == "input_ids") golden.input_ids = values_of<int64_t>(tensor, DType::I64, where);
    if (what == "logits") golden.logits = values_of<float>(tensor, DType::F32, where);
    if (what == "greedy_ids") golden.greedy_ids = values_of<int64_t>(tensor, DType::I64, where);
    if (what == "greedy_margin") golden.greedy_margin = values_of<float>(tensor, DType::F32, where);
    if (what.starts_with("state.") && what.ends_with(".c")) {
      const std::string stem = tensor.name.substr(0, tensor.name.size() - 1);
      const TensorView* n = file.find(stem + "n");
      const TensorView* m = file.find(stem + "m");
      if (n == nullptr || m == nullptr) fail(ExitCode::kCheckpoint, "golden state", where, "c, n and m", tensor.name);
      golden.states.push_back({layer_number(what, where),
                               {values_of<float>(tensor, DType::F32, where), values_of<float>(*n, DType::F32, where),
                                values_of<float>(*m, DType::F32, where)}});
    }
  }
  std::vector<GoldenCase> out;
  for (auto& [name, golden] : cases) {
    if (golden.input_ids.empty() || golden.logits.empty()) {
      fail(ExitCode::kCheckpoint, cat("golden case ", name), where, "input_ids and logits", "one missing");
    }
    out.push_back(std::move(golden));
  }
  return out;
}

double relative_error(std::span<const float> a, std::span<const float> b) {
  XLSTM_ASSERT(a.size() == b.size());
  double difference = 0;
  double norm = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double d = static_cast<double>(a[i]) - static_cast<double>(b[i]);
    difference += d * d;
    norm += static_cast<double>(b[i]) * static_cast<double>(b[i]);
  }
  if (!std::isfinite(difference) || !std::isfinite(norm)) return std::numeric_limits<double>::infinity();
  if (norm == 0) return difference == 0 ? 0 : std::numeric_limits<double>::infinity();
  return std::sqrt(difference / norm);
}

GoldenResult compare_with_golden(Engine& engine, const GoldenCase& golden) {
  GoldenResult result;
  Sequence sequence(engine);
  std::vector<float> logits;
  sequence.feed(golden.input_ids,
                [&](std::span<const float> rows) { logits.insert(logits.end(), rows.begin(), rows.end()); });

  const std::span<const float> expected = golden.logits;
  if (expected.size() > logits.size()) {
    fail(ExitCode::kCheckpoint, cat("golden case ", golden.name), "logits", cat("at most ", logits.size(), " values"),
         std::to_string(expected.size()));
  }
  const std::span<const float> actual = std::span<const float>(logits).last(expected.size());
  const auto vocab = static_cast<size_t>(engine.dims().vocab_size);
  result.logits_relative = relative_error(actual, expected);
  for (size_t i = 0; i < expected.size(); ++i) {
    result.logits_max_abs =
        std::max(result.logits_max_abs, std::abs(static_cast<double>(actual[i]) - static_cast<double>(expected[i])));
  }
  for (size_t row = 0; row + vocab <= expected.size(); row += vocab) {
    result.worst_row_relative =
        std::max(result.worst_row_relative, relative_error(actual.subspan(row, vocab), expected.subspan(row, vocab)));
  }

  if (!golden.states.empty()) {
    const SavedState saved = sequence.save(/*seed=*/0);
    for (const GoldenCase::LayerState& state : golden.states) {
      const double error = state_error(saved.layers.at(static_cast<size_t>(state.layer)), state.arrays);
      result.state_relative = std::max(result.state_relative, error);
    }
  }

  for (const int64_t expected_id : golden.greedy_ids) {
    const std::span<const float> row = sequence.logits();
    const int64_t id = std::max_element(row.begin(), row.end()) - row.begin();
    if (id != expected_id) break;
    ++result.greedy_equal;
    sequence.feed(std::span(&id, 1));
  }
  return result;
}

}  // namespace xlstm
