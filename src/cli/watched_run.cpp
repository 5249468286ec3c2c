#include "src/cli/watched_run.h"

#include <algorithm>
#include <filesystem>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "src/cli/unused_settings.h"
#include "xlstm/core/log.h"
#include "xlstm/core/paths.h"
#include "xlstm/core/run_status.h"
#include "xlstm/core/stop.h"
#include "xlstm/core/str.h"
#include "xlstm/core/thread_pool.h"
#include "xlstm/memory/memory_guard.h"
#include "xlstm/monitor/publisher.h"
#include "xlstm/registry/device_memory.h"

namespace xlstm {
namespace {

// The configuration layers above the defaults, by names a user knows: "golden_ray_cpu + best.json + command line".
std::string layers_text(const EffectiveConfig& config) {
  std::vector<std::string> names;
  for (const AppliedLayer& layer : config.layers) {
    const std::filesystem::path path(layer.source);
    if (layer.source == "compiled defaults" || path.filename() == "runtime_defaults.json") continue;
    names.push_back(path.parent_path() == config.configs_dir ? path.stem().string() : path.filename().string());
  }
  return names.empty() ? "defaults" : join(names, " + ");
}

double megabytes(uint64_t bytes) {
  return static_cast<double>(bytes) / 1e6;
}

// What the guard has seen, or a look of its own where it does not watch.
MemorySample newest_sample(const MemoryGuard& guard, MemoryReader& reader, const std::string& device) {
  if (std::optional<MemorySample> sample = guard.latest()) return *std::move(sample);
  return {reader.read(), read_device_memory(device)};
}

MemoryStatus memory_status(const MemorySample& sample, const GuardLimits& limits) {
  const GuardLines device = device_lines(limits, sample.device);
  return {megabytes(sample.host.resident), megabytes(sample.host.used), megabytes(sample.device.driver),
          megabytes(device.soft), megabytes(device.hard)};
}

// Threads that share a core wait for each other at every step.
void warn_of_many_threads(const Resolution& resolution) {
  const int most = std::max(resolution.threads, resolution.workers);
  if (most > available_cores()) log::warn(cat(most, " threads on ", available_cores(), " cores will be slow"));
}

}  // namespace

ExitCode watch_run(const WatchedRun& run, const std::function<ExitCode()>& work) {
  warn_of_many_threads(run.resolution);
  warn_of_unused_settings(run.config, run.resolution);
  const std::string& device = run.resolution.device;
  MemoryGuard guard(run.config.opts, {nullptr, [&] { return read_device_memory(device); }});
  const GuardLines lines = guard.lines();
  describe_run({run.args.command, directory_name(run.model), device, run.resolution.weight_dtype,
                run.resolution.chunkwise, layers_text(run.config), megabytes(lines.soft), megabytes(lines.hard)});
  const std::unique_ptr<MemoryReader> reader = make_system_reader();
  const GuardLimits limits = guard_limits(run.config.opts);
  const StatusPublisher publisher({[&] { return memory_status(newest_sample(guard, *reader, device), limits); }, {}});
  try {
    const ExitCode code = work();
    guard.finish();
    return code;
  } catch (const Stopped& stopped) {
    guard.finish();
    if (stopped.reason != StopReason::kMemory) throw;
    throw Error(ExitCode::kMemory, guard.stop_message().value_or("memory (guard): expected less than the hard limit"));
  }
}

}  // namespace xlstm
