#include "xlstm/core/files.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>

#include "xlstm/core/stop.h"
#include "xlstm/core/str.h"

namespace xlstm {
namespace {

// Opens a regular file for reading and returns its descriptor and size.
std::pair<int, uint64_t> open_regular(const std::filesystem::path& path, ExitCode code) {
  // O_NONBLOCK: opening a named pipe must not wait for a writer.
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) fail(code, "file", path.string(), "a readable file", std::strerror(errno));
  struct stat info {};
  if (::fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    const char* got = S_ISDIR(info.st_mode) ? "a directory" : "something else";
    ::close(fd);
    fail(code, "file", path.string(), "a regular file", got);
  }
  return {fd, static_cast<uint64_t>(info.st_size)};
}

// Waits for bytes or the end of a pipe or a terminal; Stopped when a stop is requested meanwhile or was before.
void wait_readable(int descriptor) {
  constexpr int kLookMs = 100;
  pollfd event{descriptor, POLLIN, 0};
  int ready = 0;
  do {
    throw_if_stopped();
    ready = ::poll(&event, 1, kLookMs);
  } while (ready == 0 || (ready < 0 && errno == EINTR));
}

struct DescriptorCloser {
  int descriptor;
  ~DescriptorCloser() { ::close(descriptor); }
};

}  // namespace

std::string read_descriptor(int descriptor, const std::string& name, ExitCode code) {
  std::string text;
  std::string block(size_t{1} << 16, '\0');
  while (true) {
    wait_readable(descriptor);
    const ssize_t n = ::read(descriptor, block.data(), block.size());
    if (n == 0) return text;
    if (n > 0) {
      text.append(block.data(), static_cast<size_t>(n));
      if (text.size() > kMaxTextBytes) {
        fail(code, "file", name, cat("at most ", bytes_text(kMaxTextBytes)), "more");
      }
    } else if (errno != EINTR && errno != EAGAIN) {
      fail(code, "file", name, "a readable file", std::strerror(errno));
    }
  }
}

std::string read_file(const std::filesystem::path& path, ExitCode code) {
  // O_NONBLOCK: opening a named pipe must not wait for its writer, because nothing could end that wait.
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) fail(code, "file", path.string(), "a readable file", std::strerror(errno));
  const DescriptorCloser closer{fd};
  return read_descriptor(fd, path.string(), code);
}

std::string read_regular_file(const std::filesystem::path& path, ExitCode code) {
  const DescriptorCloser closer{open_regular(path, code).first};
  return read_descriptor(closer.descriptor, path.string(), code);
}

MappedFile::MappedFile(const std::filesystem::path& path, ExitCode code) {
  const auto [fd, size] = open_regular(path, code);
  if (size > 0) {
    void* address = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
    const int error = errno;
    ::close(fd);
    if (address == MAP_FAILED)
      fail(error == ENOMEM ? ExitCode::kMemory : code, "file", path.string(), "a file that can be mapped",
           std::strerror(error));
    data_ = static_cast<const std::byte*>(address);
    size_ = size;
  } else {
    ::close(fd);
  }
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

void MappedFile::drop_pages(uint64_t offset, uint64_t size) const {
  const auto page = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  const uint64_t begin = (offset + page - 1) / page * page;
  const uint64_t end = (offset + size) / page * page;
  if (begin >= end || end > size_) return;
  ::madvise(const_cast<std::byte*>(data_) + begin, end - begin, MADV_DONTNEED);
}

AtomicFile::AtomicFile(std::filesystem::path path) : path_(std::move(path)) {
  std::error_code error;
  const std::filesystem::file_status status = std::filesystem::status(path_, error);
  if (std::filesystem::exists(status)) {
    // Renaming over a device or a pipe would remove it.
    if (!std::filesystem::is_regular_file(status)) {
      fail(ExitCode::kOutput, "output file", path_.string(), "a new or a regular file",
           std::filesystem::is_directory(status) ? "a directory" : "something else");
    }
    const std::filesystem::path target = std::filesystem::canonical(path_, error);  // a link stays a link
    if (!error) path_ = target;
  }
  static std::atomic<unsigned> counter{0};
  do {
    temporary_ = cat(path_.string(), ".tmp-", ::getpid(), "-", counter++);
    fd_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  } while (fd_ < 0 && errno == EEXIST);
  if (fd_ >= 0) on_signal_.emplace(std::filesystem::absolute(temporary_));
  if (fd_ < 0) {
    fail(ExitCode::kOutput, "output file", path_.string(), "a writable place", std::strerror(errno));
  }
}

AtomicFile::~AtomicFile() {
  if (fd_ >= 0) ::close(fd_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void AtomicFile::write(const void* data, size_t size) {
  const char* next = static_cast<const char*>(data);
  while (size > 0) {
    const ssize_t n = ::write(fd_, next, size);
    if (n < 0) {
      if (errno == EINTR) continue;
      fail(ExitCode::kOutput, "output file", path_.string(), "room to write", std::strerror(errno));
    }
    next += n;
    size -= static_cast<size_t>(n);
  }
}

void AtomicFile::write_at(uint64_t offset, const void* data, size_t size) {
  const char* next = static_cast<const char*>(data);
  while (size > 0) {
    const ssize_t n = ::pwrite(fd_, next, size, static_cast<off_t>(offset));
    if (n < 0) {
      if (errno == EINTR) continue;
      fail(ExitCode::kOutput, "output file", path_.string(), "room to write", std::strerror(errno));
    }
    next += n;
    offset += static_cast<uint64_t>(n);
    size -= static_cast<size_t>(n);
  }
}

void AtomicFile::commit() {
  int flushed = -1;
  while ((flushed = ::fsync(fd_)) != 0 && errno == EINTR) continue;
  if (flushed != 0 && errno != EINVAL && errno != ENOTSUP) {
    fail(ExitCode::kOutput, "output file", path_.string(), "room to write", std::strerror(errno));
  }
  const int closed = ::close(fd_);
  fd_ = -1;
  if (closed != 0 || ::rename(temporary_.c_str(), path_.c_str()) != 0) {
    fail(ExitCode::kOutput, "output file", path_.string(), "a writable place", std::strerror(errno));
  }
  temporary_.clear();
  on_signal_.reset();
}

}  // namespace xlstm
