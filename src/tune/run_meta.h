// run_meta.json: everything that is needed to repeat a run, and to tell whether a resumed run is the same one.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "xlstm/runtime/engine.h"
#include "xlstm/tune/tune.h"

namespace xlstm {

// Name and shape, with the keys that tuned results are matched by.
[[nodiscard]] nlohmann::ordered_json model_json(const TuneModel& model, Engine& engine);

[[nodiscard]] nlohmann::ordered_json run_meta(const TuneRequest& request, Engine& engine, const SearchPlan& plan,
                                              const std::vector<int64_t>& prompt);

// Error kUsage with the first thing that is not as it was in the earlier part of the run, whose file is `where`; only a
// warning for another build.
void require_same_run(const nlohmann::json& earlier, const nlohmann::ordered_json& now, const std::string& where);

// The candidates that the earlier part of the run tried first.
[[nodiscard]] std::vector<TuneParams> earlier_of(const nlohmann::json& meta);

}  // namespace xlstm
