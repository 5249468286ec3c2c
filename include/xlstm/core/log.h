// Logging to stderr and, if asked for, to a file. A thin front so that spdlog's headers stay in one source file.
// Thread-safe but for configure(), which comes before any other thread logs. Until then messages of level info and
// above go to stderr.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace xlstm::log {

enum class Level { kTrace, kDebug, kInfo, kWarn, kError, kOff };

// The names that parse_level accepts, in order of Level.
[[nodiscard]] const std::vector<std::string>& level_names();
[[nodiscard]] Level parse_level(std::string_view name);  // Error kUsage for an unknown name

// `file` empty: no log file; otherwise appended to (Error kOutput if it cannot be opened).
void configure(Level level, const std::string& file);

// All of these: Error kOutput if the log file cannot be written.
void debug(std::string_view message);
void info(std::string_view message);
void warn(std::string_view message);
void error(std::string_view message);
void flush();

[[nodiscard]] bool enabled(Level level);

}  // namespace xlstm::log
