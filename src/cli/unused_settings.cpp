#include "src/cli/unused_settings.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "xlstm/config/backend_names.h"
#include "xlstm/core/log.h"
#include "xlstm/core/str.h"

namespace xlstm {
namespace {

// Keys by the reason why they have no effect.
using UnusedKeys = std::map<std::string, std::vector<std::string>>;

UnusedKeys unused_keys(const Resolution& r) {
  UnusedKeys unused;
  const std::string kind = device_kind(r.device);
  const bool ray = short_backend(r.chunkwise) == kRayBackend;
  const bool scheduled = is_scheduled_backend(r.chunkwise);
  unused[ray ? "with ray_local_mode 1" : cat("with ", r.chunkwise)] = {"ray_dashboard", "ray_dashboard_port",
                                                                       "ray_keep_alive", "ray_address"};
  if (!scheduled) {
    for (const char* key : {"heads_per_band", "workers", "streams"}) {
      unused[cat("with ", r.chunkwise)].emplace_back(key);
    }
  } else {
    if (kind != "cpu") unused[cat("on ", r.device)].emplace_back("workers");
    if (kind != "cuda") unused[cat("on ", r.device)].emplace_back("streams");
  }
  return unused;
}

void warn(const EffectiveConfig& config, const UnusedKeys& unused) {
  std::vector<std::string> texts;
  for (const auto& [reason, keys] : unused) {
    std::vector<std::string> asked;
    std::copy_if(keys.begin(), keys.end(), std::back_inserter(asked),
                 [&](const std::string& key) { return is_asked_for(config, key); });
    if (!asked.empty()) texts.push_back(cat(join(asked, ", "), " ", reason));
  }
  if (!texts.empty()) log::warn(cat("without effect: ", join(texts, "; ")));
}

}  // namespace

bool is_asked_for(const EffectiveConfig& config, std::string_view key) {
  const Option& option = *find_option(key);
  if (get_option(config.opts, option) == get_option(RuntimeOpts(), option)) return false;
  const std::string& origin = config.origin.at(std::string(key));
  return origin == "command line" ||
         std::any_of(config.layers.begin(), config.layers.end(),
                     [&](const AppliedLayer& layer) { return layer.source == origin && layer.rule.starts_with("--"); });
}

void warn_of_unused_settings(const EffectiveConfig& config, const Resolution& resolution) {
  warn(config, unused_keys(resolution));
}

void warn_of_unused_settings(const EffectiveConfig& config, std::string_view command,
                             std::initializer_list<std::string_view> used) {
  UnusedKeys unused;
  std::vector<std::string>& keys = unused[cat("in ", command)];
  for (const Option& option : runtime_options()) {
    if (std::find(used.begin(), used.end(), option.key) == used.end()) keys.emplace_back(option.key);
  }
  warn(config, unused);
}

}  // namespace xlstm
