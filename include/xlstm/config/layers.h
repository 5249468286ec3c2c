// The seven configuration layers, lowest to highest: compiled defaults, runtime_defaults.json, the auto-picked profile,
// the newest matching tuned result, --profile, --config files, command-line flags. A later layer wins key by key.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "xlstm/config/runtime_opts.h"

namespace xlstm {

// The model facts that a tuned result is recorded for.
struct ModelShape {
  int64_t embedding_dim = 0;
  int64_t num_blocks = 0;
  int64_t num_heads = 0;
  int64_t vocab_size = 0;
};

struct LayerRequest {
  std::optional<std::filesystem::path> configs_dir;  // absent: ./configs, else the shipped folder
  std::optional<std::string> profile;                // name of a file in the configs directory, without ".json"
  std::vector<std::filesystem::path> config_files;   // in order
  nlohmann::json flags;                              // object: key → value given on the command line; null: none

  // Maps the requested device ("auto", "cpu", "cuda", "cuda:1", "mps") to the one that would run ("cpu", "cuda:0",
  // "mps"). It must answer for a device that is absent too. Empty: "auto" means cpu.
  std::function<std::string(const std::string&)> resolve_device;
  std::optional<ModelShape> model;  // absent: tuned results of any model match, with a note
};

struct AppliedLayer {
  std::string source;  // "compiled defaults", a file's path, "command line"
  std::string rule;    // why it was applied; begins with the flag for --profile and --config
};

struct EffectiveConfig {
  RuntimeOpts opts;
  std::map<std::string, std::string> origin;  // key → "compiled default" | file path | "command line"
  std::vector<AppliedLayer> layers;           // lowest first
  std::vector<std::string> notes;             // for the log: what was passed over, and which tuned result was used
  std::filesystem::path configs_dir;          // empty if none was found
};

// Selectors (device, chunkwise_backend, use_best, runs_dir) are resolved first from the explicit layers; the two
// automatic layers are chosen by them and cannot change them. Reads files; Error kUsage for a bad one, but an
// unusable tuned result is only noted.
[[nodiscard]] EffectiveConfig merge_layers(const LayerRequest& request);

// Every key with its merged value in declaration order, then _origin and _layers. Saved to a file and given to
// --config it yields the same values.
[[nodiscard]] nlohmann::ordered_json to_json(const EffectiveConfig& config);

}  // namespace xlstm
