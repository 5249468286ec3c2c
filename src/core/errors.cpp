#include "xlstm/core/errors.h"

#include "xlstm/core/str.h"

namespace xlstm {

std::string format_error(std::string_view what, std::string_view where, std::string_view expected,
                         std::string_view got) {
  constexpr size_t kLimit = 2000;  // for each part: names and values may come from a hostile file
  return cat(printable(what, kLimit), " (", printable(where, kLimit), "): expected ", printable(expected, kLimit),
             ", got ", printable(got, kLimit));
}

void fail(ExitCode code, std::string_view what, std::string_view where, std::string_view expected,
          std::string_view got) {
  throw Error(code, format_error(what, where, expected, got));
}

void assertion_failed(const char* condition, const char* file, int line) {
  const std::string_view path(file);
  const std::string_view name = path.substr(path.find_last_of('/') + 1);
  throw Error(ExitCode::kInternal, cat("internal error (", name, ":", line, "): expected ", condition, ", got false"));
}

}  // namespace xlstm
