#include "xlstm/core/paths.h"

#if defined(__APPLE__)
#include <mach-o/dyld.h>

#include <string>
#endif

#include <system_error>

namespace xlstm {

namespace fs = std::filesystem;

fs::path executable_path() {
  std::error_code ignored;
#if defined(__APPLE__)
  uint32_t size = 0;
  _NSGetExecutablePath(nullptr, &size);
  std::string buffer(size, '\0');
  if (_NSGetExecutablePath(buffer.data(), &size) != 0) return {};
  return fs::canonical(buffer.c_str(), ignored);
#else
  return fs::canonical("/proc/self/exe", ignored);
#endif
}

std::optional<fs::path> find_shipped(std::string_view name, std::string_view source_name) {
  std::error_code ignored;
  const fs::path installed = executable_path().parent_path().parent_path() / "share" / "xlstm_generate" / name;
  if (fs::exists(installed, ignored)) return installed;
  const fs::path source = fs::path(XLSTM_SOURCE_DIR) / (source_name.empty() ? name : source_name);
  if (fs::exists(source, ignored)) return source;
  return std::nullopt;
}

std::string directory_name(const std::filesystem::path& directory) {
  const std::filesystem::path full = std::filesystem::absolute(directory).lexically_normal();
  return (full.has_filename() ? full : full.parent_path()).filename().string();
}

}  // namespace xlstm
