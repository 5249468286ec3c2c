// Speed of prefill, of decode, and of the chunkwise cell alone: a checkpoint's or a synthetic shape's.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "kernels/model_dims.h"
#include "xlstm/bench/baseline.h"
#include "xlstm/config/runtime_opts.h"

namespace xlstm {

struct SyntheticShape {
  ModelDims dims;
  int64_t num_blocks = 0;
};

// "7b", "406m", or "E=1024,blocks=24,heads=4,vocab=50304" with every key optional but E; qk_dim is E/2, v_dim E, the
// FFN 2.667·E rounded up to 64. Error kUsage, naming the flag that the text came from.
[[nodiscard]] SyntheticShape parse_shape(const std::string& text, const std::string& flag = "--shape");

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
  // Measure the machine's limits first, and around every sample the one that the row's shares are of; samples during
  // which the machine changed are rejected and repeated.
  bool limits = false;
  std::optional<Baseline> baseline;  // what the rows' ratios compare with
  // A row for each combination; empty: as in opts.
  std::vector<std::string> chunkwise_backend;
  std::vector<std::string> dtype;
  std::vector<std::string> state_dtype;
  std::vector<int64_t> chunk_size;
  std::vector<int64_t> heads_per_band;
  std::vector<int64_t> workers;
  std::vector<int64_t> threads;
};

// What a device, or a CPU with a number of threads, does at most: each the best of several tries.
struct BenchLimits {
  std::string device;
  std::optional<int64_t> threads;  // of a CPU
  double read_gb_s = 0;            // from memory, 10^9 bytes
  double copy_gb_s = 0;            // read and written, together
  // libtorch's matrix product, by type; "int8" counts its integer operations.
  std::map<std::string, double> gemm_gflop_s;
  std::map<std::string, double> peak_gflop_s;  // of a CPU: in registers alone, by kind of instruction
  std::optional<double> barrier_ns;            // of several threads: a pool's job in which every member takes part
};

struct BenchRow {
  std::string test;  // "prefill", "decode" or "cell"
  std::string model;
  std::string device;
  std::string dtype;        // of the weights; "cell": of the state
  std::string state_dtype;  // of C and n
  std::string kernel;       // registry key of the cell kernel that does the work
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
  // With limits, medians over the samples; otherwise, and where no sample was steady, absent.
  // decode: bytes of weights and state, as above, by the bytes per second that the same threads can read (other devices
  // than a CPU: copy); otherwise: FLOP of the rows computed by the rate of libtorch's matrix product.
  std::optional<double> limit_share;
  // With limits, not of decode: the type of that product, a key of gemm_gflop_s. The weights' own, int8 for int4, or
  // the nearest that the device multiplies fast.
  std::optional<std::string> judged_by;
  std::optional<double> peak_share;  // FLOP by the CPU's peak in the fastest instruction for this type; not of decode
  // Largest resident size while the row, and those measured in turns with it, ran; what earlier rows left is included,
  // buffers for measuring limits are not. Where the system cannot start the peak anew (macOS): since the process began.
  double peak_mb = 0;
  int64_t repeats = 0;          // samples that the numbers come from: the steady ones, or all where none was
  int64_t rejected = 0;         // samples during which the machine changed (only looked for with limits)
  std::optional<double> ratio;  // tok_s by that of the baseline's row, where it has one
};

struct BenchResult {
  std::vector<BenchRow> rows;
  std::optional<BenchLimits> limits;  // with most threads of those that rows use
};

// Measures every combination and calls on_row as rows are done. Combinations that come to the same run are measured
// once. The repeats of rows that differ in their scheduling alone take turns, so that a machine whose speed drifts
// treats them alike. Errors kUsage and kDevice for settings that cannot run come before any work. Throws Stopped.
BenchResult run_bench(const BenchRequest& request, const std::function<void(const BenchRow&)>& on_row);

// The object that `bench -o json` prints: build, machine, limits if they were measured, rows.
[[nodiscard]] nlohmann::ordered_json bench_report(const BenchResult& result);
[[nodiscard]] nlohmann::ordered_json to_json(const BenchRow& row);
[[nodiscard]] nlohmann::ordered_json to_json(const BenchLimits& limits);

}  // namespace xlstm
