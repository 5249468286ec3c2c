// Files: whole reads, read-only mappings, and writes that leave either the complete new file or nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "xlstm/core/emergency_files.h"
#include "xlstm/core/errors.h"

namespace xlstm {

// The whole file. Errors carry `code` (what kind of input the file is) and name the path.
[[nodiscard]] std::string read_file(const std::filesystem::path& path, ExitCode code);

// The same for a file that must be a regular one: a named pipe or a device would never end.
[[nodiscard]] std::string read_regular_file(const std::filesystem::path& path, ExitCode code);

// Texts longer than this are refused, so that an endless device is.
inline constexpr size_t kMaxTextBytes = size_t{1} << 30;

// Waiting for a pipe or a terminal ends with Stopped when a stop is requested (xlstm/core/stop.h).
//
// Everything up to the end of an open descriptor, which stays open; `name` is what errors call it.
[[nodiscard]] std::string read_descriptor(int descriptor, const std::string& name, ExitCode code);

// A read-only mapping of a regular file. Movable, not copyable. The bytes stay valid until destruction; a file that is
// truncated by another process while mapped raises SIGBUS on access, as with any mapping.
class MappedFile {
 public:
  MappedFile() = default;
  MappedFile(const std::filesystem::path& path, ExitCode code);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  [[nodiscard]] std::span<const std::byte> bytes() const { return {data_, size_}; }

  // Tells the kernel that [offset, offset + size) will not be read again soon, so its pages stop counting as resident.
  void drop_pages(uint64_t offset, uint64_t size) const;

 private:
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

// Writes to a temporary file beside `path`; commit() flushes it to the disk and renames it into place. Without commit()
// the destructor removes the temporary, so a failure leaves no half-written file, nor does a signal that ends the
// process (xlstm/core/emergency_files.h). A path that exists must be a regular
// file (devices and pipes cannot be replaced). All errors are Error kOutput.
class AtomicFile {
 public:
  explicit AtomicFile(std::filesystem::path path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(const void* data, size_t size);
  void write(std::string_view text) { write(text.data(), text.size()); }
  // At a place of its own, whatever was written before; write() goes on where it was.
  void write_at(uint64_t offset, const void* data, size_t size);
  void commit();

 private:
  std::filesystem::path path_;
  std::filesystem::path temporary_;
  std::optional<EmergencyFile> on_signal_;
  int fd_ = -1;
};

}  // namespace xlstm
