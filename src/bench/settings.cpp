#include "src/bench/settings.h"

#include <algorithm>
#include <utility>

#include "xlstm/config/backend_names.h"
#include "xlstm/core/errors.h"
#include "xlstm/core/str.h"
#include "xlstm/model/quantization.h"

namespace xlstm {
namespace {

// Every setting so far with every value of a list; an empty list changes nothing.
template <class T>
void multiply(std::vector<RuntimeOpts>& all, const std::vector<T>& values, T RuntimeOpts::*member) {
  if (values.empty()) return;
  std::vector<RuntimeOpts> product;
  for (const RuntimeOpts& opts : all) {
    for (const T& value : values) {
      product.push_back(opts);
      product.back().*member = value;
    }
  }
  all = std::move(product);
}

// Lists multiply.
void require_few(const BenchRequest& request) {
  constexpr double kMost = 10'000;
  double combinations = 1;
  for (const size_t size : {request.cell ? 0 : request.dtype.size(), request.threads.size(), request.state_dtype.size(),
                            request.chunkwise_backend.size(), request.workers.size(), request.heads_per_band.size(),
                            request.chunk_size.size()}) {
    combinations *= static_cast<double>(std::max<size_t>(1, size));
  }
  if (combinations > kMost) {
    fail(ExitCode::kUsage, "lists", "command line", cat("at most ", fixed(kMost, 0), " combinations of settings"),
         fixed(combinations, 0));
  }
}

}  // namespace

std::vector<LoadGroup> expand_settings(const BenchRequest& request) {
  require_few(request);
  std::vector<RuntimeOpts> all = {request.opts};
  if (!request.cell) multiply(all, request.dtype, &RuntimeOpts::dtype);
  multiply(all, request.threads, &RuntimeOpts::threads);
  multiply(all, request.state_dtype, &RuntimeOpts::state_dtype);
  multiply(all, request.chunkwise_backend, &RuntimeOpts::chunkwise_backend);
  multiply(all, request.workers, &RuntimeOpts::workers);
  multiply(all, request.heads_per_band, &RuntimeOpts::heads_per_band);
  multiply(all, request.chunk_size, &RuntimeOpts::chunk_size);

  const std::string stored = request.model ? stored_dtype(*request.model) : "";
  std::vector<LoadGroup> groups;
  for (RuntimeOpts& opts : all) {
    Resolution resolution = resolve(opts, stored);
    const auto same = std::find_if(groups.begin(), groups.end(), [&](const LoadGroup& group) {
      const Resolution& other = group.front().resolution;
      return other.weight_dtype == resolution.weight_dtype && other.threads == resolution.threads;
    });
    LoadGroup& group = same == groups.end() ? groups.emplace_back() : *same;
    group.push_back({std::move(opts), std::move(resolution)});
  }
  return groups;
}

std::vector<LoadGroup> by_state_dtype(const LoadGroup& group) {
  std::vector<LoadGroup> parts;
  for (const BenchSetting& setting : group) {
    const auto same = std::find_if(parts.begin(), parts.end(), [&](const LoadGroup& part) {
      return part.front().opts.state_dtype == setting.opts.state_dtype;
    });
    (same == parts.end() ? parts.emplace_back() : *same).push_back(setting);
  }
  return parts;
}

Schedule chunkwise_schedule(const BenchSetting& setting, int64_t num_heads) {
  Schedule schedule;
  schedule.kernel = setting.resolution.chunkwise;
  schedule.chunk_size = setting.opts.chunk_size;
  if (is_scheduled_backend(schedule.kernel)) {
    schedule.heads_per_band = std::min(setting.opts.heads_per_band, num_heads);
    // On a GPU one thread executes the plan.
    if (device_kind(setting.resolution.device) == "cpu") schedule.workers = setting.resolution.workers;
  }
  return schedule;
}

Schedule prefill_schedule(const BenchSetting& setting, int64_t num_heads, int64_t length) {
  Schedule schedule;
  if (length == 1) {
    schedule.kernel = setting.resolution.step;
  } else if (length < setting.opts.chunk_size) {
    schedule.kernel = setting.resolution.sequence;
  } else {
    schedule = chunkwise_schedule(setting, num_heads);
  }
  return schedule;
}

}  // namespace xlstm
