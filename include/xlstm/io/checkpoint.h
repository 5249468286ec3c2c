// A checkpoint directory: config.json and the tensors of one or several safetensors files, by name.
//
// Weights are read from the first of these that exists:
//   model.safetensors                       one file;
//   model.safetensors.index.json            shards, as Hugging Face transformers writes them;
//   model_0.safetensors, model_1.…          shards, as NX-AI's xlstm package writes them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "xlstm/io/safetensors.h"

namespace xlstm {

// config.json of a checkpoint directory, always an object. Error kCheckpoint.
[[nodiscard]] nlohmann::json read_checkpoint_config(const std::filesystem::path& dir);

// The command that fetches the files which a checkpoint directory lacks, as part of a sentence.
[[nodiscard]] std::string download_hint(const std::filesystem::path& dir);

// Movable. The files stay mapped while the object lives; tensor data is read only when touched. Const members are
// thread-safe.
class Checkpoint {
 public:
  // Error kCheckpoint if `dir` is no such directory (for a name like "NX-AI/xLSTM-7b" the message says how to download
  // it), if a file is missing, damaged or of another format, or if index and shards disagree.
  explicit Checkpoint(std::filesystem::path dir);
  ~Checkpoint();
  Checkpoint(Checkpoint&&) noexcept;
  Checkpoint& operator=(Checkpoint&&) noexcept;
  Checkpoint(const Checkpoint&) = delete;
  Checkpoint& operator=(const Checkpoint&) = delete;

  [[nodiscard]] const std::filesystem::path& dir() const { return dir_; }
  [[nodiscard]] const nlohmann::json& config() const { return *config_; }  // config.json, always an object
  [[nodiscard]] std::filesystem::path config_path() const { return dir_ / "config.json"; }
  [[nodiscard]] bool has_tokenizer() const;  // tokenizer.json exists

  [[nodiscard]] std::vector<std::string> names() const;                             // sorted
  [[nodiscard]] const TensorView* find(std::string_view name) const;                // nullptr if absent
  [[nodiscard]] const TensorView& tensor(std::string_view name) const;              // must exist
  [[nodiscard]] const std::filesystem::path& file_of(std::string_view name) const;  // of a tensor that exists
  void drop_pages(std::string_view name) const;  // the tensor's pages stop counting as resident memory

  [[nodiscard]] std::vector<std::filesystem::path> files() const;  // the safetensors files, in order
  [[nodiscard]] uint64_t total_bytes() const;                      // of all tensors

  // 16 hexadecimal digits over the configuration values that the results depend on and every tensor's name, dtype,
  // shape and a sample of its data (4 KiB each from its start, middle and end). Equal for equal checkpoints,
  // wherever they lie and however they are sharded.
  [[nodiscard]] std::string fingerprint() const;

 private:
  struct Location {
    size_t file = 0;
    const TensorView* view = nullptr;
  };

  void open_files(const std::vector<std::string>& names);
  void open_index(const std::filesystem::path& index_path);
  [[nodiscard]] const Location& locate(std::string_view name) const;

  std::filesystem::path dir_;
  std::unique_ptr<nlohmann::json> config_;
  std::vector<SafetensorsFile> files_;
  std::map<std::string, Location, std::less<>> tensors_;
};

}  // namespace xlstm
