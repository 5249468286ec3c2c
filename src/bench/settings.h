// The combinations of a request's lists, and which of them are the same run.
#pragma once

#include <vector>

#include "xlstm/bench/bench.h"
#include "xlstm/registry/registry.h"

namespace xlstm {

struct BenchSetting {
  RuntimeOpts opts;
  Resolution resolution;
};

// Settings that one loaded model serves: they differ in scheduling and in the type of the state alone. At least one.
using LoadGroup = std::vector<BenchSetting>;

// All combinations, in the order of the lists, grouped by weight dtype and threads. A cell has no weights: dtype is
// then left as it is in the request's opts. Errors of resolve().
[[nodiscard]] std::vector<LoadGroup> expand_settings(const BenchRequest& request);

// The parts of a group that share a type of the state, and so a state.
[[nodiscard]] std::vector<LoadGroup> by_state_dtype(const LoadGroup& group);

// The chunkwise kernel of a setting and the settings that it depends on.
struct Schedule {
  std::string kernel;
  std::optional<int64_t> workers;
  std::optional<int64_t> heads_per_band;
  std::optional<int64_t> chunk_size;

  bool operator==(const Schedule&) const = default;
};
[[nodiscard]] Schedule chunkwise_schedule(const BenchSetting& setting, int64_t num_heads);

// What a prefill of `length` tokens runs on: prompts below one chunk never reach the chunkwise kernel.
[[nodiscard]] Schedule prefill_schedule(const BenchSetting& setting, int64_t num_heads, int64_t length);

}  // namespace xlstm
