// A checkpoint of any size that takes no room on the disk: all weights are zeros in holes of a file.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "xlstm/io/checkpoint.h"
#include "xlstm/io/dtype.h"

namespace xlstm::test {

// The bundled model's shapes with `vocab` rows in embedding and head; writes config.json and model.safetensors.
inline void write_sparse_checkpoint(const std::filesystem::path& bundled, const std::filesystem::path& dir,
                                    int64_t vocab) {
  const Checkpoint checkpoint(bundled);
  nlohmann::json config = checkpoint.config();
  const int64_t old_vocab = config.at("vocab_size");
  config["vocab_size"] = vocab;
  nlohmann::json header;
  int64_t end = 0;
  for (const std::string& name : checkpoint.names()) {
    const TensorView& tensor = checkpoint.tensor(name);
    std::vector<int64_t> shape = tensor.shape;
    if (shape.front() == old_vocab) shape.front() = vocab;
    int64_t bytes = static_cast<int64_t>(dtype_size(tensor.dtype));
    for (const int64_t size : shape) bytes *= size;
    header[name] = {{"dtype", dtype_name(tensor.dtype)}, {"shape", shape}, {"data_offsets", {end, end + bytes}}};
    end += bytes;
  }
  std::filesystem::create_directories(dir);
  std::ofstream(dir / "config.json") << config.dump();
  std::filesystem::copy_file(bundled / "tokenizer.json", dir / "tokenizer.json");
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  std::ofstream out(dir / "model.safetensors", std::ios::binary);
  const auto length = static_cast<uint64_t>(text.size());
  out.write(reinterpret_cast<const char*>(&length), sizeof length);
  out << text;
  out.close();
  std::filesystem::resize_file(dir / "model.safetensors", 8 + length + static_cast<uint64_t>(end));
}

}  // namespace xlstm::test
