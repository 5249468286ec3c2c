// The safetensors file format, read through a memory mapping and written atomically.
//
// Layout (as published by the format's authors): a little-endian uint64 N; N bytes of JSON that begin with '{' and may
// end in padding spaces, {"name": {"dtype": …, "shape": […], "data_offsets": [begin, end]}, …} plus an optional
// "__metadata__" object of strings; then the tensors' little-endian row-major data, offsets counted from its start.
//
// The reader is strict: header length (at most 100 MB), JSON, names, dtypes, shapes and sizes are checked, the tensors
// must cover the data exactly, with no overlap, no hole and nothing behind. Data may lie at any alignment.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "xlstm/core/files.h"
#include "xlstm/io/dtype.h"

namespace xlstm {

// A tensor inside a mapped file, valid as long as the file object lives. `bytes` may be unaligned: copy, don't cast.
struct TensorView {
  std::string name;
  DType dtype = DType::F32;
  std::vector<int64_t> shape;
  std::span<const std::byte> bytes;

  [[nodiscard]] int64_t num_elements() const { return static_cast<int64_t>(bytes.size() / dtype_size(dtype)); }
};

// Movable; views stay valid through a move. All const members are thread-safe.
class SafetensorsFile {
 public:
  // Error kCheckpoint, naming the file and the tensor, for everything that breaks the format.
  explicit SafetensorsFile(std::filesystem::path path);

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  [[nodiscard]] const std::vector<TensorView>& tensors() const { return tensors_; }  // in the order of their data
  [[nodiscard]] const TensorView* find(std::string_view name) const;                 // nullptr if absent
  [[nodiscard]] const std::map<std::string, std::string>& metadata() const { return metadata_; }

  // Lets the pages of a tensor of this file stop counting as resident memory; reading it again maps them anew.
  void drop_pages(const TensorView& tensor) const;

 private:
  void read_header();
  void check_layout(uint64_t data_size) const;

  std::filesystem::path path_;
  MappedFile file_;
  std::vector<TensorView> tensors_;
  std::map<std::string, size_t, std::less<>> index_;  // name → position in tensors_
  std::map<std::string, std::string> metadata_;
};

// Collects tensors and writes them as one file. Data is laid out by falling element size, in the order of add() within
// a size, and starts at a multiple of 8 bytes, so every tensor lies at a multiple of its element size.
class SafetensorsWriter {
 public:
  // Keeps `bytes` as a view: the caller's data must live until write(). Names must differ.
  void add(std::string name, DType dtype, std::vector<int64_t> shape, std::span<const std::byte> bytes);
  void set_metadata(const std::string& key, std::string value);

  // Error kOutput; the file is complete or absent.
  void write(const std::filesystem::path& path) const;

 private:
  std::vector<TensorView> tensors_;
  std::map<std::string, std::string> metadata_;
};

struct TensorHeader {
  std::string name;
  DType dtype = DType::F32;
  std::vector<int64_t> shape;
};

// A file whose tensors are known beforehand and whose data comes in pieces, in any order: for more than fits into
// memory. Data is laid out as by SafetensorsWriter. All errors are kOutput; the file is complete or absent.
class SafetensorsStream {
 public:
  SafetensorsStream(const std::filesystem::path& path, const std::vector<TensorHeader>& tensors);

  // Bytes [offset, offset + bytes.size()) of a tensor; every byte is written once.
  void write(const std::string& tensor, uint64_t offset, std::span<const std::byte> bytes);
  void commit();

 private:
  struct Place {
    uint64_t begin = 0;  // in the file
    uint64_t size = 0;
  };

  AtomicFile file_;
  std::map<std::string, Place> places_;
  uint64_t missing_ = 0;  // bytes
};

// Row-major elements of a shape, or −1 if a dimension is negative or the product does not fit into int64.
[[nodiscard]] int64_t element_count(const std::vector<int64_t>& shape);

}  // namespace xlstm
