// JSON as configuration and checkpoints need it: what a lenient reader would silently resolve (duplicate keys, trailing
// text, NUL bytes) is an error with file and line.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "xlstm/core/errors.h"

namespace xlstm {

struct JsonRules {
  ExitCode code = ExitCode::kUsage;  // of every error
  std::string what = "JSON text";    // what is being read, for messages
  bool allow_null = true;            // false: only inside a top-level key that begins with '_'
  bool any_root = false;             // the text may hold any JSON value, not only an object
};

struct JsonObject {
  nlohmann::json value;                 // an object, unless the rules allow any value
  std::map<std::string, size_t> lines;  // line of every top-level key, from 1
};

// Parses one JSON object. Refused: syntax errors, text that is not UTF-8, numbers too large for a double, a duplicate
// key, null where the rules forbid it, nesting deeper than kMaxJsonDepth, and, unless the rules allow it,
// anything that is not an object.
// `where` names the file in messages.
[[nodiscard]] JsonObject parse_strict_json(std::string_view text, const std::string& where, const JsonRules& rules);

// A short name for a JSON value in messages: "null", "an object", "a list", "a string", or a number or bool as written.
[[nodiscard]] std::string json_kind(const nlohmann::json& value);

inline constexpr size_t kMaxJsonDepth = 64;

}  // namespace xlstm
