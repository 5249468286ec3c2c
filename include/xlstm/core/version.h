// Which build this is.
#pragma once

#include <string>

namespace xlstm {

[[nodiscard]] std::string version();           // "0.1.0"
[[nodiscard]] std::string libtorch_version();  // that it was built with
[[nodiscard]] std::string compiler();          // name and version of the compiler

}  // namespace xlstm
