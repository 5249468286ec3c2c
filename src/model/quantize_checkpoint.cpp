#include "xlstm/model/quantize_checkpoint.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

#include "src/model/row_blocks.h"
#include "xlstm/core/atomic_directory.h"
#include "xlstm/core/errors.h"
#include "xlstm/core/files.h"
#include "xlstm/core/progress.h"
#include "xlstm/core/stop.h"
#include "xlstm/core/str.h"
#include "xlstm/io/checkpoint.h"
#include "xlstm/io/half.h"
#include "xlstm/io/safetensors.h"
#include "xlstm/model/checkpoint_layout.h"
#include "xlstm/model/quantize.h"

namespace xlstm {
namespace {

namespace fs = std::filesystem;

constexpr const char* kHeadName = "lm_head.weight";

fs::path absolute_directory(const fs::path& path) {
  fs::path absolute = fs::absolute(path).lexically_normal();
  if (!absolute.has_filename()) absolute = absolute.parent_path();
  std::error_code error;
  const fs::path resolved = fs::weakly_canonical(absolute, error);
  return error ? absolute : resolved;
}

// The destination as an absolute path, after looking at everything that can be wrong with it before the work.
fs::path checked_destination(const fs::path& destination, const fs::path& source) {
  const fs::path target = absolute_directory(destination);
  const fs::path from = absolute_directory(source);
  const auto [end, rest] = std::mismatch(from.begin(), from.end(), target.begin(), target.end());
  if (end == from.end()) {
    fail(ExitCode::kUsage, "output directory", destination.string(), "one outside the checkpoint", source.string());
  }
  std::error_code error;
  if (fs::is_symlink(fs::symlink_status(target, error))) {  // one that leads somewhere has been resolved
    fail(ExitCode::kOutput, "output directory", destination.string(), "a new or an empty directory",
         "a symbolic link that leads nowhere");
  }
  if (!fs::exists(target, error)) {
    if (!fs::is_directory(target.parent_path(), error)) {
      fail(ExitCode::kOutput, "output directory", destination.string(), "a place in an existing directory",
           cat("no directory ", target.parent_path().string()));
    }
    return target;
  }
  if (!fs::is_directory(target, error) || !fs::is_empty(target, error) || error) {
    fail(ExitCode::kOutput, "output directory", destination.string(), "a new or an empty directory",
         fs::is_directory(target, error) ? "one with files in it" : "a file");
  }
  return target;
}

// A tensor of the source and what becomes of it.
struct Piece {
  const TensorView* source = nullptr;
  std::string name;                    // of the tensor written
  std::optional<MatrixFormat> format;  // absent: copied as it is
  QuantScheme scheme = QuantScheme::kSymmetric;

  [[nodiscard]] int64_t rows() const { return source->shape.at(0); }
  [[nodiscard]] int64_t columns() const { return source->shape.at(1); }

  [[nodiscard]] std::vector<TensorHeader> headers() const {
    if (!format) return {{name, source->dtype, source->shape}};
    const bool int4 = format->format == WeightFormat::kInt4;
    const int64_t groups = groups_per_row(*format, columns());
    std::vector<TensorHeader> out = {
        {name, int4 ? DType::U8 : DType::I8, {rows(), row_bytes(format->format, columns())}},
        {scale_name(name), DType::F16, {rows(), groups}}};
    if (int4) out.push_back({zero_name(name), DType::U8, {rows(), groups}});
    return out;
  }

  [[nodiscard]] uint64_t bytes() const {
    uint64_t total = 0;
    for (const TensorHeader& header : headers()) {
      total += static_cast<uint64_t>(element_count(header.shape)) * dtype_size(header.dtype);
    }
    return total;
  }
};

// Buffers for a block of quantized rows.
struct Block {
  std::vector<uint8_t> codes;
  std::vector<uint16_t> scale;
  std::vector<uint8_t> zero;

  QuantizedRows rows(const MatrixFormat& format, int64_t count, int64_t columns) {
    const int64_t groups = groups_per_row(format, columns);
    codes.resize(static_cast<size_t>(count * row_bytes(format.format, columns)));
    scale.resize(static_cast<size_t>(count * groups));
    zero.resize(format.format == WeightFormat::kInt4 ? scale.size() : 0);
    return {format, count, columns, codes.data(), scale.data(), zero.data()};
  }
};

class CheckpointQuantizer {
 public:
  CheckpointQuantizer(const QuantizeRequest& request, ThreadPool& pool)
      : request_(request), pool_(pool), source_(request.source), layout_(resolve_layout(source_)) {
    require_complete(layout_, request.source.string());
    if (layout_.config.quantization) {
      fail(ExitCode::kCheckpoint, "checkpoint", request.source.string(), "one of floats",
           cat("one that is quantized already (", layout_.config.quantization->text(), ")"));
    }
    target_ = checked_destination(request.destination, request.source);
    plan();
    require_space();
  }

