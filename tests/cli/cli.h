// Runs the executable under test.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "tests/support/run_program.h"
#include "xlstm/io/safetensors.h"

namespace xlstm::test {

inline std::string executable() {
  return XLSTM_EXECUTABLE;
}
inline std::filesystem::path goldens() {
  return std::filesystem::path(XLSTM_TEST_DATA) / "goldens";
}

inline ProgramResult run(const std::vector<std::string>& arguments, const ProgramInput& input = {"", false, {}}) {
  return run_program(executable(), arguments, input);
}

// The last line of a text, without its newline.
inline std::string last_line(std::string text) {
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text.substr(text.find_last_of('\n') + 1);
}

// Ids in a state file, a pending one included.
inline int64_t saved_ids(const std::string& path) {
  const SafetensorsFile file(path);
  for (const TensorView& tensor : file.tensors()) {
    if (tensor.name == "ids") return tensor.shape.front();
  }
  return 0;
}

}  // namespace xlstm::test
