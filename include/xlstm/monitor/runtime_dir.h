// The folder of this user's status files. Nobody else can read it, put files into it, or put another folder in its
// place: it must belong to this user with mode 0700 and must not be a link, and files are reached through its
// descriptor.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace xlstm {

// An open folder. Movable.
class PrivateDirectory {
 public:
  // Opens `path`; with `create` it is made if there is none (its parent must exist). nullopt if it cannot be used, with
  // the reason in `why`; an empty reason means that there is none.
  static std::optional<PrivateDirectory> open(const std::filesystem::path& path, bool create, std::string& why);

  ~PrivateDirectory();
  PrivateDirectory(PrivateDirectory&& other) noexcept;
  PrivateDirectory& operator=(PrivateDirectory&& other) noexcept;
  PrivateDirectory(const PrivateDirectory&) = delete;
  PrivateDirectory& operator=(const PrivateDirectory&) = delete;

  [[nodiscard]] int descriptor() const { return fd_; }
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  PrivateDirectory(std::filesystem::path path, int fd) : path_(std::move(path)), fd_(fd) {}
  std::filesystem::path path_;
  int fd_ = -1;
};

// Where the environment asks for such files; empty: it does not.
struct RuntimePlaces {
  std::string xdg_runtime_dir;
  std::string tmpdir;
};
[[nodiscard]] RuntimePlaces runtime_places();  // from XDG_RUNTIME_DIR and TMPDIR

// The folder to write into: XDG_RUNTIME_DIR/xlstm_generate if XDG_RUNTIME_DIR is an absolute path of a folder that only
// this user can write to, else <TMPDIR or /tmp>/xlstm_generate-<uid>. Made if it is missing.
[[nodiscard]] std::optional<PrivateDirectory> open_publish_directory(const RuntimePlaces& places, std::string& why);

// The folders to look into: the environment of a run may have been another than ours (a login without
// XDG_RUNTIME_DIR, a job with a TMPDIR of its own), so all places that it is likely to have used. Folders that exist
// but cannot be trusted are named in `problems`.
[[nodiscard]] std::vector<PrivateDirectory> open_read_directories(const RuntimePlaces& places,
                                                                  std::vector<std::string>& problems);

}  // namespace xlstm
