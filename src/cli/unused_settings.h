// Settings that a run has no use for, so that nobody waits for their effect.
#pragma once

#include "xlstm/config/layers.h"
#include "xlstm/registry/registry.h"

namespace xlstm {

// A warning that names every setting which somebody asked for (by flag, --config or --profile, with another value than
// the default) and which has no effect on this run, with the reason.
void warn_of_unused_settings(const EffectiveConfig& config, const Resolution& resolution);

}  // namespace xlstm
