// JSON input of commands.
#pragma once

#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>

namespace xlstm {

// Parses each line that is not blank; `where` names file and line, as in "docs.jsonl line 3". Error kUsage.
void for_each_json_line(const std::string& text, const std::string& file,
                        const std::function<void(const nlohmann::json& line, const std::string& where)>& handle);

// One JSON value, strictly parsed. Error kUsage.
[[nodiscard]] nlohmann::json parse_json_value(const std::string& text, const std::string& where);

// An array of integers.
[[nodiscard]] bool is_id_array(const nlohmann::json& value);

}  // namespace xlstm
