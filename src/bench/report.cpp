
#include <nlohmann/json.hpp>

#include "kernels/cpu/isa.h"
#include "xlstm/bench/bench.h"
#include "xlstm/core/cpu_features.h"
#include "xlstm/core/thread_pool.h"
#include "xlstm/core/version.h"

namespace xlstm {

using nlohmann::ordered_json;

namespace {

ordered_json number_or_null(const std::optional<int64_t>& number) {
  return number ? ordered_json(*number) : ordered_json();
}

}  // namespace

ordered_json to_json(const BenchRow& row) {
  return {{"test", row.test},
          {"model", row.model},
          {"device", row.device},
          {"dtype", row.dtype},
          {"kernel", row.kernel},
          {"n_prompt", row.n_prompt},
          {"n_gen", row.n_gen},
          {"batch", row.batch},
          {"threads", row.threads},
          {"workers", number_or_null(row.workers)},
          {"heads_per_band", number_or_null(row.heads_per_band)},
          {"chunk_size", number_or_null(row.chunk_size)},
          {"tok_s", row.tok_s},
          {"tok_s_min", row.tok_s_min},
          {"tok_s_max", row.tok_s_max},
          {"weight_gb_s", row.weight_gb_s},
          {"state_gb_s", row.state_gb_s},
          {"limit_share", nullptr},  // no limit is measured in the run
          {"peak_mb", row.peak_mb},
          {"repeats", row.repeats}};
}

ordered_json bench_report(const std::vector<BenchRow>& rows) {
  ordered_json report;
  report["build"] = {{"version", version()},
                     {"libtorch", libtorch_version()},
                     {"compiler", compiler()},
                     {"instruction_sets", cpu::supported_isas()}};
  report["machine"] = {{"cpu", cpu_name()}, {"cores", available_cores()}};
  report["rows"] = ordered_json::array();
  for (const BenchRow& row : rows) report["rows"].push_back(to_json(row));
  return report;
}

}  // namespace xlstm
