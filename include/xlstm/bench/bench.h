// Speed of prefill and decode: a checkpoint's or a synthetic shape's.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "kernels/model_dims.h"
#include "xlstm/config/runtime_opts.h"
#include "xlstm/registry/registry.h"

namespace xlstm {

struct SyntheticShape {
  ModelDims dims;
  int64_t num_blocks = 0;
};

// "7b", "406m", or "E=1024,blocks=24,heads=4,vocab=50304" with every key optional but E; qk_dim is E/2, v_dim E, the
// FFN 2.667·E rounded up to 64. Error kUsage.
[[nodiscard]] SyntheticShape parse_shape(const std::string& text);

struct BenchRequest {
  RuntimeOpts opts;
  Resolution resolution;
  std::optional<std::filesystem::path> model;  // a checkpoint directory, or
  std::string shape;                           // a shape for parse_shape()
  std::vector<int64_t> n_prompt;               // one prefill row each; 0: none
  std::vector<int64_t> n_gen;                  // one decode row each; 0: none
  std::vector<int64_t> batch;                  // each row for each batch size
  int64_t repeats = 5;
};

struct BenchRow {
  std::string test;  // "prefill" or "decode"
  std::string model;
  std::string device;
  std::string dtype;
  std::string kernel;  // registry key of the cell kernel that does the work
  int64_t n_prompt = 0;
  int64_t n_gen = 0;
  int64_t batch = 1;
  int64_t threads = 1;
  int64_t workers = 1;
  int64_t heads_per_band = 1;
  int64_t chunk_size = 1;
  double tok_s = 0;  // median over the repeats, all sequences of the batch together
  double tok_s_min = 0;
  double tok_s_max = 0;
  double weight_gb_s = 0;  // decode: bytes of weights read per second; 0 for prefill
  double state_gb_s = 0;   // decode: bytes of state read and written per second; 0 for prefill
  double peak_mb = 0;      // largest resident size of the process so far
  int64_t repeats = 0;
};

// Warms up, measures every combination, and calls on_row as each is done.
std::vector<BenchRow> run_bench(const BenchRequest& request, const std::function<void(const BenchRow&)>& on_row);

// The object that `bench -o json` prints: build, machine, rows.
[[nodiscard]] nlohmann::ordered_json bench_report(const std::vector<BenchRow>& rows);
[[nodiscard]] nlohmann::ordered_json to_json(const BenchRow& row);

}  // namespace xlstm
