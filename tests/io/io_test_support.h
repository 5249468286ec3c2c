// Helpers for tests of files: raw safetensors bytes, and the error that a call throws.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>

#include "tests/support/temp_dir.h"
#include "xlstm/core/errors.h"

namespace xlstm::test {

namespace fs = std::filesystem;

inline void write_bytes(const fs::path& path, std::string_view bytes) {
  fs::remove(path);  // writing over a file makes some file systems flush, which costs milliseconds
  std::ofstream out(path, std::ios::binary);
  out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  ASSERT_TRUE(out.good()) << path;
}

inline std::string read_bytes(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

inline std::string le64(uint64_t value) {
  std::string out;
  for (int i = 0; i < 8; ++i) out += static_cast<char>(value >> (8 * i) & 0xff);
  return out;
}

// Bytes of a safetensors file with this header text, however wrong it is.
inline std::string safetensors_bytes(std::string_view header, std::string_view data = {}) {
  return le64(header.size()) + std::string(header) + std::string(data);
}

// Runs `action`, expects an Error with this code, and returns its message ("" if nothing was thrown).
template <class Action>
std::string error_text(ExitCode code, Action&& action) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << "more than one line";
    return error.what();
  }
  ADD_FAILURE() << "no error was thrown";
  return "";
}

// The bundled and the tiny random checkpoints.
inline fs::path tales_dir() {
  return fs::path(XLSTM_SOURCE_DIR) / "models" / "xlstm-tales-8m";
}
inline fs::path zoo_dir(std::string_view name) {
  return fs::path(XLSTM_TEST_DATA) / "goldens" / "zoo" / name;
}

}  // namespace xlstm::test
