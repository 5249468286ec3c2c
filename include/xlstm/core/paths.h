// Where the files that ship with the executable are: next to the working directory, installed, or in the source tree.
#pragma once

#include <filesystem>
#include <optional>
#include <string_view>

namespace xlstm {

// The running executable's own path, links resolved.
[[nodiscard]] std::filesystem::path executable_path();

// Finds a shipped file or folder named relative to the share folder, for example "configs" or
// "models/xlstm-tales-8m": <executable>/../share/xlstm_generate/NAME, else the source tree that the executable was
// built from (where `source_name`, if not empty, is used instead of NAME). nullopt if neither exists.
[[nodiscard]] std::optional<std::filesystem::path> find_shipped(std::string_view name,
                                                                std::string_view source_name = {});

// The name of a directory, also for "models/x/" and ".".
[[nodiscard]] std::string directory_name(const std::filesystem::path& directory);

}  // namespace xlstm
