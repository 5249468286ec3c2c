#include "xlstm/config/layers.h"

#include <algorithm>
#include <array>
#include <system_error>
#include <utility>

#include "src/config/profile.h"
#include "src/config/tuned_result.h"
#include "xlstm/config/backend_names.h"
#include "xlstm/core/errors.h"
#include "xlstm/core/str.h"

namespace xlstm {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kCommandLine = "command line";

// Options that decide which automatic layers apply.
constexpr std::array<std::string_view, 4> kSelectors = {"device", "chunkwise_backend", "use_best", "runs_dir"};

bool is_selector(const Option& option) {
  return std::find(kSelectors.begin(), kSelectors.end(), option.key) != kSelectors.end();
}

std::optional<Layer> read_defaults(const fs::path& configs_dir, std::vector<std::string>& notes) {
  const fs::path path = (configs_dir / "runtime_defaults.json").lexically_normal();
  std::error_code ignored;
  if (configs_dir.empty() || !fs::exists(path, ignored)) {
    notes.push_back(cat("no runtime_defaults.json", configs_dir.empty() ? "" : cat(" in ", configs_dir.string()),
                        ": the compiled defaults are used"));
    return std::nullopt;
  }
  return read_profile(path, "defaults of the configs directory");
}

Layer flag_layer(const json& flags) {
  Layer layer{kCommandLine, "flags given", {}};
  RuntimeOpts scratch;
  for (const auto& [key, value] : flags.items()) {
    const Option* option = find_option(key);
    XLSTM_ASSERT(option != nullptr);
    set_option(scratch, *option, value, {key, kCommandLine});
    layer.settings.push_back({option, value});
  }
  return layer;
}

// The layers that the user named: --profile, --config files, flags.
std::vector<Layer> explicit_layers(const LayerRequest& request, const fs::path& configs_dir) {
  std::vector<Layer> layers;
  if (request.profile) {
    layers.push_back(read_profile(find_profile(configs_dir, *request.profile), cat("--profile ", *request.profile)));
  }
  for (const fs::path& path : request.config_files) layers.push_back(read_profile(path, "--config"));
  Layer flags = flag_layer(request.flags);
  if (!flags.settings.empty()) layers.push_back(std::move(flags));
  return layers;
}

void apply(Layer layer, EffectiveConfig& config) {
  for (const Setting& setting : layer.settings) {
    const std::string key(setting.option->key);
    set_option(config.opts, *setting.option, setting.value, {key, layer.source});
    config.origin[key] = layer.source;
  }
  config.layers.push_back({std::move(layer.source), std::move(layer.rule)});
}

// Takes the selectors out of an automatically chosen layer; notes those that say something else than what chose it.
void drop_selectors(Layer& layer, const RuntimeOpts& selected, std::vector<std::string>& notes) {
  const auto dropped = [&](const Setting& setting) {
    if (!is_selector(*setting.option)) return false;
    const auto comparable = [&](const json& value) {
      return setting.option->key == "chunkwise_backend" ? json(short_backend(value.get<std::string>())) : value;
    };
    if (comparable(setting.value) != comparable(get_option(selected, *setting.option))) {
      notes.push_back(cat(layer.source, ": ", setting.option->key, ' ', setting.value.dump(),
                          " passed over; an automatically chosen profile cannot change it"));
    }
    return true;
  };
  layer.settings.erase(std::remove_if(layer.settings.begin(), layer.settings.end(), dropped), layer.settings.end());
}

}  // namespace

EffectiveConfig merge_layers(const LayerRequest& request) {
  EffectiveConfig config;
  config.configs_dir = find_configs_dir(request.configs_dir);
  std::optional<Layer> defaults = read_defaults(config.configs_dir, config.notes);
  std::vector<Layer> named = explicit_layers(request, config.configs_dir);

  RuntimeOpts selected;
  const auto select = [&](const Layer& layer) {
    for (const Setting& setting : layer.settings) {
      if (is_selector(*setting.option)) {
        set_option(selected, *setting.option, setting.value, {std::string(setting.option->key), layer.source});
      }
    }
  };
  if (defaults) select(*defaults);
  for (const Layer& layer : named) select(layer);
  const std::string device = request.resolve_device      ? request.resolve_device(selected.device)
                             : selected.device == "auto" ? "cpu"
                                                         : selected.device;
  const std::string backend = short_backend(selected.chunkwise_backend);

  for (const Option& option : runtime_options()) config.origin[std::string(option.key)] = "compiled default";
  config.layers.push_back({"compiled defaults", "built in"});
  if (defaults) apply(std::move(*defaults), config);
  if (!request.profile) {
    if (const auto picked = pick_profile(config.configs_dir, device_kind(device), backend)) {
      Layer layer = read_profile(picked->path, picked->rule);
      drop_selectors(layer, selected, config.notes);
      apply(std::move(layer), config);
    }
  }
  if (selected.use_best) {
    const TunedQuery query{selected.runs_dir, device, backend, request.model};
    if (auto tuned = find_tuned_result(query, config.notes)) apply(std::move(*tuned), config);
  }
  for (Layer& layer : named) apply(std::move(layer), config);
  return config;
}

nlohmann::ordered_json to_json(const EffectiveConfig& config) {
  nlohmann::ordered_json out;
  nlohmann::ordered_json origin;
  for (const Option& option : runtime_options()) {
    const std::string key(option.key);
    out[key] = get_option(config.opts, option);
    origin[key] = config.origin.at(key);
  }
  out["_origin"] = std::move(origin);
  out["_layers"] = nlohmann::ordered_json::array();
  for (const AppliedLayer& layer : config.layers) {
    out["_layers"].push_back({{"source", layer.source}, {"rule", layer.rule}});
  }
  return out;
}

}  // namespace xlstm
