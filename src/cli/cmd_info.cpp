#include <nlohmann/json.hpp>

#include "kernels/cpu/isa.h"
#include "src/cli/commands.h"
#include "src/cli/setup.h"
#include "xlstm/core/str.h"
#include "xlstm/core/version.h"
#include "xlstm/io/checkpoint.h"
#include "xlstm/model/checkpoint_layout.h"
#include "xlstm/registry/registry.h"

namespace xlstm {
namespace {

using nlohmann::ordered_json;

ordered_json build_info() {
  return {{"version", version()},
          {"libtorch", libtorch_version()},
          {"compiler", compiler()},
          {"instruction_sets", cpu::supported_isas()},
          {"instruction_set_in_use", cpu::active_isa()}};
}

ordered_json device_info() {
  ordered_json out = ordered_json::array();
  for (const DeviceInfo& device : list_devices()) {
    out.push_back({{"name", device.name}, {"available", device.available}, {"details", device.details}});
  }
  return out;
}

// Every kernel, and why it cannot run on `kind` (null: it can).
ordered_json kernel_info(const std::string& kind) {
  ordered_json out = ordered_json::array();
  for (const KernelInfo& kernel : list_kernels()) {
    const std::string why = why_not(kernel, kind);
    out.push_back({{"family", family_name(kernel.family)},
                   {"key", kernel.key},
                   {"device", kernel.device},
                   {"runs_here", why.empty()},
                   {"why_not", why.empty() ? ordered_json() : ordered_json(why)},
                   {"description", kernel.description}});
  }
  return out;
}

ordered_json model_info(const ModelChoice& model, const std::string& state_dtype) {
  const Checkpoint checkpoint(model.directory);
  const CheckpointLayout layout = resolve_layout(checkpoint);
  require_complete(layout, checkpoint.dir().string());
  const ModelConfig& c = layout.config;
  // C and n in the state's type, m in float32.
  const int64_t wide = state_dtype == "bfloat16" ? 2 : 4;
  const int64_t state_bytes =
      c.num_blocks * c.num_heads * ((c.head_dim_qk() * c.head_dim_v() + c.head_dim_qk()) * wide + 4);
  return {{"directory", checkpoint.dir().string()},
          {"parameters", parameter_count(layout)},
          {"bytes", checkpoint.total_bytes()},
          {"stored_dtype", c.quantization ? c.quantization->dtype() : c.dtype},
          {"quantization", c.quantization ? ordered_json(c.quantization->text()) : ordered_json()},
          {"blocks", c.num_blocks},
          {"embedding_dim", c.embedding_dim},
          {"heads", c.num_heads},
          {"head_dim_qk", c.head_dim_qk()},
          {"head_dim_v", c.head_dim_v()},
          {"ffn_dim", c.ffn_dim},
          {"vocab_size", c.vocab_size},
          {"state_bytes_per_sequence", state_bytes},
          {"fingerprint", checkpoint.fingerprint()}};
}

std::string pad(const std::string& text, size_t width) {
  return text.size() < width ? text + std::string(width - text.size(), ' ') : text + " ";
}

std::string as_text(const ordered_json& info) {
  std::string out;
  const ordered_json& build = info["build"];
  out += cat("xlstm_generate ", build["version"].get<std::string>(), ", libtorch ",
             build["libtorch"].get<std::string>(), ", ", build["compiler"].get<std::string>(), "\n");
  out += cat("instruction set: ", build["instruction_set_in_use"].get<std::string>(), " (of ",
             join(build["instruction_sets"].get<std::vector<std::string>>(), ", "), ")\n\ndevices\n");
  for (const ordered_json& device : info["devices"]) {
    out += cat("  ", pad(device["name"].get<std::string>(), 8), pad(device["available"].get<bool>() ? "yes" : "no", 5),
               device["details"].get<std::string>(), "\n");
  }
  out += cat("\nkernels (for ", info["device"].get<std::string>(), ")\n");
  for (const ordered_json& kernel : info["kernels"]) {
    out += cat("  ", pad(kernel["family"].get<std::string>(), 11), pad(kernel["key"].get<std::string>(), 36),
               kernel["runs_here"].get<bool>() ? "yes  " : "no   ",
               kernel["runs_here"].get<bool>() ? kernel["description"].get<std::string>()
                                               : kernel["why_not"].get<std::string>(),
               "\n");
  }
  out += cat("\nthreads: ", info["threads"].get<int>(), " inside operations, or ", info["workers"].get<int>(),
             " workers in scheduled prefill; the two share the same threads\n");
  if (!info["model"].is_null()) {
    const ordered_json& model = info["model"];
    out += cat("\nmodel ", model["directory"].get<std::string>(), "\n");
    for (const auto& [key, value] : model.items()) {
      if (key != "directory")
        out += cat("  ", pad(key, 26), value.is_string() ? value.get<std::string>() : value.dump(), "\n");
    }
  }
  return out;
}

}  // namespace

ExitCode run_info(const Arguments& args) {
  const EffectiveConfig config = start_run(args);
  const Resolution resolution = resolve_run(args, config.opts);
  const std::optional<ModelChoice> model = find_model(args);
  ordered_json info;
  info["build"] = build_info();
  info["devices"] = device_info();
  info["device"] = resolution.device;
  info["kernels"] = kernel_info(device_kind(resolution.device));
  info["threads"] = resolution.threads;
  info["workers"] = resolution.workers;
  info["model"] = model ? model_info(*model, config.opts.state_dtype) : ordered_json();
  if (args.json) {
    print_json(info);
  } else {
    print_out(as_text(info));
  }
  return ExitCode::kOk;
}

}  // namespace xlstm
