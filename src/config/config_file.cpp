#include "src/config/config_file.h"

#include <system_error>

#include "xlstm/core/files.h"
#include "xlstm/core/str.h"

namespace xlstm {

JsonObject parse_config_text(std::string_view text, const std::string& where) {
  return parse_strict_json(text, where, {ExitCode::kUsage, "JSON text", /*allow_null=*/false});
}

JsonObject read_config_file(const std::filesystem::path& path) {
  std::error_code ignored;
  const std::filesystem::file_status status = std::filesystem::status(path, ignored);
  if (status.type() == std::filesystem::file_type::character || status.type() == std::filesystem::file_type::block) {
    fail(ExitCode::kUsage, "file", path.string(), "a JSON file", "a device");
  }
  if (status.type() == std::filesystem::file_type::regular) {
    const uintmax_t size = std::filesystem::file_size(path, ignored);
    if (!ignored && size > kMaxConfigBytes) {
      fail(ExitCode::kUsage, "file", path.string(), cat("a JSON file of at most ", bytes_text(kMaxConfigBytes)),
           bytes_text(size));
    }
  }
  return parse_config_text(read_file(path, ExitCode::kUsage), path.string());
}

}  // namespace xlstm
