// What a tuning run is asked to do: the "optimizer" object of configuration files, which the flags of `tune` overrule.
#pragma once

#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "xlstm/tune/comparison.h"
#include "xlstm/tune/search.h"
#include "xlstm/tune/space.h"

namespace xlstm {

struct TuneSettings {
  std::string backend;  // chunkwise backend, "ray" and "queued" for the schedulers; empty: the run's setting
  TuneMode mode = TuneMode::kGa;
  TuneObjective objective = TuneObjective::kPrefill;
  int64_t trials = 24;               // of mode random
  int64_t generations = 4;           // of mode ga
  int64_t population = 8;            // the same, 2 or more
  int64_t repeats = 3;               // pairs of measurements per candidate, before more are spent on good ones
  TuneRange chunks = {16, 128};      // chunk_size
  std::optional<TuneRange> heads;    // heads_per_band; absent: 1 to all
  std::optional<TuneRange> workers;  // absent: the run's setting
  int64_t prompt_tokens = 2048;      // of a made-up prompt
  int64_t new_tokens = 32;           // key "new": decoded for the objectives decode and total
  std::string prompt_file;           // a text to prefill instead; "-": standard input
  std::string tag;                   // end of the run folder's name; empty: the mode's name
};

// The names are those of the flags: "random", "ga", "grid"; "prefill", "decode", "total".
[[nodiscard]] const char* mode_name(TuneMode mode);
[[nodiscard]] const char* objective_name(TuneObjective objective);
[[nodiscard]] TuneMode mode_of(const std::string& name);            // of a known name
[[nodiscard]] TuneObjective objective_of(const std::string& name);  // of a known name

// Takes over every key of an "optimizer" object: ranges are [lowest, highest]. Error kUsage with `where`, the file, for
// an unknown key, a wrong type or a value out of range.
void apply_settings(TuneSettings& settings, const nlohmann::json& optimizer, const std::string& where);

// Takes over the "optimizer" object of a configuration file. The file's configuration keys are left to --config; they
// are returned.
std::vector<std::string> read_settings_file(TuneSettings& settings, const std::filesystem::path& path);

// The object that apply_settings() would read the same settings from.
[[nodiscard]] nlohmann::ordered_json to_json(const TuneSettings& settings);

}  // namespace xlstm
