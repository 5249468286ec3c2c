#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "src/cli/commands.h"
#include "src/cli/setup.h"
#include "src/cli/unused_settings.h"
#include "xlstm/core/files.h"
#include "xlstm/core/log.h"
#include "xlstm/core/str.h"
#include "xlstm/core/strict_json.h"
#include "xlstm/core/thread_pool.h"
#include "xlstm/model/quantize_checkpoint.h"

namespace xlstm {
namespace {

using nlohmann::json;

constexpr const char* kObject = "quantize";

// The "quantize" object of a settings file, its keys known and of the right type as far as they are not the format's.
json read_settings(const std::string& path) {
  const JsonObject file =
      parse_strict_json(read_regular_file(path, ExitCode::kUsage), path, {ExitCode::kUsage, "JSON text", false});
  const auto found = file.value.find(kObject);
  if (found == file.value.end() || !found->is_object()) {
    fail(ExitCode::kUsage, kObject, path, "an object with the settings of the command",
         found == file.value.end() ? "none" : json_kind(*found));
  }
  static const std::vector<std::string> known = {"bits", "group", "scheme", "verify", "seed"};
  for (const auto& [key, value] : found->items()) {
    if (key.starts_with('_') || std::find(known.begin(), known.end(), key) != known.end()) continue;
    const std::string near = nearest(key, known);
    fail(ExitCode::kUsage, "key", cat(path, ':', file.lines.at(kObject), ", ", kObject),
         near.empty() ? cat("one of ", join(known, ", ")) : cat("a known one, did you mean ", near, '?'),
         cat('"', printable(key), '"'));
  }
  const auto verify = found->find("verify");
  if (verify != found->end() && !verify->is_boolean()) {
    fail(ExitCode::kUsage, cat(kObject, ".verify"), path, "true or false", json_kind(*verify));
  }
  const auto seed = found->find("seed");
  if (seed != found->end() && !seed->is_number_integer()) {
    fail(ExitCode::kUsage, cat(kObject, ".seed"), path, "an integer", json_kind(*seed));
  }
  return *found;
}

Quantization parse(const json& settings, const std::string& where) {
  return parse_quantization(settings, where, {ExitCode::kUsage, kObject, /*versioned=*/false});
}

// 8 or 4 if --dtype (or a --config or --profile) asks for int8 or int4.
std::optional<int64_t> bits_of_dtype(const EffectiveConfig& config) {
  if (!is_asked_for(config, "dtype")) return std::nullopt;
  const std::string& dtype = config.opts.dtype;
  if (dtype == "int8") return 8;
  if (dtype == "int4") return 4;
  fail(ExitCode::kUsage, "dtype", config.origin.at("dtype"), "int8 or int4; use --bits", dtype);
}

// Flags over the settings file over --dtype over the defaults. The file is judged by itself, with the bits that others
// choose only if it names none; its group and scheme are of its bits, so other bits have their own defaults.
void choose(QuantizeRequest& request, const QuantizeArgs& args, const EffectiveConfig& config) {
  const std::optional<int64_t> dtype_bits = bits_of_dtype(config);
  const int64_t asked = args.bits.value_or(dtype_bits.value_or(8));
  json chosen = args.settings ? read_settings(*args.settings) : json::object();
  request.verify = args.verify.value_or(chosen.value("verify", true));
  if (!chosen.contains("bits")) chosen["bits"] = asked;
  const int64_t bits = args.bits.value_or(parse(chosen, args.settings.value_or("command line")).bits);
  if (dtype_bits && *dtype_bits != bits) {
    fail(ExitCode::kUsage, "dtype", config.origin.at("dtype"),
         cat("int", bits, ", as ", args.bits ? "--bits" : *args.settings, " says"), config.opts.dtype);
  }
  if (chosen["bits"] != bits) chosen = json::object({{"bits", bits}});
  if (args.group) chosen["group"] = *args.group;
  if (args.scheme) chosen["scheme"] = *args.scheme;
  request.quantization = parse(chosen, "command line");
}

void print_report(const QuantizeRequest& request, const QuantizeReport& report, bool as_json) {
  if (as_json) {
    print_json({{"directory", request.destination.string()},
                {"quantization", to_json(request.quantization)},
                {"source_bytes", report.source_bytes},
                {"bytes", report.bytes},
                {"files", report.files},
                {"relative_error", report.relative_error},
                {"verified", request.verify}});
    return;
  }
  print_out(cat(request.destination.string(), ": ", request.quantization.text(), "; ", bytes_text(report.source_bytes),
                " became ", bytes_text(report.bytes), "; relative error of the weights ",
                fixed(100 * report.relative_error, 2), " %", request.verify ? "; verified" : "", "\n"));
}

}  // namespace

ExitCode run_quantize(const Arguments& args) {
  const EffectiveConfig config = start_run(args);
  QuantizeRequest request;
  choose(request, args.quantize, config);
  warn_of_unused_settings(config, args.command, {"dtype", "threads", "log_level", "log_file", "progress"});
  const ModelChoice model = require_model(args);
  if (model.bundled) log::info(cat("no model given (-m): using the bundled ", model.directory.string()));
  request.source = model.directory;
  request.destination = args.quantize.output;
  request.progress = config.opts.progress;
  ThreadPool pool(config.opts.threads > 0 ? static_cast<int>(config.opts.threads) : available_cores());
  print_report(request, quantize_checkpoint(request, pool), args.json);
  return ExitCode::kOk;
}

}  // namespace xlstm
