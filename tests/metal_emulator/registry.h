// The compiled kernels by the shader file that they come from.
#pragma once

#include <string>
#include <vector>

#include "msl/kernel.h"

namespace xlstm::emulator {

[[nodiscard]] std::vector<CompiledKernel>& compiled_kernels();

// The kernels of the shader whose text this is: of the compiled file that names the same functions as kernels. Throws
// Fault if there is none, or if a [[buffer(n)]] does not stand at position n.
[[nodiscard]] std::vector<const CompiledKernel*> kernels_of(const std::string& text);

}  // namespace xlstm::emulator
