#include "xlstm/io/checkpoint.h"

#include <algorithm>
#include <array>
#include <bit>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <utility>

#include "src/io/hash.h"
#include "xlstm/core/errors.h"
#include "xlstm/core/str.h"
#include "xlstm/core/strict_json.h"

namespace xlstm {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

constexpr const char* kSingleFile = "model.safetensors";
constexpr const char* kIndexFile = "model.safetensors.index.json";
constexpr const char* kReadable =
    "model.safetensors, model.safetensors.index.json with its shards, or model_0.safetensors, …";

// A path that names a model on the hub rather than a place on disk: "OWNER/NAME", with no directory OWNER here.
bool looks_like_hub_name(const std::string& path) {
  const size_t slash = path.find('/');
  if (slash == 0 || slash == std::string::npos || slash + 1 == path.size()) return false;
  if (path.find('/', slash + 1) != std::string::npos || path[0] == '.' || path[0] == '~') return false;
  std::error_code ignored;
  return !fs::exists(path.substr(0, slash), ignored);
}

// As a shell reads it.
std::string shell_word(const std::string& text) {
  const auto plain = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           std::string_view("/._-+,@").find(c) != std::string_view::npos;
  };
  if (!text.empty() && std::all_of(text.begin(), text.end(), plain)) return text;
  std::string quoted = "'";
  for (const char c : text) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

void require_directory(const fs::path& dir) {
  const std::string where = dir.string();
  std::error_code ignored;
  if (fs::is_directory(dir, ignored)) return;
  if (!fs::exists(dir, ignored)) {
    if (looks_like_hub_name(where)) {
      fail(ExitCode::kCheckpoint, "model", where, "a checkpoint directory",
           cat("no such directory; if it is on the Hugging Face hub, download it: scripts/download_model.sh ", where,
               " --to DIR, then name DIR"));
    }
    fail(ExitCode::kCheckpoint, "model", where, "a checkpoint directory", "nothing at this path");
  }
  if (dir.extension() == ".gguf") {
    fail(ExitCode::kCheckpoint, "model", where, cat("a directory with config.json and ", kReadable),
         "a GGUF file, which is not read");
  }
  fail(ExitCode::kCheckpoint, "model", where, "a checkpoint directory", "a file; name the directory it is in");
}

std::vector<std::string> list_directory(const fs::path& dir) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator it(dir, error), end; !error && it != end; it.increment(error)) {
    names.push_back(it->path().filename().string());
  }
  if (error) fail(ExitCode::kCheckpoint, "model", dir.string(), "a readable directory", error.message());
  std::sort(names.begin(), names.end());
  return names;
}

// The number in "model_7.safetensors"; nullopt for other names.
std::optional<size_t> numbered_shard(std::string_view name) {
  constexpr std::string_view kStart = "model_";
  constexpr std::string_view kEnd = ".safetensors";
  if (!name.starts_with(kStart) || !name.ends_with(kEnd) || name.size() <= kStart.size() + kEnd.size()) return {};
  const std::string_view digits = name.substr(kStart.size(), name.size() - kStart.size() - kEnd.size());
  if (digits.size() > 6 || (digits.size() > 1 && digits[0] == '0')) return std::nullopt;
  size_t number = 0;
  for (const char c : digits) {
    if (c < '0' || c > '9') return std::nullopt;
    number = number * 10 + static_cast<size_t>(c - '0');
  }
  return number;
}

// "a, b, c and 5 more"
std::string some_of(const std::vector<std::string>& names) {
  constexpr size_t kShown = 4;
  std::vector<std::string> shown;
  for (size_t i = 0; i < std::min(names.size(), kShown); ++i) shown.push_back(printable(names[i]));
  std::string text = join(shown, ", ");
  if (names.size() > kShown) text += cat(" and ", names.size() - kShown, " more");
  return text;
}

[[noreturn]] void fail_no_weights(const fs::path& dir, const std::vector<std::string>& listing) {
  std::vector<std::string> others;
  bool gguf = false;
  bool shards = false;
  for (const std::string& name : listing) {
    const std::string extension = fs::path(name).extension().string();
    gguf = gguf || extension == ".gguf";
    shards = shards || extension == ".safetensors";
    if (extension == ".gguf" || extension == ".bin" || extension == ".pt" || extension == ".pth" ||
        extension == ".ckpt" || extension == ".safetensors") {
      others.push_back(name);
    }
  }
  std::string got = "none of them";
  if (listing.empty()) {
    got = cat("an empty directory; ", download_hint(dir));
  } else if (!others.empty()) {
    got = cat("only ", some_of(others));
    if (gguf) got += "; GGUF files are not read";
    if (shards) got += cat("; shards need their ", kIndexFile, "; ", download_hint(dir));
  } else {
    got += cat("; ", download_hint(dir));
  }
  fail(ExitCode::kCheckpoint, "model weights", dir.string(), kReadable, got);
}

}  // namespace

