// Runs the executable under test.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "tests/support/run_program.h"

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

}  // namespace xlstm::test
