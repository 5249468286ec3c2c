#include "src/cli/output_files.h"

#include <sys/stat.h>
#include <unistd.h>

#include <map>
#include <system_error>

#include "xlstm/core/errors.h"
#include "xlstm/core/str.h"

namespace xlstm {
namespace {

namespace fs = std::filesystem;

// The name of the standard stream that writes to the same file; "" if none does.
std::string same_stream(const fs::path& path) {
  struct stat file {};
  if (::stat(path.c_str(), &file) != 0) return "";
  for (const auto& [stream, name] : {std::pair(STDOUT_FILENO, "standard output"), {STDERR_FILENO, "standard error"}}) {
    struct stat info {};
    if (::fstat(stream, &info) == 0 && info.st_dev == file.st_dev && info.st_ino == file.st_ino) return name;
  }
  return "";
}

}  // namespace

void check_outputs(const std::vector<OutputFile>& outputs, const fs::path& checkpoint) {
  std::error_code ignored;
  const fs::path model = fs::weakly_canonical(checkpoint, ignored);
  std::map<fs::path, std::string> seen;
  for (const OutputFile& output : outputs) {
    if (output.path.empty()) continue;
    const fs::path path = fs::weakly_canonical(output.path, ignored);
    if (const auto [other, fresh] = seen.emplace(path, output.flag); !fresh) {
      fail(ExitCode::kUsage, output.flag, "command line", cat("another file than ", other->second, " writes"),
           output.path);
    }
    if (const std::string stream = same_stream(path); !stream.empty()) {
      fail(ExitCode::kUsage, output.flag, "command line", "a file of its own", cat(output.path, ", which is ", stream));
    }
    if (path.parent_path() == model) {
      fail(ExitCode::kUsage, output.flag, "command line", "a file outside the checkpoint directory", output.path);
    }
  }
}

}  // namespace xlstm
