// A tuning run: loads a model, searches, and writes the run's folder.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "kernels/model_dims.h"
#include "xlstm/config/runtime_opts.h"
#include "xlstm/registry/registry.h"
#include "xlstm/tune/run_folder.h"
#include "xlstm/tune/search.h"
#include "xlstm/tune/settings.h"

namespace xlstm {

struct TuneModel {
  std::optional<std::filesystem::path> directory;  // a checkpoint, or
  std::string shape;                               // the name of a synthetic model
  ModelDims dims;                                  // of the synthetic model
  int64_t num_blocks = 0;                          // the same
};

struct TuneRequest {
  RuntimeOpts opts;  // the plain configuration: what runs without a tuned result
  Resolution resolution;
  TuneModel model;
  bool force = false;  // load although memory is estimated not to suffice
  TuneSettings settings;
  std::string prompt_text;  // where settings.prompt_file is not empty
  uint64_t seed = 0;
  std::optional<RuntimeOpts> earlier;     // with a tuned result that exists already: tried first
  std::vector<std::string> command_line;  // recorded
};

struct TuneReport {
  std::vector<Trial> trials;
  TuneAnswer answer;
  TuneParams plain;
  int64_t prompt_tokens = 0;
  bool workers_matter = false;  // which knobs have an effect with this device and backend; chunk_size always has
  bool heads_matter = false;
};

// Runs to the end and writes best.json. `resumed`: the run_meta.json of the folder's earlier part; Error kUsage by name
// where it says something else than the request. A stop or an error passes through; trials done stay in the folder, and
// the log says how to go on.
[[nodiscard]] TuneReport tune(const TuneRequest& request, RunFolder& folder, const nlohmann::json* resumed);

}  // namespace xlstm