  QuantizeReport run() {
    AtomicDirectory out(target_);
    Progress progress(RunPhase::kOther, "quantizing", work_bytes_ * (request_.verify ? 2 : 1), request_.progress);
    progress_ = &progress;
    write_small_files(out);
    for (size_t i = 0; i < shards_.size(); ++i) write_shard(out.file(shard_name(i)), shards_[i]);
    if (request_.verify) verify(out.path());
    throw_if_stopped();
    out.commit();
    report_.relative_error = sums_.norm > 0 ? std::sqrt(sums_.error / sums_.norm) : 0;
    return report_;
  }

 private:
  void add(Piece piece) {
    const uint64_t bytes = piece.bytes();
    work_bytes_ += static_cast<int64_t>(piece.source->bytes.size());
    report_.bytes += bytes;
    if (shards_.empty() || (shard_bytes_ > 0 && shard_bytes_ + bytes > request_.shard_bytes)) {
      shards_.emplace_back();
      shard_bytes_ = 0;
    }
    shard_bytes_ += bytes;
    shards_.back().push_back(std::move(piece));
  }

  void plan() {
    const Quantization& quantization = request_.quantization;
    for (const NamedParameter& named : list_parameters(layout_)) {
      for (const std::string& name : named.parameter->sources) {
        Piece piece{&source_.tensor(name), name, {}, {}};
        if (named.role == ParameterRole::kMatrix) {
          piece.format = quantization.matrices();
          piece.scheme = quantization.scheme;
        } else if (named.role == ParameterRole::kHead) {
          piece.format = quantization.head();
          piece.scheme = quantization.head_scheme();
        }
        add(std::move(piece));
      }
    }
    if (layout_.head_is_embedding) {
      const TensorView& table = source_.tensor(layout_.embedding.sources.front());
      add({&table, kHeadName, quantization.head(), quantization.head_scheme()});
    }
    report_.source_bytes = source_.total_bytes();
    report_.files = shards_.size();
  }

  void require_space() const {
    std::error_code error;
    const fs::space_info space = fs::space(target_.parent_path(), error);
    if (!error && space.available < report_.bytes) {
      fail(ExitCode::kOutput, "output directory", request_.destination.string(),
           cat(bytes_text(report_.bytes), " of free space"), bytes_text(space.available));
    }
  }

  [[nodiscard]] std::string shard_name(size_t index) const {
    if (shards_.size() == 1) return "model.safetensors";
    const auto five_digits = [](size_t number) {
      const std::string text = std::to_string(number);
      return std::string(text.size() < 5 ? 5 - text.size() : 0, '0') + text;
    };
    return cat("model-", five_digits(index + 1), "-of-", five_digits(shards_.size()), ".safetensors");
  }

  static void write_text(const fs::path& path, const std::string& text) {
    AtomicFile file(path);
    file.write(text);
    file.commit();
  }

  void write_small_files(AtomicDirectory& out) const {
    for (const char* name :
         {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "generation_config.json"}) {
      std::error_code ignored;
      const fs::path from = request_.source / name;
      if (fs::exists(from, ignored)) write_text(out.file(name), read_regular_file(from, ExitCode::kCheckpoint));
    }
    nlohmann::json config = source_.config();
    config["quantization"] = to_json(request_.quantization);
    write_text(out.file("config.json"), config.dump(2) + "\n");
    if (shards_.size() == 1) return;
    nlohmann::json index = {{"metadata", {{"total_size", report_.bytes}}}, {"weight_map", nlohmann::json::object()}};
    for (size_t i = 0; i < shards_.size(); ++i) {
      for (const Piece& piece : shards_[i]) {
        for (const TensorHeader& header : piece.headers()) index["weight_map"][header.name] = shard_name(i);
      }
    }
    write_text(out.file("model.safetensors.index.json"), index.dump(2) + "\n");
  }

  template <class Visit>
  void for_each_block(const Piece& piece, const Visit& visit) {
    for_each_row_block(*piece.source, *progress_, visit);
    source_.drop_pages(piece.source->name);
  }

  void write_shard(const fs::path& path, const std::vector<Piece>& pieces) {
    std::vector<TensorHeader> headers;
    for (const Piece& piece : pieces) {
      for (TensorHeader& header : piece.headers()) headers.push_back(std::move(header));
    }
    SafetensorsStream file(path, headers);
    for (const Piece& piece : pieces) piece.format ? write_codes(file, piece) : write_copy(file, piece);
    file.commit();
  }

