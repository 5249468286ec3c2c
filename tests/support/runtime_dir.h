// A runtime directory of a test's own: what the programs that it starts publish about themselves, and nobody else.
#pragma once

#include <cstdlib>
#include <optional>
#include <string>

#include "tests/support/temp_dir.h"

namespace xlstm::test {

// XDG_RUNTIME_DIR as long as the object lives.
class OwnRuntimeDir {
 public:
  OwnRuntimeDir() {
    if (const char* before = std::getenv(kVariable)) before_ = before;
    ::setenv(kVariable, dir_.path().c_str(), 1);
  }
  ~OwnRuntimeDir() {
    if (before_) {
      ::setenv(kVariable, before_->c_str(), 1);
    } else {
      ::unsetenv(kVariable);
    }
  }
  OwnRuntimeDir(const OwnRuntimeDir&) = delete;
  OwnRuntimeDir& operator=(const OwnRuntimeDir&) = delete;

 private:
  static constexpr const char* kVariable = "XDG_RUNTIME_DIR";
  TempDir dir_;  // for its owner alone, as such a directory must be
  std::optional<std::string> before_;
};

}  // namespace xlstm::test
