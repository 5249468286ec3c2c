// Tuned results: best.json files that earlier tuning runs left below runs_dir.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "src/config/profile.h"
#include "xlstm/config/layers.h"

namespace xlstm {

struct TunedQuery {
  std::filesystem::path runs_dir;
  std::string device;   // the device that runs; only its kind counts
  std::string backend;  // chunkwise backend, in any spelling
  std::optional<ModelShape> model;
};

// The newest runs_dir/*/best.json (then the greatest folder name) recorded for this device kind, backend and model.
// It sets scheduling options only. A field that it does not record matches. Files that do not match or cannot be used
// are passed over; `notes` says so, and which file was taken.
[[nodiscard]] std::optional<Layer> find_tuned_result(const TunedQuery& query, std::vector<std::string>& notes);

}  // namespace xlstm
