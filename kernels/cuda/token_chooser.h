// The choice of tokens on an NVIDIA GPU.
#pragma once

#include <memory>
#include <span>

#include "kernels/cuda/gpu.h"
#include "kernels/token_chooser.h"

namespace xlstm::cuda {

// As DeviceOps::make_chooser(). The arguments of its commands do not change from pass to pass.
[[nodiscard]] std::unique_ptr<TokenChooser> make_token_chooser(std::shared_ptr<Gpu> gpu, const ChoiceRules& rules,
                                                               std::span<const Draw> draws);

}  // namespace xlstm::cuda
