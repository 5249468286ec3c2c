#include "xlstm/core/atomic_directory.h"

#include <unistd.h>

#include <system_error>
#include <utility>

#include "xlstm/core/errors.h"
#include "xlstm/core/str.h"

namespace xlstm {

AtomicDirectory::AtomicDirectory(std::filesystem::path target)
    : target_(std::move(target)),
      temporary_(cat(target_.string(), ".tmp-", ::getpid())),
      on_signal_(std::filesystem::absolute(temporary_)) {
  std::error_code error;
  there_ = std::filesystem::create_directory(temporary_, error);
  if (!there_) {
    fail(ExitCode::kOutput, "output directory", target_.string(), "a writable place",
         error ? error.message() : cat(temporary_.string(), " exists"));
  }
}

AtomicDirectory::~AtomicDirectory() {
  std::error_code ignored;
  if (there_) std::filesystem::remove_all(temporary_, ignored);
}

std::filesystem::path AtomicDirectory::file(const std::string& name) {
  files_.emplace_back(std::filesystem::absolute(temporary_ / name));
  return temporary_ / name;
}

void AtomicDirectory::commit() {
  std::error_code error;
  std::filesystem::rename(temporary_, target_, error);
  if (error) fail(ExitCode::kOutput, "output directory", target_.string(), "a free name", error.message());
  there_ = false;
}

}  // namespace xlstm
