// Engines for tests, on the CPU in float32 unless a test says otherwise.
#pragma once

#include <filesystem>
#include <string>

#include "xlstm/registry/registry.h"
#include "xlstm/runtime/engine.h"

namespace xlstm::test {

inline std::filesystem::path bundled_model() {
  return std::filesystem::path(XLSTM_SOURCE_DIR) / "models/xlstm-tales-8m";
}
inline std::filesystem::path goldens() {
  return std::filesystem::path(XLSTM_TEST_DATA) / "goldens";
}

inline RuntimeOpts quiet_opts() {
  RuntimeOpts opts;
  opts.device = "cpu";
  opts.dtype = "float32";
  opts.progress = false;
  return opts;
}

// Every operation and kernel in plain libtorch.
inline RuntimeOpts native_opts() {
  RuntimeOpts opts = quiet_opts();
  opts.ops_backend = "native";
  opts.step_backend = "native";
  opts.sequence_backend = "native";
  opts.chunkwise_backend = "native";
  return opts;
}

inline Engine load_engine(const std::filesystem::path& directory, const RuntimeOpts& opts = quiet_opts()) {
  return Engine::load(opts, resolve(opts, stored_dtype(directory)), directory);
}

}  // namespace xlstm::test
