#include "xlstm/io/state_file.h"

#include <charconv>
#include <cstring>
#include <map>

#include "src/io/hash.h"
#include "xlstm/core/errors.h"
#include "xlstm/core/str.h"
#include "xlstm/io/half.h"
#include "xlstm/io/safetensors.h"

namespace xlstm {
namespace {

constexpr const char* kFormat = "xlstm_generate.state";
constexpr uint64_t kVersion = 1;

using Metadata = std::map<std::string, std::string>;

// One tensor of the file and where its values are in memory.
template <class State>
struct Slot {
  std::string name;
  std::vector<int64_t> shape;
  State* values;
};

// The float tensors of a state in the order of the file; State is SavedState or const SavedState.
template <class State>
auto float_slots(State& state) {
  using Values = std::remove_reference_t<decltype((state.logits))>;
  const StateDims& d = state.dims;
  std::vector<Slot<Values>> slots;
  for (size_t i = 0; i < state.layers.size(); ++i) {
    auto& layer = state.layers[i];
    slots.push_back({cat("layer.", i, ".c"), {d.num_heads, d.head_dim_qk, d.head_dim_v}, &layer.c});
    slots.push_back({cat("layer.", i, ".n"), {d.num_heads, d.head_dim_qk}, &layer.n});
    slots.push_back({cat("layer.", i, ".m"), {d.num_heads}, &layer.m});
  }
  if (!state.logits.empty()) slots.push_back({"logits", {d.vocab_size}, &state.logits});
  return slots;
}

std::string ids_hash(const std::vector<int64_t>& ids) {
  uint64_t hash = 0xcbf29ce484222325U;
  for (const int64_t id : ids) {
    for (int shift = 0; shift < 64; shift += 8) {
      hash = (hash ^ ((static_cast<uint64_t>(id) >> shift) & 0xffU)) * 0x100000001b3U;
    }
  }
  std::string out(16, '0');
  for (size_t i = 0; i < 16; ++i) out[i] = "0123456789abcdef"[(hash >> (60 - 4 * i)) & 15U];
  return out;
}

std::string file_checksum(const Metadata& metadata, const std::map<std::string, TensorView>& tensors) {
  Checksum checksum;
  for (const auto& [key, value] : metadata) {
    if (key == "checksum") continue;
    checksum.add(std::string_view(key));
    checksum.add(std::string_view(value));
  }
  for (const auto& [name, view] : tensors) {
    checksum.add(std::string_view(name));
    checksum.add(dtype_name(view.dtype));
    for (const int64_t size : view.shape) checksum.add(static_cast<uint64_t>(size));
    checksum.add(view.bytes);
  }
  return checksum.hex();
}

std::map<std::string, TensorView> tensors_of(const SavedState& state) {
  std::map<std::string, TensorView> tensors;
  for (const auto& slot : float_slots(state)) {
    XLSTM_ASSERT(element_count(slot.shape) == static_cast<int64_t>(slot.values->size()));
    tensors[slot.name] = {slot.name, DType::F32, slot.shape, std::as_bytes(std::span(*slot.values))};
  }
  tensors["ids"] = {"ids", DType::I64, {static_cast<int64_t>(state.ids.size())}, std::as_bytes(std::span(state.ids))};
  return tensors;
}

// Reads and checks one file; the members follow the order of the checks.
class StateReader {
 public:
  explicit StateReader(const std::filesystem::path& path) : file_(path), where_(path.string()) {}

  SavedState read(const std::string& fingerprint, const StateDims& dims) const {
    check_format();
    check_checksum();
    check_model(fingerprint, dims);
    SavedState state;
    state.dims = dims;
    state.model_fingerprint = fingerprint;
    state.dtype = text("dtype");
    state.state_dtype = text("state_dtype");
    state.seed = number("seed");
    state.position = number("position");
    read_ids(state);
    state.layers.resize(static_cast<size_t>(dims.num_layers));
    if (file_.find("logits") != nullptr) state.logits.resize(static_cast<size_t>(dims.vocab_size));
    if (state.pending_id && !state.logits.empty()) refuse("tensor logits", "none while an id is pending", "one");
    const auto slots = float_slots(state);
    for (const auto& slot : slots) read_floats(slot);
    if (file_.tensors().size() != slots.size() + 1) {
      refuse("tensors", cat(slots.size() + 1, " of them"), cat(file_.tensors().size()));
    }
    return state;
  }

 private:
  [[noreturn]] void refuse(std::string_view what, std::string_view expected, std::string_view got) const {
    fail(ExitCode::kCheckpoint, cat("state file ", what), where_, expected, got);
  }

  std::string text(const char* key) const {
    const auto found = file_.metadata().find(key);
    if (found == file_.metadata().end()) refuse(cat("entry ", key), "a value", "none");
    return found->second;
  }

  uint64_t number(const char* key) const {
    const std::string value = text(key);
    uint64_t out = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), out);
    if (error != std::errc() || end != value.data() + value.size()) {
      refuse(cat("entry ", key), "a non-negative integer", cat("\"", printable(value), "\""));
    }
    return out;
  }

  const TensorView& tensor(const std::string& name, DType dtype, const std::vector<int64_t>& shape) const {
    const TensorView* view = file_.find(name);
    const std::string expected = cat(dtype_name(dtype), " ", shape_text(shape));
    if (view == nullptr) refuse(cat("tensor ", name), expected, "none");
    if (view->dtype != dtype || view->shape != shape) {
      refuse(cat("tensor ", name), expected, cat(dtype_name(view->dtype), " ", shape_text(view->shape)));
    }
    return *view;
  }

