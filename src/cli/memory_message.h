// What libtorch says about memory that it did not get, in a line as all failures have.
#pragma once

#include <string>
#include <string_view>

namespace xlstm {

// Whether a message of libtorch is about memory, and not about a mistake.
[[nodiscard]] bool is_about_memory(std::string_view message);

// The line for it: how much was asked for and, of a device, how much is free, as far as the message has them.
[[nodiscard]] std::string memory_message(std::string_view message);

}  // namespace xlstm
