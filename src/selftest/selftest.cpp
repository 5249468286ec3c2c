#include "xlstm/selftest/selftest.h"

#include <c10/core/InferenceMode.h>

#include <utility>

#include "src/selftest/kernel_cases.h"
#include "src/selftest/libtorch_cases.h"
#include "src/selftest/speed.h"
#include "xlstm/core/stop.h"
#include "xlstm/core/str.h"
#include "xlstm/core/thread_pool.h"
#include "xlstm/runtime/engine.h"
#include "xlstm/selftest/golden.h"

namespace xlstm {
namespace {

// Accepted deviation of float32 logits: rounding alone moves them by up to 4e-6.
constexpr double kLogitTolerance = 1e-5;
constexpr double kRowTolerance = 3e-5;
constexpr double kStateTolerance = 1e-4;

SelftestCase check_golden(Engine& engine, const GoldenCase& golden) {
  const GoldenResult result = compare_with_golden(engine, golden);
  SelftestCase out{"model", cat("golden ", golden.name)};
  out.max_abs = result.logits_max_abs;
  out.relative = result.logits_relative;
  out.tolerance = kLogitTolerance;
  const auto expected_ids = static_cast<int64_t>(golden.greedy_ids.size());
  if (result.greedy_equal != expected_ids) {
    out.note = cat("greedy ids differ from number ", result.greedy_equal, " on");
  } else if (!(result.worst_row_relative <= kRowTolerance)) {
    out.note = cat("a row of logits differs by ", result.worst_row_relative);
  } else if (!(result.state_relative <= kStateTolerance)) {
    out.note = cat("the state differs by ", result.state_relative);
  }
  out.passed = out.relative <= out.tolerance && out.note.empty();
  return out;
}

}  // namespace

SelftestReport run_selftest(const SelftestRequest& request) {
  const c10::InferenceMode no_autograd;
  SelftestReport report;
  const CaseSink sink = [&](SelftestCase result) {
    throw_if_stopped();
    if (request.on_case) request.on_case(result);
    report.cases.push_back(std::move(result));
  };
  {
    ThreadPool pool(request.resolution.threads);
    check_cells(request.resolution, pool, sink);
    check_ops(request.resolution, pool, sink);
    check_libtorch(request.resolution, sink);
    report.speed = measure_speed(request, pool);
  }
  if (!request.model.empty()) {
    Resolution resolution = request.resolution;
    // The goldens are float32 arithmetic.
    resolution.weight_dtype = "float32";
    RuntimeOpts opts = request.opts;
    opts.state_dtype = "float32";
    Engine engine = Engine::load(opts, resolution, request.model, {request.force});
    for (const GoldenCase& golden : load_goldens(request.goldens)) sink(check_golden(engine, golden));
  }
  return report;
}

}  // namespace xlstm
