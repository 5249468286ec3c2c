// The state of a generation on disk, so that another process can continue it.
//
// The file is a safetensors file. Tensors, all little-endian and row-major:
//   layer.I.c   F32 [NH, Dk, Dv]   matrix memory C of layer I (0 …), in canonical order
//   layer.I.n   F32 [NH, Dk]       normaliser
//   layer.I.m   F32 [NH]           stabiliser (C and n are stored relative to it)
//   ids         I64 [count]        every id seen so far, a pending one included
//   logits      F32 [V]            of the last row; absent if an id is pending
// Metadata, all strings:
//   format            "xlstm_generate.state"
//   format_version    "1"
//   model             the checkpoint's fingerprint
//   dtype, state_dtype   types of the weights and of C and n in the run that wrote it, for information
//   layers, num_heads, head_dim_qk, head_dim_v, vocab_size
//   ids_count, ids_hash   FNV-1a (64 bit, hexadecimal) over the ids as little-endian int64
//   pending           "1" if the last id has not been fed to the model yet, else "0"
//   seed, position    of the sampler
//   checksum          64 bit, hexadecimal, over all other metadata and all tensors (see src/io/hash.h)
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace xlstm {

struct StateDims {
  int64_t num_layers = 0;
  int64_t num_heads = 0;
  int64_t head_dim_qk = 0;
  int64_t head_dim_v = 0;
  int64_t vocab_size = 0;

  bool operator==(const StateDims&) const = default;
};

struct SavedState {
  struct Layer {
    std::vector<float> c;  // [NH, Dk, Dv]
    std::vector<float> n;  // [NH, Dk]
    std::vector<float> m;  // [NH]
  };

  StateDims dims;
  std::vector<Layer> layers;
  std::vector<int64_t> ids;           // every id seen, the pending one included
  std::optional<int64_t> pending_id;  // the last of ids, if it has not been fed yet
  std::vector<float> logits;          // [V] of the last row; empty if unknown, as it is while an id is pending
  uint64_t seed = 0;                  // of the sampler
  uint64_t position = 0;
  std::string model_fingerprint;
  std::string dtype;        // of the weights
  std::string state_dtype;  // of C and n in the run that wrote it; the file holds float32
};

// Error kOutput if the file cannot be written, or if a value is NaN or infinite: such a state cannot be continued.
void save_state(const std::filesystem::path& path, const SavedState& state);

// Error kCheckpoint, each case with its own message: no state file, damaged or changed in any byte, written by a newer
// version, of another model (fingerprint), of other dimensions, values that are not finite, ids outside the vocabulary.
[[nodiscard]] SavedState load_state(const std::filesystem::path& path, const std::string& expected_fingerprint,
                                    const StateDims& expected_dims);

}  // namespace xlstm
