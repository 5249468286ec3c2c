#include "xlstm/io/safetensors.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "xlstm/core/errors.h"
#include "xlstm/core/str.h"
#include "xlstm/core/strict_json.h"

namespace xlstm {
namespace {

using nlohmann::json;

constexpr uint64_t kLengthBytes = 8;
constexpr uint64_t kMaxHeaderBytes = 100'000'000;

uint64_t load_le64(const std::byte* bytes) {
  uint64_t value = 0;
  for (size_t i = 0; i < 8; ++i) value |= static_cast<uint64_t>(bytes[i]) << (8 * i);
  return value;
}

// What else people pass where a safetensors file belongs; "" if the first bytes don't tell.
std::string foreign_format(std::string_view start) {
  if (start.starts_with("GGUF")) return "a GGUF file, which is not read";
  if (start.starts_with("version https://git-lfs")) return "a Git LFS pointer (fetch the data with `git lfs pull`)";
  if (start.starts_with("PK\x03\x04") || start.starts_with("\x80\x02")) return "a PyTorch pickle, which is not read";
  return "";
}

class HeaderParser {
 public:
  HeaderParser(std::string where, std::span<const std::byte> data) : where_(std::move(where)), data_(data) {}

  TensorView tensor(const std::string& name, const json& entry) const {
    const std::string what = cat("tensor ", printable(name));
    if (!entry.is_object()) fail(ExitCode::kCheckpoint, what, where_, "an object", json_kind(entry));
    for (const auto& [key, value] : entry.items()) {
      if (key != "dtype" && key != "shape" && key != "data_offsets") {
        refuse(what, "dtype, shape and data_offsets only", cat("key \"", printable(key), "\""));
      }
    }
    TensorView view;
    view.name = name;
    view.dtype = dtype(what, member(what, entry, "dtype"));
    view.shape = shape(what, member(what, entry, "shape"));
    view.bytes = bytes(what, view, member(what, entry, "data_offsets"));
    return view;
  }

  std::map<std::string, std::string> metadata(const json& entry) const {
    if (!entry.is_object()) refuse("__metadata__", "an object of strings", json_kind(entry));
    std::map<std::string, std::string> out;
    for (const auto& [key, value] : entry.items()) {
      if (!value.is_string()) refuse(cat("__metadata__ key ", printable(key)), "a string", json_kind(value));
      out[key] = value.get<std::string>();
    }
    return out;
  }

 private:
  [[noreturn]] void refuse(std::string_view what, std::string_view expected, std::string_view got) const {
    fail(ExitCode::kCheckpoint, what, where_, expected, got);
  }

  const json& member(const std::string& what, const json& entry, const char* key) const {
    const auto found = entry.find(key);
    if (found == entry.end()) refuse(what, cat("key \"", key, "\""), "none");
    return *found;
  }

  DType dtype(const std::string& what, const json& value) const {
    if (!value.is_string()) refuse(what, "a dtype name", json_kind(value));
    const std::string& name = value.get_ref<const std::string&>();
    const auto parsed = parse_dtype(name);
    if (!parsed) refuse(what, cat("a dtype of ", dtype_names()), cat("\"", printable(name), "\""));
    return *parsed;
  }

  std::vector<int64_t> shape(const std::string& what, const json& value) const {
    if (!value.is_array()) refuse(what, "a list as shape", json_kind(value));
    std::vector<int64_t> out;
    for (const json& size : value) {
      constexpr auto kMax = static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
      if (!size.is_number_unsigned() || size.get<uint64_t>() > kMax) {
        refuse(what, "non-negative integers below 2^63 as shape", json_kind(size));
      }
      out.push_back(size.get<int64_t>());
    }
    return out;
  }

  std::span<const std::byte> bytes(const std::string& what, const TensorView& view, const json& value) const {
    if (!value.is_array() || value.size() != 2 || !value[0].is_number_unsigned() || !value[1].is_number_unsigned()) {
      refuse(what, "data_offsets [begin, end]", printable(value.dump(-1, ' ', true), 60));
    }
    const auto begin = value[0].get<uint64_t>();
    const auto end = value[1].get<uint64_t>();
    if (begin > end) refuse(what, "data_offsets with begin <= end", cat("[", begin, ", ", end, "]"));
    if (end > data_.size()) {
      refuse(what, cat("data within the file's ", data_.size(), " bytes of tensor data"),
             cat("data_offsets [", begin, ", ", end, "]; the file is truncated or damaged"));
    }
    const int64_t elements = element_count(view.shape);
    const uint64_t size = dtype_size(view.dtype);
    if (elements < 0 || static_cast<uint64_t>(elements) > std::numeric_limits<uint64_t>::max() / size) {
      refuse(what, "a size that fits into 64 bits", cat("shape ", shape_text(view.shape)));
    }
    const uint64_t needed = static_cast<uint64_t>(elements) * size;
    if (end - begin != needed) {
      refuse(what, cat(needed, " bytes for ", dtype_name(view.dtype), " ", shape_text(view.shape)),
             cat(end - begin, " bytes"));
    }
    return data_.subspan(begin, end - begin);
  }