json read_checkpoint_config(const fs::path& dir) {
  const fs::path path = dir / "config.json";
  std::error_code ignored;
  if (!fs::exists(path, ignored)) {
    const bool yaml = fs::exists(dir / "config.yaml", ignored);
    fail(ExitCode::kCheckpoint, "model configuration", dir.string(), "config.json",
         yaml ? "only config.yaml; write the same keys as JSON into config.json"
              : cat("no such file; ", download_hint(dir)));
  }
  return parse_strict_json(read_regular_file(path, ExitCode::kCheckpoint), path.string(),
                           {ExitCode::kCheckpoint, "model configuration"})
      .value;
}

namespace {

// A plain file name of this directory: nothing that could lead elsewhere.
bool is_plain_file_name(std::string_view name) {
  return name.ends_with(".safetensors") && name.find_first_of(std::string_view("/\\\0", 3)) == std::string_view::npos;
}

// Numbers are hashed by value, so that 15 and 15.0 are the same.
void add_value(Checksum& checksum, const json& value) {
  if (value.is_number()) {
    checksum.add(std::bit_cast<uint64_t>(value.get<double>()));
  } else {
    checksum.add(std::string_view(value.dump(-1, ' ', true, json::error_handler_t::replace)));
  }
}

}  // namespace

Checkpoint::Checkpoint(fs::path dir) : dir_(std::move(dir)) {
  require_directory(dir_);
  const std::vector<std::string> listing = list_directory(dir_);
  const auto has = [&](std::string_view name) { return std::binary_search(listing.begin(), listing.end(), name); };
  std::set<size_t> numbers;
  for (const std::string& name : listing) {
    if (const auto number = numbered_shard(name)) numbers.insert(*number);
  }
  if (!has(kSingleFile) && !has(kIndexFile) && numbers.empty()) fail_no_weights(dir_, listing);

  config_ = std::make_unique<json>(read_checkpoint_config(dir_));
  if (has(kSingleFile)) {
    open_files({kSingleFile});
  } else if (has(kIndexFile)) {
    open_index(dir_ / kIndexFile);
  } else {
    std::vector<std::string> shards;
    for (size_t i = 0; i < numbers.size(); ++i) {
      shards.push_back(cat("model_", i, ".safetensors"));
      if (!numbers.contains(i)) {
        fail(ExitCode::kCheckpoint, "model weights", dir_.string(),
             cat("shards numbered from 0 to ", *numbers.rbegin(), " without a gap"),
             cat("no ", shards.back(), "; ", download_hint(dir_)));
      }
    }
    open_files(shards);
  }
}

Checkpoint::~Checkpoint() = default;
Checkpoint::Checkpoint(Checkpoint&&) noexcept = default;
Checkpoint& Checkpoint::operator=(Checkpoint&&) noexcept = default;

void Checkpoint::open_files(const std::vector<std::string>& names) {
  for (const std::string& name : names) files_.emplace_back(dir_ / name);
  for (size_t f = 0; f < files_.size(); ++f) {
    for (const TensorView& view : files_[f].tensors()) {
      const auto [entry, inserted] = tensors_.emplace(view.name, Location{f, &view});
      if (!inserted) {
        fail(ExitCode::kCheckpoint, cat("tensor ", printable(view.name)), files_[f].path().string(),
             "every tensor in one shard", cat("another one in ", names[entry->second.file]));
      }
    }
  }
}

