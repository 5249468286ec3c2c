#include "src/cli/json_lines.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "xlstm/core/errors.h"
#include "xlstm/core/str.h"
#include "xlstm/core/strict_json.h"

namespace xlstm {

void for_each_json_line(const std::string& text, const std::string& file,
                        const std::function<void(const nlohmann::json&, const std::string&)>& handle) {
  size_t number = 0;
  size_t begin = 0;
  while (begin < text.size()) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string line = text.substr(begin, end - begin);
    const std::string where = cat(file, " line ", ++number);
    begin = end + 1;
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    handle(parse_json_value(line, where), where);
  }
}

nlohmann::json parse_json_value(const std::string& text, const std::string& where) {
  return parse_strict_json(text, where, {ExitCode::kUsage, "JSON text", /*allow_null=*/true, /*any_root=*/true}).value;
}

bool is_id_array(const nlohmann::json& value) {
  return value.is_array() &&
         std::all_of(value.begin(), value.end(), [](const nlohmann::json& id) { return id.is_number_integer(); });
}

}  // namespace xlstm
