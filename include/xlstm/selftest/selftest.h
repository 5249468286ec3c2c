// Every kernel of a device against the native float32 kernels, then the bundled model against its stored goldens.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "kernels/model_dims.h"
#include "xlstm/config/runtime_opts.h"
#include "xlstm/registry/registry.h"

namespace xlstm {

struct SelftestCase {
  std::string kernel;   // registry key, or "model"
  std::string subject;  // shape, dtype, or golden case
  double max_abs = 0;
  double relative = 0;   // Frobenius norm of the difference over that of the reference
  double tolerance = 0;  // on `relative`
  bool passed = false;
  std::string note{};  // what went wrong beyond the numbers, if anything
};

// The fastest of some runs of one operation of a decode step, for one sequence.
struct SelftestSpeed {
  std::string operation;
  std::string dtype;   // of the weights
  double bytes = 0;    // weights with scales, or state read and written
  double seconds = 0;  // a call
};

struct SelftestReport {
  std::vector<SelftestCase> cases;
  std::vector<SelftestSpeed> speed;  // empty if not asked for
};

struct SelftestRequest {
  RuntimeOpts opts;    // device, threads, chunk_size … of the run
  bool force = false;  // load the model although memory is estimated not to suffice
  Resolution resolution;
  std::filesystem::path model;                       // bundled checkpoint; empty: skipped, and said so by the caller
  std::filesystem::path goldens;                     // golden.safetensors of that checkpoint
  std::optional<ModelDims> speed_dims;               // a block's shape to measure speed with
  std::function<void(const SelftestCase&)> on_case;  // called as each case ends
};

// Runs every case, failures included.
[[nodiscard]] SelftestReport run_selftest(const SelftestRequest& request);

}  // namespace xlstm
