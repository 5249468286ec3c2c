#include <nlohmann/json.hpp>

#include "src/cli/commands.h"
#include "src/cli/setup.h"
#include "src/cli/watched_run.h"
#include "xlstm/bench/bench.h"
#include "xlstm/core/cpu_features.h"
#include "xlstm/core/log.h"
#include "xlstm/core/paths.h"
#include "xlstm/core/str.h"
#include "xlstm/core/version.h"
#include "xlstm/selftest/selftest.h"

namespace xlstm {
namespace {

// One block of it holds 200 million parameters.
constexpr const char* kSpeedShape = "E=4096,heads=8,vocab=8192";

std::string scientific(double value) {
  std::ostringstream out;
  out.precision(2);
  out << std::scientific << value;
  return out.str();
}

std::string line_of(const SelftestCase& c) {
  return cat(c.passed ? "ok    " : "FAIL  ", c.kernel, ": ", c.subject, "  max abs ", scientific(c.max_abs),
             "  relative ", scientific(c.relative), " (limit ", scientific(c.tolerance), ")",
             c.note.empty() ? "" : "  ", c.note, "\n");
}

nlohmann::ordered_json to_json(const SelftestCase& c) {
  return {{"kernel", c.kernel},       {"subject", c.subject}, {"max_abs", c.max_abs}, {"relative", c.relative},
          {"tolerance", c.tolerance}, {"passed", c.passed},   {"note", c.note}};
}

std::string line_of(const SelftestSpeed& s) {
  return cat("speed ", s.operation, ", ", s.dtype, "  ", fixed(s.seconds * 1e6, 1), " us  ",
             fixed(s.bytes / s.seconds / 1e9, 1), " GB/s\n");
}

nlohmann::ordered_json to_json(const SelftestSpeed& s) {
  return {{"operation", s.operation},
          {"dtype", s.dtype},
          {"bytes", s.bytes},
          {"seconds", s.seconds},
          {"gb_s", s.bytes / s.seconds / 1e9}};
}

// The shape to measure speed with; on a GPU larger than its caches by default.
std::optional<ModelDims> speed_dims(const Arguments& args, const Resolution& resolution) {
  const std::string asked =
      args.selftest.speed.value_or(device_kind(resolution.device) == "cpu" ? "none" : kSpeedShape);
  if (asked == "none") return std::nullopt;
  return parse_shape(asked, "--speed").dims;
}

ExitCode report_selftest(const Arguments& args, SelftestRequest& request) {
  if (!args.json) request.on_case = [](const SelftestCase& c) { print_out(line_of(c)); };
  const SelftestReport result = run_selftest(request);
  const std::vector<SelftestCase>& cases = result.cases;
  size_t failed = 0;
  for (const SelftestCase& c : cases) failed += c.passed ? 0 : 1;
  if (args.json) {
    nlohmann::ordered_json report = {
        {"version", version()},    {"libtorch", libtorch_version()},      {"machine", cpu_name()},
        {"system", system_name()}, {"device", request.resolution.device}, {"model_checked", !request.model.empty()},
        {"failed", failed}};
    report["cases"] = nlohmann::ordered_json::array();
    for (const SelftestCase& c : cases) report["cases"].push_back(to_json(c));
    report["speed"] = nlohmann::ordered_json::array();
    for (const SelftestSpeed& row : result.speed) report["speed"].push_back(to_json(row));
    print_json(report);
  } else {
    for (const SelftestSpeed& row : result.speed) print_out(line_of(row));
    print_out(cat(cases.size() - failed, " passed, ", failed, " failed\n"));
  }
  if (failed > 0) {
    fail(ExitCode::kMismatch, "selftest", cat("device ", request.resolution.device), "every case within its limit",
         cat(failed, " of ", cases.size(), " beyond it"));
  }
  return ExitCode::kOk;
}

}  // namespace

ExitCode run_selftest_command(const Arguments& args) {
  const EffectiveConfig config = start_run(args);
  SelftestRequest request;
  request.opts = config.opts;
  request.force = args.force;
  request.resolution = resolve(config.opts);
  request.speed_dims = speed_dims(args, request.resolution);
  const auto model = find_shipped("models/xlstm-tales-8m");
  const auto goldens = find_shipped("goldens/tales/golden.safetensors", "tests/data/goldens/tales/golden.safetensors");
  if (model && goldens) {
    request.model = *model;
    request.goldens = *goldens;
  } else {
    log::warn("the bundled model or its goldens are not there: only kernels are checked");
  }
  return watch_run({args, config, request.resolution, "selftest"}, [&] { return report_selftest(args, request); });
}

}  // namespace xlstm
