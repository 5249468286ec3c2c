#include <nlohmann/json.hpp>

#include "kernels/cpu/isa.h"
#include "xlstm/bench/bench.h"
#include "xlstm/core/cpu_features.h"
#include "xlstm/core/thread_pool.h"
#include "xlstm/core/version.h"

namespace xlstm {

using nlohmann::ordered_json;

namespace {

template <class Value>
ordered_json or_null(const std::optional<Value>& value) {
  return value ? ordered_json(*value) : ordered_json();
}

}  // namespace

ordered_json to_json(const BenchRow& row) {
  return {{"test", row.test},
          {"model", row.model},
          {"device", row.device},
          {"dtype", row.dtype},
          {"state_dtype", row.state_dtype},
          {"kernel", row.kernel},
          {"n_prompt", row.n_prompt},
          {"n_gen", row.n_gen},
          {"batch", row.batch},
          {"threads", row.threads},
          {"workers", or_null(row.workers)},
          {"heads_per_band", or_null(row.heads_per_band)},
          {"chunk_size", or_null(row.chunk_size)},
          {"tok_s", row.tok_s},
          {"tok_s_min", row.tok_s_min},
          {"tok_s_max", row.tok_s_max},
          {"weight_gb_s", row.weight_gb_s},
          {"state_gb_s", row.state_gb_s},
          {"limit_share", or_null(row.limit_share)},
          {"judged_by", or_null(row.judged_by)},
          {"peak_share", or_null(row.peak_share)},
          {"peak_mb", row.peak_mb},
          {"repeats", row.repeats},
          {"rejected", row.rejected},
          {"ratio", or_null(row.ratio)}};
}

ordered_json to_json(const BenchLimits& limits) {
  ordered_json json = {{"device", limits.device},
                       {"threads", or_null(limits.threads)},
                       {"read_gb_s", limits.read_gb_s},
                       {"copy_gb_s", limits.copy_gb_s},
                       {"gemm_gflop_s", limits.gemm_gflop_s}};
  if (!limits.peak_gflop_s.empty()) json["peak_gflop_s"] = limits.peak_gflop_s;
  if (limits.barrier_ns) json["barrier_ns"] = *limits.barrier_ns;
  return json;
}

ordered_json bench_report(const BenchResult& result) {
  ordered_json report;
  report["build"] = {{"version", version()},
                     {"libtorch", libtorch_version()},
                     {"compiler", compiler()},
                     {"instruction_sets", cpu::supported_isas()}};
  report["machine"] = {{"cpu", cpu_name()}, {"cores", available_cores()}};
  if (result.limits) report["limits"] = to_json(*result.limits);
  report["rows"] = ordered_json::array();
  for (const BenchRow& row : result.rows) report["rows"].push_back(to_json(row));
  return report;
}

}  // namespace xlstm
