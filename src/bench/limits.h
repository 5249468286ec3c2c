// What the machine can do at most, measured: the whole table for the report, and short readings around samples.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "src/bench/rounds.h"
#include "xlstm/bench/bench.h"
#include "xlstm/core/thread_pool.h"

namespace xlstm {

// The limits of one device, or of a CPU with one number of threads. Not thread-safe.
class LimitProbes {
 public:
  virtual ~LimitProbes() = default;

  // Everything, each as the best of several tries, within about two seconds.
  [[nodiscard]] virtual BenchLimits measure() = 0;

  // Measures on these threads from here on (a CPU's limits), so that readings and samples meet the same cores.
  virtual void share_threads(ThreadPool& /*host*/) {}

  // What samples are judged by. The gauges refer to this object. First comes the limit of limit_share: bytes per second
  // for decode, FLOP per second of a matrix product for prefill; then, for prefill on a CPU, the peak of peak_share.
  [[nodiscard]] virtual std::vector<Gauge> decode_gauges() = 0;
  [[nodiscard]] virtual std::vector<Gauge> prefill_gauges(const std::string& weight_dtype) = 0;

  // The type of the matrix product among prefill_gauges().
  [[nodiscard]] virtual std::string prefill_judge(const std::string& weight_dtype) const = 0;

  // Host memory that this object holds beside the model.
  [[nodiscard]] virtual uint64_t resident_bytes() const { return 0; }
};

// `threads`: of a CPU's team, and of libtorch's, which is set to as many.
[[nodiscard]] std::unique_ptr<LimitProbes> make_limit_probes(const std::string& device, int threads);

}  // namespace xlstm
