#include "src/cli/unused_settings.h"

#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "xlstm/config/backend_names.h"
#include "xlstm/core/log.h"
#include "xlstm/core/str.h"

namespace xlstm {
namespace {

// Keys without effect on this run, by reason.
std::map<std::string, std::vector<std::string>> unused_keys(const Resolution& r) {
  std::map<std::string, std::vector<std::string>> unused;
  const std::string kind = device_kind(r.device);
  const bool ray = short_backend(r.chunkwise) == kRayBackend;
  const bool scheduled = is_scheduled_backend(r.chunkwise);
  unused[ray ? "with ray_local_mode 1" : cat("with ", r.chunkwise)] = {"ray_dashboard", "ray_dashboard_port",
                                                                       "ray_keep_alive", "ray_address"};
  if (!scheduled) {
    for (const char* key : {"heads_per_band", "workers"}) unused[cat("with ", r.chunkwise)].emplace_back(key);
  } else if (kind != "cpu") {
    unused[cat("on ", r.device)].emplace_back("workers");
  }
  if (!scheduled || kind != "cuda") unused[cat("on ", r.device)].emplace_back("streams");
  return unused;
}

}  // namespace

void warn_of_unused_settings(const EffectiveConfig& config, const Resolution& resolution) {
  std::set<std::string> asked_by = {"command line"};
  for (const AppliedLayer& layer : config.layers) {
    if (layer.rule.starts_with("--")) asked_by.insert(layer.source);
  }
  const RuntimeOpts defaults;
  std::vector<std::string> texts;
  for (const auto& [reason, keys] : unused_keys(resolution)) {
    std::vector<std::string> asked;
    for (const std::string& key : keys) {
      const Option& option = *find_option(key);
      const bool changed = get_option(config.opts, option) != get_option(defaults, option);
      if (changed && asked_by.count(config.origin.at(key)) > 0) asked.push_back(key);
    }
    if (!asked.empty()) texts.push_back(cat(join(asked, ", "), " ", reason));
  }
  if (!texts.empty()) log::warn(cat("without effect: ", join(texts, "; ")));
}

}  // namespace xlstm
