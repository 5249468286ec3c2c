// What commands have in common: the effective configuration, the model directory, input texts and standard output.
#pragma once

#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "src/cli/arguments.h"
#include "xlstm/config/layers.h"
#include "xlstm/model/model_config.h"
#include "xlstm/registry/registry.h"

namespace xlstm {

// The checkpoint directory that -m names, else the bundled one: ./models/xlstm-tales-8m, else the one that came with
// the executable. nullopt only if there is neither.
struct ModelChoice {
  std::filesystem::path directory;
  bool bundled = false;
};
[[nodiscard]] std::optional<ModelChoice> find_model(const Arguments& args);
[[nodiscard]] ModelChoice require_model(const Arguments& args);  // Error kCheckpoint

// config.json of a checkpoint directory, without its tensors. Error kCheckpoint.
[[nodiscard]] ModelConfig read_model_config(const std::filesystem::path& directory);

// What will run with these settings: a quantized checkpoint decides what the weight type `auto` is.
[[nodiscard]] Resolution resolve_run(const Arguments& args, const RuntimeOpts& opts);

// Merges the layers for this run. Does not touch the log.
[[nodiscard]] EffectiveConfig effective_config(const Arguments& args);

// The same, then sets up the log as configured and reports what the layers had to note.
[[nodiscard]] EffectiveConfig start_run(const Arguments& args);

// The prompt text: -p, -f, or standard input if it is a pipe or a file. nullopt: there is none. One trailing newline of
// a file or of standard input is not part of it.
[[nodiscard]] std::optional<std::string> read_prompt(const Arguments& args);

// Thrown when the reader of standard output has gone away: the run ends quietly, its files cleaned up.
struct OutputClosed {};

// A text file as it is, or standard input for "-". Error kUsage.
[[nodiscard]] std::string read_text(const std::string& file);

// Writes results to standard output at once. OutputClosed for a closed pipe (SIGPIPE must be ignored), otherwise Error
// kOutput if it cannot be written.
void print_out(std::string_view text);

// The same for JSON, indented or on one line. Bytes that are not UTF-8 (in paths) are replaced.
void print_json(const nlohmann::ordered_json& json, bool one_line = false);

[[nodiscard]] bool stdout_is_terminal();

}  // namespace xlstm
