// Settings that a run has no use for, so that nobody waits for their effect.
#pragma once

#include <initializer_list>
#include <string_view>

#include "xlstm/config/layers.h"
#include "xlstm/registry/registry.h"

namespace xlstm {

// Whether somebody asked for a setting: by flag, --config or --profile, with another value than the default.
[[nodiscard]] bool is_asked_for(const EffectiveConfig& config, std::string_view key);

// A warning that names every setting which somebody asked for and which has no effect on this run, with the reason.
void warn_of_unused_settings(const EffectiveConfig& config, const Resolution& resolution);

// The same for a command that uses no other settings than these.
void warn_of_unused_settings(const EffectiveConfig& config, std::string_view command,
                             std::initializer_list<std::string_view> used);

}  // namespace xlstm