void Checkpoint::open_index(const fs::path& index_path) {
  const std::string where = index_path.string();
  const json index = parse_strict_json(read_regular_file(index_path, ExitCode::kCheckpoint), where,
                                       {ExitCode::kCheckpoint, "shard index"})
                         .value;
  const auto map = index.find("weight_map");
  if (map == index.end() || !map->is_object() || map->empty()) {
    fail(ExitCode::kCheckpoint, "shard index", where, "an object \"weight_map\" from tensor to file name", "none");
  }
  std::set<std::string> shards;
  for (const auto& [tensor, file] : map->items()) {
    if (!file.is_string() || !is_plain_file_name(file.get_ref<const std::string&>())) {
      fail(ExitCode::kCheckpoint, cat("shard of tensor ", printable(tensor)), where,
           "the name of a .safetensors file in the same directory",
           json_kind(file) == "a string" ? cat("\"", printable(file.get_ref<const std::string&>()), "\"")
                                         : json_kind(file));
    }
    shards.insert(file.get<std::string>());
  }
  std::vector<std::string> missing;
  for (const std::string& shard : shards) {
    std::error_code ignored;
    if (!fs::exists(dir_ / shard, ignored)) missing.push_back(shard);
  }
  if (!missing.empty()) {
    fail(ExitCode::kCheckpoint, "model weights", dir_.string(),
         cat("the ", shards.size(), " shards that ", kIndexFile, " names"),
         cat("no ", some_of(missing), "; ", download_hint(dir_)));
  }

  open_files({shards.begin(), shards.end()});
  for (const auto& [tensor, file] : map->items()) {
    const auto found = tensors_.find(tensor);
    if (found == tensors_.end()) {
      fail(ExitCode::kCheckpoint, cat("tensor ", printable(tensor)), where,
           cat("it in ", file.get_ref<const std::string&>()), "no such tensor there");
    }
    const std::string actual = files_[found->second.file].path().filename().string();
    if (actual != file.get_ref<const std::string&>()) {
      fail(ExitCode::kCheckpoint, cat("tensor ", printable(tensor)), where,
           cat("it in ", file.get_ref<const std::string&>()), cat("it in ", actual));
    }
  }
  for (const auto& [name, location] : tensors_) {
    if (!map->contains(name)) {
      fail(ExitCode::kCheckpoint, cat("tensor ", printable(name)), files_[location.file].path().string(),
           cat("only tensors that ", kIndexFile, " names"), "one that it does not");
    }
  }
}

bool Checkpoint::has_tokenizer() const {
  std::error_code ignored;
  return fs::exists(dir_ / "tokenizer.json", ignored);
}

std::vector<std::string> Checkpoint::names() const {
  std::vector<std::string> out;
  for (const auto& [name, location] : tensors_) out.push_back(name);
  return out;
}

const TensorView* Checkpoint::find(std::string_view name) const {
  const auto found = tensors_.find(name);
  return found == tensors_.end() ? nullptr : found->second.view;
}

const Checkpoint::Location& Checkpoint::locate(std::string_view name) const {
  const auto found = tensors_.find(name);
  XLSTM_ASSERT(found != tensors_.end());
  return found->second;
}

const TensorView& Checkpoint::tensor(std::string_view name) const {
  return *locate(name).view;
}

const fs::path& Checkpoint::file_of(std::string_view name) const {
  return files_[locate(name).file].path();
}

void Checkpoint::drop_pages(std::string_view name) const {
  const Location& location = locate(name);
  files_[location.file].drop_pages(*location.view);
}

std::vector<fs::path> Checkpoint::files() const {
  std::vector<fs::path> out;
  for (const SafetensorsFile& file : files_) out.push_back(file.path());
  return out;
}

uint64_t Checkpoint::total_bytes() const {
  uint64_t total = 0;
  for (const auto& [name, location] : tensors_) total += location.view->bytes.size();
  return total;
}

std::string Checkpoint::fingerprint() const {
  // The values of config.json that the results depend on; sizes that follow from tensor shapes are among those.
  static constexpr std::array<const char*, 8> kConfigKeys = {
      "num_heads",           "norm_eps",    "eps", "gate_soft_cap", "output_logit_soft_cap", "use_bias",
      "tie_word_embeddings", "quantization"};
  constexpr size_t kSample = 4096;
  Checksum checksum;
  for (const char* key : kConfigKeys) {
    const auto value = config_->find(key);
    if (value == config_->end()) continue;
    checksum.add(std::string_view(key));
    add_value(checksum, *value);
  }
  for (const auto& [name, location] : tensors_) {
    const TensorView& view = *location.view;
    checksum.add(std::string_view(name));
    checksum.add(dtype_name(view.dtype));
    checksum.add(static_cast<uint64_t>(view.shape.size()));
    for (const int64_t size : view.shape) checksum.add(static_cast<uint64_t>(size));
    const std::span<const std::byte> bytes = view.bytes;
    if (bytes.size() <= 3 * kSample) {
      checksum.add(bytes);
    } else {
      checksum.add(bytes.first(kSample));
      checksum.add(bytes.subspan(bytes.size() / 2, kSample));
      checksum.add(bytes.last(kSample));
    }
  }
  return checksum.hex();
}

std::string download_hint(const fs::path& dir) {
  return cat("for a model of the Hugging Face hub, scripts/download_model.sh OWNER/NAME --to ",
             shell_word(dir.string()), " fetches what is missing");
}

}  // namespace xlstm
