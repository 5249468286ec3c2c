// A small checkpoint in memory, to be changed by a test and written out as a checkpoint directory.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/io/io_test_support.h"
#include "xlstm/io/checkpoint.h"
#include "xlstm/io/safetensors.h"

namespace xlstm::test {

struct EditableCheckpoint {
  struct Tensor {
    DType dtype = DType::F32;
    std::vector<int64_t> shape;
    std::vector<std::byte> bytes;
  };

  nlohmann::json config;
  std::map<std::string, Tensor> tensors;

  explicit EditableCheckpoint(const fs::path& source) {
    const Checkpoint checkpoint(source);
    config = checkpoint.config();
    for (const std::string& name : checkpoint.names()) {
      const TensorView& view = checkpoint.tensor(name);
      tensors[name] = {view.dtype, view.shape, {view.bytes.begin(), view.bytes.end()}};
    }
  }

  void rename(const std::string& from, const std::string& to) {
    auto node = tensors.extract(from);
    ASSERT_FALSE(node.empty()) << from;
    node.key() = to;
    tensors.insert(std::move(node));
  }

  // Replaces `from` by `to` in every name.
  void rename_all(const std::string& from, const std::string& to) {
    std::map<std::string, Tensor> renamed;
    for (auto& [name, tensor] : tensors) {
      std::string changed = name;
      if (const size_t at = changed.find(from); at != std::string::npos) changed.replace(at, from.size(), to);
      renamed[changed] = std::move(tensor);
    }
    tensors = std::move(renamed);
  }

  // Puts zeros of this shape in place of a tensor, or adds one.
  void zeros(const std::string& name, std::vector<int64_t> shape, DType dtype = DType::F32) {
    const auto bytes = static_cast<size_t>(element_count(shape)) * dtype_size(dtype);
    tensors[name] = {dtype, std::move(shape), std::vector<std::byte>(bytes)};
  }

  void write(const fs::path& dir) const {
    fs::create_directories(dir);
    write_bytes(dir / "config.json", config.dump());
    SafetensorsWriter writer;
    for (const auto& [name, tensor] : tensors) writer.add(name, tensor.dtype, tensor.shape, tensor.bytes);
    writer.write(dir / "model.safetensors");
  }
};

}  // namespace xlstm::test