  void check_format() const {
    const auto found = file_.metadata().find("format");
    if (found == file_.metadata().end() || found->second != kFormat) {
      refuse("format", cat("a file written with --state-save (format \"", kFormat, "\")"),
             found == file_.metadata().end() ? "none" : cat("\"", printable(found->second), "\""));
    }
    const uint64_t version = number("format_version");
    if (version > kVersion) refuse("version", cat("at most ", kVersion), cat(version, ", written by a newer program"));
    if (version == 0) refuse("version", "1", "0");
  }

  void check_checksum() const {
    std::map<std::string, TensorView> tensors;
    for (const TensorView& view : file_.tensors()) tensors[view.name] = view;
    const std::string actual = file_checksum(file_.metadata(), tensors);
    if (text("checksum") != actual) {
      refuse("checksum", cat("\"", printable(text("checksum")), "\""), cat("\"", actual, "\"; the file is damaged"));
    }
  }

  void check_model(const std::string& fingerprint, const StateDims& dims) const {
    if (text("model") != fingerprint) {
      refuse("model", cat("the checkpoint with fingerprint ", fingerprint),
             cat("a state of another one, ", printable(text("model"))));
    }
    const std::pair<const char*, int64_t> sizes[] = {{"layers", dims.num_layers},
                                                     {"num_heads", dims.num_heads},
                                                     {"head_dim_qk", dims.head_dim_qk},
                                                     {"head_dim_v", dims.head_dim_v},
                                                     {"vocab_size", dims.vocab_size}};
    for (const auto& [key, size] : sizes) {
      if (number(key) != static_cast<uint64_t>(size)) refuse(key, cat(size), cat(number(key)));
    }
  }

  void read_ids(SavedState& state) const {
    const uint64_t count = number("ids_count");
    const TensorView* view = file_.find("ids");
    if (view == nullptr || view->dtype != DType::I64 || view->shape != std::vector{static_cast<int64_t>(count)}) {
      refuse("tensor ids", cat("I64 [", count, "]"), view == nullptr ? "none" : "another dtype or shape");
    }
    state.ids.resize(view->bytes.size() / sizeof(int64_t));
    if (!state.ids.empty()) std::memcpy(state.ids.data(), view->bytes.data(), view->bytes.size());
    if (text("ids_hash") != ids_hash(state.ids)) refuse("ids_hash", ids_hash(state.ids), printable(text("ids_hash")));
    for (const int64_t id : state.ids) {
      if (id < 0 || id >= state.dims.vocab_size) refuse("ids", cat("ids below ", state.dims.vocab_size), cat(id));
    }
    if (state.position != state.ids.size()) refuse("position", cat(state.ids.size()), cat(state.position));
    const std::string pending = text("pending");
    if (pending != "0" && (pending != "1" || state.ids.empty())) {
      refuse("entry pending", "0, or 1 with an id", cat("\"", printable(pending), "\""));
    }
    if (pending == "1") state.pending_id = state.ids.back();
  }

  void read_floats(const Slot<std::vector<float>>& slot) const {
    const TensorView& view = tensor(slot.name, DType::F32, slot.shape);
    if (const auto bad = first_non_finite(view)) {
      refuse(cat("tensor ", slot.name), "finite values", cat("NaN or infinity at index ", *bad));
    }
    slot.values->resize(view.bytes.size() / sizeof(float));
    to_float32(DType::F32, view.bytes, *slot.values);
  }

  SafetensorsFile file_;
  std::string where_;
};

}  // namespace

void save_state(const std::filesystem::path& path, const SavedState& state) {
  XLSTM_ASSERT(static_cast<int64_t>(state.layers.size()) == state.dims.num_layers);
  XLSTM_ASSERT(!state.pending_id || (!state.ids.empty() && state.ids.back() == *state.pending_id));
  XLSTM_ASSERT(!state.pending_id || state.logits.empty());
  const std::map<std::string, TensorView> tensors = tensors_of(state);
  for (const auto& [name, view] : tensors) {
    if (const auto bad = first_non_finite(view)) {
      fail(ExitCode::kOutput, cat("state tensor ", name), path.string(), "finite values",
           cat("NaN or infinity at index ", *bad, "; not saved"));
    }
  }
  Metadata metadata = {{"format", kFormat},
                       {"format_version", cat(kVersion)},
                       {"model", state.model_fingerprint},
                       {"dtype", state.dtype},
                       {"state_dtype", state.state_dtype},
                       {"layers", cat(state.dims.num_layers)},
                       {"num_heads", cat(state.dims.num_heads)},
                       {"head_dim_qk", cat(state.dims.head_dim_qk)},
                       {"head_dim_v", cat(state.dims.head_dim_v)},
                       {"vocab_size", cat(state.dims.vocab_size)},
                       {"ids_count", cat(state.ids.size())},
                       {"ids_hash", ids_hash(state.ids)},
                       {"pending", state.pending_id ? "1" : "0"},
                       {"seed", cat(state.seed)},
                       {"position", cat(state.position)}};
  metadata["checksum"] = file_checksum(metadata, tensors);

  SafetensorsWriter writer;
  for (const auto& [key, value] : metadata) writer.set_metadata(key, value);
  for (const auto& [name, view] : tensors) writer.add(name, view.dtype, view.shape, view.bytes);
  writer.write(path);
}

SavedState load_state(const std::filesystem::path& path, const std::string& expected_fingerprint,
                      const StateDims& expected_dims) {
  return StateReader(path).read(expected_fingerprint, expected_dims);
}

}  // namespace xlstm
