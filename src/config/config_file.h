// Configuration files.
#pragma once

#include <filesystem>

#include "xlstm/core/strict_json.h"

namespace xlstm {

inline constexpr size_t kMaxConfigBytes = size_t{4} << 20;

// Parses a configuration text; null is no value. Error kUsage.
[[nodiscard]] JsonObject parse_config_text(std::string_view text, const std::string& where);

// Reads and parses a file of at most kMaxConfigBytes; devices are refused, pipes are read. Error kUsage.
[[nodiscard]] JsonObject read_config_file(const std::filesystem::path& path);

}  // namespace xlstm