  void write_copy(SafetensorsStream& file, const Piece& piece) {
    uint64_t offset = 0;
    for_each_block(piece, [&](int64_t, int64_t, std::span<const std::byte> bytes) {
      if (const auto bad = first_non_finite(piece.source->dtype, bytes)) {
        const uint64_t before = offset / dtype_size(piece.source->dtype);
        fail(ExitCode::kCheckpoint, cat("tensor ", piece.source->name), request_.source.string(), "finite numbers",
             cat("NaN or infinity at element ", before + static_cast<uint64_t>(*bad)));
      }
      file.write(piece.name, offset, bytes);
      offset += bytes.size();
    });
  }

  void write_codes(SafetensorsStream& file, const Piece& piece) {
    Block block;
    uint64_t codes = 0;
    uint64_t scales = 0;
    uint64_t zeros = 0;
    const auto append = [&](const std::string& name, uint64_t& offset, const auto& values) {
      file.write(name, offset, std::as_bytes(std::span(values)));
      offset += std::as_bytes(std::span(values)).size();
    };
    for_each_block(piece, [&](int64_t first, int64_t rows, std::span<const std::byte> bytes) {
      const FloatRows floats{piece.source->dtype, rows, piece.columns(), bytes.data()};
      const QuantizedError sums =
          quantize_rows(floats, block.rows(*piece.format, rows, piece.columns()), piece.scheme, pool_,
                        {cat("tensor ", piece.source->name), request_.source.string(), first});
      sums_.error += sums.error;
      sums_.norm += sums.norm;
      append(piece.name, codes, block.codes);
      append(scale_name(piece.name), scales, block.scale);
      if (!block.zero.empty()) append(zero_name(piece.name), zeros, block.zero);
    });
  }

  // ---- verification ----

  void verify(const fs::path& directory) {
    const Checkpoint written(directory);
    require_complete(resolve_layout(written), directory.string());
    for (const std::vector<Piece>& shard : shards_) {
      for (const Piece& piece : shard) {
        if (!(piece.format ? same_codes(piece, written) : same_bytes(piece, written))) {
          fail(ExitCode::kMismatch, cat("tensor ", piece.name), request_.destination.string(),
               "the values that were written", "others when read back");
        }
        written.drop_pages(piece.name);
      }
    }
  }

  bool same_bytes(const Piece& piece, const Checkpoint& written) {
    const std::byte* copy = written.tensor(piece.name).bytes.data();
    bool same = true;
    for_each_block(piece, [&](int64_t, int64_t, std::span<const std::byte> bytes) {
      same = same && std::memcmp(copy, bytes.data(), bytes.size()) == 0;
      copy += bytes.size();
    });
    return same;
  }

  bool same_codes(const Piece& piece, const Checkpoint& written) {
    Block block;
    bool same = true;
    const auto load = [&](const std::string& name, int64_t first, auto& values) {
      const size_t size = values.size() * sizeof(values[0]);
      const std::span<const std::byte> bytes = written.tensor(name).bytes;
      const size_t row = bytes.size() / static_cast<size_t>(piece.rows());
      std::memcpy(values.data(), bytes.data() + static_cast<size_t>(first) * row, size);
    };
    for_each_block(piece, [&](int64_t first, int64_t count, std::span<const std::byte> bytes) {
      const QuantizedRows rows = block.rows(*piece.format, count, piece.columns());
      load(piece.name, first, block.codes);
      load(scale_name(piece.name), first, block.scale);
      if (!block.zero.empty()) load(zero_name(piece.name), first, block.zero);
      const ConstQuantizedRows read{rows.format, rows.rows, rows.columns, rows.codes, rows.scale, rows.zero};
      same = same && damaged_scales(read) == nullptr &&
             has_nearest_codes({piece.source->dtype, count, piece.columns(), bytes.data()}, read, pool_);
    });
    return same;
  }

  const QuantizeRequest& request_;
  ThreadPool& pool_;
  Checkpoint source_;
  CheckpointLayout layout_;
  fs::path target_;
  std::vector<std::vector<Piece>> shards_;
  uint64_t shard_bytes_ = 0;  // of the last one
  int64_t work_bytes_ = 0;    // of the sources of all pieces: a tied table has two
  QuantizeReport report_;
  QuantizedError sums_;
  Progress* progress_ = nullptr;
};

}  // namespace

QuantizeReport quantize_checkpoint(const QuantizeRequest& request, ThreadPool& pool) {
  return CheckpointQuantizer(request, pool).run();
}

}  // namespace xlstm
