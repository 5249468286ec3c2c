#include <nlohmann/json.hpp>
#include <optional>

#include "src/cli/commands.h"
#include "src/cli/setup.h"
#include "xlstm/registry/registry.h"

namespace xlstm {

ExitCode print_effective_config(const Arguments& args) {
  const EffectiveConfig config = effective_config(args);
  nlohmann::ordered_json json = to_json(config);
  nlohmann::ordered_json resolved;
  std::optional<Error> unavailable;
  try {
    const Resolution r = resolve_run(args, config.opts);
    resolved = {{"device", r.device},     {"dtype", r.weight_dtype}, {"ops_backend", r.ops}, {"chunkwise", r.chunkwise},
                {"sequence", r.sequence}, {"step", r.step},          {"threads", r.threads}, {"workers", r.workers}};
  } catch (const Error& error) {
    if (error.code() != ExitCode::kDevice) throw;
    resolved = {{"device", pick_device(config.opts.device)}, {"error", error.what()}};
    unavailable = error;
  }
  json["_resolved"] = resolved;
  print_json(json);
  if (unavailable) throw *unavailable;
  return ExitCode::kOk;
}

}  // namespace xlstm
