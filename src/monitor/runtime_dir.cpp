#include "xlstm/monitor/runtime_dir.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "xlstm/core/str.h"

namespace xlstm {
namespace {

namespace fs = std::filesystem;

constexpr mode_t kOthers = S_IRWXG | S_IRWXO;

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

// Whether nobody but this user can put something into `path`.
bool only_ours(const fs::path& path) {
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode) && info.st_uid == ::geteuid() &&
         (info.st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

fs::path in_runtime_dir(const fs::path& runtime_dir) {
  return runtime_dir / "xlstm_generate";
}

fs::path in_temporary_dir(const std::string& tmpdir) {
  return fs::path(tmpdir.empty() ? "/tmp" : tmpdir) / cat("xlstm_generate-", ::geteuid());
}

bool usable_runtime_dir(const std::string& path) {
  return path.starts_with('/') && only_ours(path);
}

bool same_folder(const PrivateDirectory& a, const PrivateDirectory& b) {
  struct stat first {};
  struct stat second {};
  return ::fstat(a.descriptor(), &first) == 0 && ::fstat(b.descriptor(), &second) == 0 &&
         first.st_dev == second.st_dev && first.st_ino == second.st_ino;
}

}  // namespace

std::optional<PrivateDirectory> PrivateDirectory::open(const fs::path& path, bool create, std::string& why) {
  why.clear();
  if (create && ::mkdir(path.c_str(), S_IRWXU) != 0 && errno != EEXIST) {
    why = cat(printable(path.string(), 200), ": ", std::strerror(errno));
    return std::nullopt;
  }
  const int fd = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) {
    if (errno == ENOENT) return std::nullopt;
    // O_NOFOLLOW says ELOOP or ENOTDIR for a link, depending on the system.
    const bool other = errno == ELOOP || errno == ENOTDIR;
    why = cat(printable(path.string(), 200), ": ", other ? "not a folder" : std::strerror(errno));
    return std::nullopt;
  }
  PrivateDirectory directory(path, fd);
  struct stat info {};
  if (::fstat(fd, &info) != 0 || info.st_uid != ::geteuid()) {
    why = cat(printable(path.string(), 200), ": belongs to another user");
    return std::nullopt;
  }
  if ((info.st_mode & kOthers) != 0) {
    why = cat(printable(path.string(), 200), ": open to other users (mode 0700 wanted)");
    return std::nullopt;
  }
  return directory;
}

PrivateDirectory::~PrivateDirectory() {
  if (fd_ >= 0) ::close(fd_);
}

PrivateDirectory::PrivateDirectory(PrivateDirectory&& other) noexcept
    : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)) {}

PrivateDirectory& PrivateDirectory::operator=(PrivateDirectory&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(fd_, other.fd_);
  return *this;
}

RuntimePlaces runtime_places() {
  return {environment("XDG_RUNTIME_DIR"), environment("TMPDIR")};
}

std::optional<PrivateDirectory> open_publish_directory(const RuntimePlaces& places, std::string& why) {
  if (usable_runtime_dir(places.xdg_runtime_dir)) {
    auto directory = PrivateDirectory::open(in_runtime_dir(places.xdg_runtime_dir), true, why);
    if (directory) return directory;
  }
  return PrivateDirectory::open(in_temporary_dir(places.tmpdir), true, why);
}

std::vector<PrivateDirectory> open_read_directories(const RuntimePlaces& places, std::vector<std::string>& problems) {
  std::vector<fs::path> paths;
  if (usable_runtime_dir(places.xdg_runtime_dir)) paths.push_back(in_runtime_dir(places.xdg_runtime_dir));
#if !defined(__APPLE__)
  paths.push_back(in_runtime_dir(fs::path("/run/user") / std::to_string(::geteuid())));
#endif
  paths.push_back(in_temporary_dir(places.tmpdir));
  paths.push_back(in_temporary_dir(""));

  std::vector<PrivateDirectory> directories;
  for (const fs::path& path : paths) {
    std::string why;
    auto directory = PrivateDirectory::open(path, false, why);
    if (!directory) {
      if (!why.empty() && std::find(problems.begin(), problems.end(), why) == problems.end()) problems.push_back(why);
      continue;
    }
    const bool known = std::any_of(directories.begin(), directories.end(),
                                   [&](const PrivateDirectory& other) { return same_folder(other, *directory); });
    if (!known) directories.push_back(std::move(*directory));
  }
  return directories;
}

}  // namespace xlstm
