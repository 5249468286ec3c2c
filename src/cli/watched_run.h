// What accompanies a command that loads a model: memory guard, memory log, and the status that `monitor` shows.
#pragma once

#include <filesystem>
#include <functional>

#include "src/cli/arguments.h"
#include "xlstm/core/errors.h"
#include "xlstm/registry/registry.h"

namespace xlstm {

struct WatchedRun {
  const Arguments& args;
  const EffectiveConfig& config;
  const Resolution& resolution;
  std::filesystem::path model;  // its directory, or a synthetic shape
};

// Runs `work`, which loads the model and does the command's job, with guard and status from before to behind. A stop by
// the guard becomes Error kMemory; other stops stay Stopped. Error kOutput if mem_log cannot be written.
ExitCode watch_run(const WatchedRun& run, const std::function<ExitCode()>& work);

}  // namespace xlstm
