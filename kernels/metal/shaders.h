// The text of the shaders, with their includes put in; written by cmake/EmbedShaders.cmake.
#pragma once

#include <span>

namespace xlstm::metal {

struct Shader {
  const char* file;  // for messages
  const char* text;
};

[[nodiscard]] std::span<const Shader> shaders();

}  // namespace xlstm::metal
