// Every kernel of a device against the native float32 kernels, then the bundled model against its stored goldens.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

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

struct SelftestRequest {
  RuntimeOpts opts;    // device, threads, chunk_size … of the run
  bool force = false;  // load the model although memory is estimated not to suffice
  Resolution resolution;
  std::filesystem::path model;                       // bundled checkpoint; empty: skipped, and said so by the caller
  std::filesystem::path goldens;                     // golden.safetensors of that checkpoint
  std::function<void(const SelftestCase&)> on_case;  // called as each case ends
};

// Runs every case, failures included.
std::vector<SelftestCase> run_selftest(const SelftestRequest& request);

}  // namespace xlstm
