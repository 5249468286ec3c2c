#include "src/tune/run_meta.h"

#include <array>
#include <ctime>
#include <nlohmann/json.hpp>

#include "xlstm/core/cpu_features.h"
#include "xlstm/core/errors.h"
#include "xlstm/core/log.h"
#include "xlstm/core/paths.h"
#include "xlstm/core/str.h"
#include "xlstm/core/strict_json.h"
#include "xlstm/core/thread_pool.h"
#include "xlstm/core/version.h"

namespace xlstm {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

// What a resumed run must have in common with its earlier part: the timings are of these things only.
constexpr std::array kSame = {"model",   "search",  "seed",  "device", "dtype",           "state_dtype", "kernels",
                              "threads", "machine", "plain", "prompt", "prefill_segment", "space"};

// FNV-1a over the ids: tells one prompt from another.
std::string hash_text(const std::vector<int64_t>& ids) {
  uint64_t hash = 0xcbf29ce484222325U;
  for (const int64_t id : ids) hash = (hash ^ static_cast<uint64_t>(id)) * 0x100000001b3U;
  return std::to_string(hash);
}

std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  ::gmtime_r(&now, &parts);
  std::array<char, 32> text{};
  return {text.data(), std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%SZ", &parts)};
}

ordered_json options_json(const RuntimeOpts& opts) {
  ordered_json out;
  for (const Option& option : runtime_options()) out[std::string(option.key)] = get_option(opts, option);
  return out;
}

void require_same(const json& earlier, const json& now, const std::string& what, const std::string& where) {
  if (earlier == now) return;
  if (earlier.is_object() && now.is_object()) {
    for (const auto& [key, value] : earlier.items()) {
      require_same(value, now.value(key, json()), cat(what, '.', key), where);
    }
    for (const auto& [key, value] : now.items())
      require_same(earlier.value(key, json()), value, cat(what, '.', key), where);
  }
  fail(ExitCode::kUsage, what, where, cat(printable(earlier.dump()), ", as in the run to go on with"),
       now.is_null() ? "none" : printable(now.dump()));
}

}  // namespace

ordered_json model_json(const TuneModel& model, Engine& engine) {
  ordered_json out;
  out["name"] = model.directory ? directory_name(*model.directory) : model.shape;
  out["embedding_dim"] = engine.dims().embedding_dim;
  out["num_blocks"] = engine.model().num_blocks();
  out["num_heads"] = engine.dims().num_heads;
  out["vocab_size"] = engine.dims().vocab_size;
  return out;
}

ordered_json run_meta(const TuneRequest& request, Engine& engine, const SearchPlan& plan,
                      const std::vector<int64_t>& prompt) {
  const Resolution& r = request.resolution;
  ordered_json meta;
  meta["command"] = request.command_line;
  meta["started"] = utc_now();
  meta["build"] = {{"version", version()}, {"libtorch", libtorch_version()}, {"compiler", compiler()}};
  meta["machine"] = {{"cpu", cpu_name()}, {"cores", available_cores()}};
  meta["device"] = r.device;
  meta["dtype"] = r.weight_dtype;
  meta["state_dtype"] = engine.state_dtype();
  meta["kernels"] = {{"ops", r.ops}, {"chunkwise", r.chunkwise}, {"sequence", r.sequence}, {"step", r.step}};
  meta["threads"] = r.threads;
  meta["prefill_segment"] = request.opts.prefill_segment;
  meta["model"] = model_json(request.model, engine);
  if (request.model.directory) {
    meta["model"]["fingerprint"] = engine.fingerprint();
    meta["model_directory"] = std::filesystem::absolute(*request.model.directory).string();
  } else {
    meta["model_shape"] = request.model.shape;
  }
  meta["prompt"] = {{"tokens", prompt.size()}, {"hash", hash_text(prompt)}};
  meta["seed"] = request.seed;
  meta["search"] = to_json(request.settings);
  meta["space"] = {{"chunk_size", plan.space.values(0)},
                   {"heads_per_band", plan.space.values(1)},
                   {"workers", plan.space.values(2)}};
  meta["plain"] = to_json(plan.plain);
  meta["first"] = ordered_json::array();
  for (const TuneParams& params : plan.first) meta["first"].push_back(to_json(params));
  meta["configuration"] = options_json(request.opts);
  return meta;
}

void require_same_run(const json& earlier, const ordered_json& now, const std::string& where) {
  for (const char* key : kSame) require_same(earlier.value(key, json()), json(now.at(key)), key, where);
  if (earlier.value("build", json()) != json(now.at("build"))) {
    log::warn(cat("the run began with another build (", earlier.value("build", json()).dump(),
                  "): its timings may not be comparable"));
  }
}

std::vector<TuneParams> earlier_of(const json& meta) {
  std::vector<TuneParams> first;
  for (const json& params : meta.value("first", json::array())) {
    if (!params.is_object()) fail(ExitCode::kUsage, "first", "run_meta.json", "objects", json_kind(params));
    TuneParams one;
    for (const auto& [name, member] : {std::pair("chunk_size", &TuneParams::chunk_size),
                                       {"heads_per_band", &TuneParams::heads_per_band},
                                       {"workers", &TuneParams::workers}}) {
      const auto value = params.find(name);
      if (value == params.end() || !value->is_number_integer()) continue;
      one.*member = value->get<int64_t>();
    }
    first.push_back(one);
  }
  return first;
}

}  // namespace xlstm