  std::string where_;
  std::span<const std::byte> data_;
};

uint64_t byte_count(const TensorHeader& tensor) {
  const int64_t elements = element_count(tensor.shape);
  XLSTM_ASSERT(elements >= 0);
  return static_cast<uint64_t>(elements) * dtype_size(tensor.dtype);
}

// What precedes the data, and the order of the tensors in it.
struct FileLayout {
  std::string start;
  std::vector<size_t> order;
};

FileLayout lay_out(const std::vector<TensorHeader>& tensors, const std::map<std::string, std::string>& metadata) {
  FileLayout layout;
  for (size_t i = 0; i < tensors.size(); ++i) layout.order.push_back(i);
  std::stable_sort(layout.order.begin(), layout.order.end(),
                   [&](size_t a, size_t b) { return dtype_size(tensors[a].dtype) > dtype_size(tensors[b].dtype); });
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  uint64_t offset = 0;
  for (const size_t i : layout.order) {
    const TensorHeader& tensor = tensors[i];
    XLSTM_ASSERT(!header.contains(tensor.name));
    const uint64_t end = offset + byte_count(tensor);
    header[tensor.name] = {
        {"dtype", std::string(dtype_name(tensor.dtype))}, {"shape", tensor.shape}, {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text = header.dump();
  text.append((8 - text.size() % 8) % 8, ' ');
  for (int i = 0; i < 8; ++i) layout.start += static_cast<char>(static_cast<uint64_t>(text.size()) >> (8 * i) & 0xff);
  layout.start += text;
  return layout;
}

}  // namespace

int64_t element_count(const std::vector<int64_t>& shape) {
  int64_t count = 1;
  for (const int64_t size : shape) {
    if (size < 0 || (size > 0 && count > std::numeric_limits<int64_t>::max() / size)) return -1;
    count *= size;
  }
  return count;
}

SafetensorsFile::SafetensorsFile(std::filesystem::path path)
    : path_(std::move(path)), file_(path_, ExitCode::kCheckpoint) {
  read_header();
}

void SafetensorsFile::read_header() {
  const std::string where = path_.string();
  const std::span<const std::byte> all = file_.bytes();
  const std::string_view text(reinterpret_cast<const char*>(all.data()), all.size());
  if (const std::string foreign = foreign_format(text); !foreign.empty()) {
    fail(ExitCode::kCheckpoint, "checkpoint file", where, "a safetensors file", foreign);
  }
  if (all.size() < kLengthBytes) {
    fail(ExitCode::kCheckpoint, "safetensors header", where, "at least 8 bytes", cat(all.size(), " bytes"));
  }
  const uint64_t length = load_le64(all.data());
  if (length > kMaxHeaderBytes) {
    fail(ExitCode::kCheckpoint, "safetensors header", where, cat("a length of at most ", kMaxHeaderBytes, " bytes"),
         cat(length, "; not a safetensors file, or a damaged one"));
  }
  if (length > all.size() - kLengthBytes) {
    fail(ExitCode::kCheckpoint, "safetensors header", where, cat(length, " bytes of header"),
         cat(all.size() - kLengthBytes, " bytes; the file is truncated"));
  }
  std::string_view header = text.substr(kLengthBytes, length);
  if (!header.starts_with('{')) {
    fail(ExitCode::kCheckpoint, "safetensors header", where, "a JSON object",
         header.empty() ? "nothing" : cat("\"", printable(header.substr(0, 16)), "\""));
  }
  header = header.substr(0, header.find_last_not_of(' ') + 1);
  if (!header.ends_with('}')) {
    fail(ExitCode::kCheckpoint, "safetensors header", where, "a JSON object and padding spaces",
         cat("\"", printable(header.substr(header.size() - std::min<size_t>(header.size(), 16))), "\" at its end"));
  }

  const json root = parse_strict_json(header, where, {ExitCode::kCheckpoint, "safetensors header"}).value;
  const std::span<const std::byte> data = all.subspan(kLengthBytes + length);
  const HeaderParser parser(where, data);
  for (const auto& [name, entry] : root.items()) {
    if (name == "__metadata__") {
      metadata_ = parser.metadata(entry);
    } else {
      tensors_.push_back(parser.tensor(name, entry));
    }
  }
  std::stable_sort(tensors_.begin(), tensors_.end(), [](const TensorView& a, const TensorView& b) {
    return std::pair(a.bytes.data(), a.bytes.size()) < std::pair(b.bytes.data(), b.bytes.size());
  });
  check_layout(data.size());
  for (size_t i = 0; i < tensors_.size(); ++i) index_.emplace(tensors_[i].name, i);
}

void SafetensorsFile::check_layout(uint64_t data_size) const {
  const std::byte* const start = file_.bytes().data() + (file_.bytes().size() - data_size);
  uint64_t covered = 0;
  for (size_t i = 0; i < tensors_.size(); ++i) {
    const auto begin = static_cast<uint64_t>(tensors_[i].bytes.data() - start);
    if (begin != covered) {
      const std::string previous = i == 0 ? "the data's start" : cat("tensor ", printable(tensors_[i - 1].name));
      fail(ExitCode::kCheckpoint, cat("tensor ", printable(tensors_[i].name)), path_.string(),
           cat("data from offset ", covered, ", where ", previous, i == 0 ? " is" : " ends"),
           cat("offset ", begin, begin < covered ? " (overlap)" : " (hole)"));
    }
    covered += tensors_[i].bytes.size();
  }
  if (covered != data_size) {
    fail(ExitCode::kCheckpoint, "safetensors data", path_.string(), cat(covered, " bytes of tensor data"),
         cat(data_size - covered, " bytes behind the last tensor"));
  }
}

const TensorView* SafetensorsFile::find(std::string_view name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &tensors_[found->second];
}

void SafetensorsFile::drop_pages(const TensorView& tensor) const {
  const std::span<const std::byte> all = file_.bytes();
  if (tensor.bytes.empty()) return;
  XLSTM_ASSERT(tensor.bytes.data() >= all.data() &&
               tensor.bytes.data() + tensor.bytes.size() <= all.data() + all.size());
  file_.drop_pages(static_cast<uint64_t>(tensor.bytes.data() - all.data()), tensor.bytes.size());
}

void SafetensorsWriter::add(std::string name, DType dtype, std::vector<int64_t> shape,
                            std::span<const std::byte> bytes) {
  XLSTM_ASSERT(name != "__metadata__");
  XLSTM_ASSERT(element_count(shape) >= 0 &&
               static_cast<uint64_t>(element_count(shape)) * dtype_size(dtype) == bytes.size());
  tensors_.push_back({std::move(name), dtype, std::move(shape), bytes});
}

void SafetensorsWriter::set_metadata(const std::string& key, std::string value) {
  metadata_[key] = std::move(value);
}

void SafetensorsWriter::write(const std::filesystem::path& path) const {
  std::vector<TensorHeader> headers;
  for (const TensorView& tensor : tensors_) headers.push_back({tensor.name, tensor.dtype, tensor.shape});
  const FileLayout layout = lay_out(headers, metadata_);
  AtomicFile file(path);
  file.write(layout.start);
  for (const size_t i : layout.order) file.write(tensors_[i].bytes.data(), tensors_[i].bytes.size());
  file.commit();
}

SafetensorsStream::SafetensorsStream(const std::filesystem::path& path, const std::vector<TensorHeader>& tensors)
    : file_(path) {
  const FileLayout layout = lay_out(tensors, {});
  file_.write(layout.start);
  uint64_t begin = layout.start.size();
  for (const size_t i : layout.order) {
    const uint64_t size = byte_count(tensors[i]);
    places_[tensors[i].name] = {begin, size};
    begin += size;
  }
  missing_ = begin - layout.start.size();
}

void SafetensorsStream::write(const std::string& tensor, uint64_t offset, std::span<const std::byte> bytes) {
  const auto place = places_.find(tensor);
  XLSTM_ASSERT(place != places_.end() && bytes.size() <= place->second.size);
  XLSTM_ASSERT(offset <= place->second.size - bytes.size() && bytes.size() <= missing_);
  file_.write_at(place->second.begin + offset, bytes.data(), bytes.size());
  missing_ -= bytes.size();
}

void SafetensorsStream::commit() {
  XLSTM_ASSERT(missing_ == 0);
  file_.commit();
}

}  // namespace xlstm
