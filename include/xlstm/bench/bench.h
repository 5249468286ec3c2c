// Speed of prefill, of decode, and of the chunkwise cell alone: a checkpoint's or a synthetic shape's.
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

namespace xlstm {

struct SyntheticShape {
  ModelDims dims;
  int64_t num_blocks = 0;
};

// "7b", "406m", or "E=1024,blocks=24,heads=4,vocab=50304" with every key optional but E; qk_dim is E/2, v_dim E, the
// FFN 2.667·E rounded up to 64. Error kUsage.
[[nodiscard]] SyntheticShape parse_shape(const std::string& text);

struct BenchRequest {
  RuntimeOpts opts;                            // of everything that no list below varies
  std::optional<std::filesystem::path> model;  // a checkpoint directory, or
  std::string shape;                           // a shape for parse_shape()
  std::vector<int64_t> n_prompt;               // prompt lengths; 0: none
  std::vector<int64_t> n_gen;                  // numbers of tokens to decode; 0: none
  std::vector<int64_t> batch;                  // each row for each batch size
  int64_t repeats = 5;
  bool force = false;  // load although memory is estimated not to suffice
  // The chunkwise kernel alone, over one block's activations: no weights are loaded or made, nothing is decoded.
  bool cell = false;
  // A row for each combination; empty: as in opts.
  std::vector<std::string> chunkwise_backend;
  std::vector<std::string> dtype;
  std::vector<int64_t> chunk_size;
  std::vector<int64_t> heads_per_band;
  std::vector<int64_t> workers;
  std::vector<int64_t> threads;
};

struct BenchRow {
  std::string test;  // "prefill", "decode" or "cell"
  std::string model;
  std::string device;
  std::string dtype;   // of the weights; "cell": of the state
  std::string kernel;  // registry key of the cell kernel that does the work
  int64_t n_prompt = 0;
  int64_t n_gen = 0;
  int64_t batch = 1;
  int64_t threads = 1;
  // What the kernel does not depend on is absent.
  std::optional<int64_t> workers;
  std::optional<int64_t> heads_per_band;  // cut to the head count
  std::optional<int64_t> chunk_size;
  double tok_s = 0;  // median over the repeats, all sequences of the batch together; "cell": through one block
  double tok_s_min = 0;
  double tok_s_max = 0;
  double weight_gb_s = 0;  // decode: bytes of weights read per second; otherwise 0
  double state_gb_s = 0;   // decode: bytes of state read and written per second; otherwise 0
  double peak_mb = 0;      // largest resident size of the process so far
  int64_t repeats = 0;
};

// Measures every combination and calls on_row as rows are done. Combinations that come to the same run are measured
// once. The repeats of rows that differ in their scheduling alone take turns, so that a machine whose speed drifts
// treats them alike. Errors kUsage and kDevice for settings that cannot run come before any work. Throws Stopped.
std::vector<BenchRow> run_bench(const BenchRequest& request, const std::function<void(const BenchRow&)>& on_row);

// The object that `bench -o json` prints: build, machine, rows.
[[nodiscard]] nlohmann::ordered_json bench_report(const std::vector<BenchRow>& rows);
[[nodiscard]] nlohmann::ordered_json to_json(const BenchRow& row);

}  // namespace xlstm
