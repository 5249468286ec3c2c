// Facts about the processor that choices depend on.
#pragma once

#include <string>

namespace xlstm {

// The processor's name as the system reports it, with the number of cores this process may use.
[[nodiscard]] std::string cpu_name();

}  // namespace xlstm
