#include "xlstm/io/state_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <map>

#include "src/io/hash.h"
#include "tests/io/io_test_support.h"
#include "xlstm/core/str.h"
#include "xlstm/io/safetensors.h"

namespace xlstm {
namespace {

namespace fs = std::filesystem;
using test::error_text;
using test::TempDir;
using testing::AllOf;
using testing::HasSubstr;

const StateDims kDims = {2, 3, 4, 5, 11};
const std::string kModel = "0123456789abcdef";

SavedState example(bool pending) {
  SavedState state;
  state.dims = kDims;
  for (int layer = 0; layer < 2; ++layer) {
    SavedState::Layer arrays;
    for (int i = 0; i < 60; ++i) arrays.c.push_back(0.25F * static_cast<float>(i) - static_cast<float>(layer));
    for (int i = 0; i < 12; ++i) arrays.n.push_back(std::sqrt(static_cast<float>(i)));
    arrays.m = {-1.5F, 0.0F, 7.25F};
    state.layers.push_back(arrays);
  }
  state.ids = {0, 5, 10, 3};
  if (pending) {
    state.pending_id = 3;
  } else {
    for (int i = 0; i < 11; ++i) state.logits.push_back(static_cast<float>(i) * 0.5F);
  }
  state.seed = std::numeric_limits<uint64_t>::max();
  state.position = 4;
  state.model_fingerprint = kModel;
  state.dtype = "bfloat16";
  state.state_dtype = "float32";
  return state;
}

void expect_equal(const SavedState& a, const SavedState& b) {
  EXPECT_EQ(a.dims, b.dims);
  ASSERT_EQ(a.layers.size(), b.layers.size());
  for (size_t i = 0; i < a.layers.size(); ++i) {
    EXPECT_EQ(a.layers[i].c, b.layers[i].c);
    EXPECT_EQ(a.layers[i].n, b.layers[i].n);
    EXPECT_EQ(a.layers[i].m, b.layers[i].m);
  }
  EXPECT_EQ(a.ids, b.ids);
  EXPECT_EQ(a.pending_id, b.pending_id);
  EXPECT_EQ(a.logits, b.logits);
  EXPECT_EQ(a.seed, b.seed);
  EXPECT_EQ(a.position, b.position);
  EXPECT_EQ(a.model_fingerprint, b.model_fingerprint);
  EXPECT_EQ(a.dtype, b.dtype);
}

std::string load_error(const fs::path& path, const std::string& model = kModel, const StateDims& dims = kDims) {
  return error_text(ExitCode::kCheckpoint, [&] { static_cast<void>(load_state(path, model, dims)); });
}

TEST(StateFile, ReadsBackWhatWasWritten) {
  TempDir dir;
  for (const bool pending : {true, false}) {
    SCOPED_TRACE(pending);
    save_state(dir / "s.state", example(pending));
    expect_equal(load_state(dir / "s.state", kModel, kDims), example(pending));
  }
}

TEST(StateFile, LogitsMayBeUnknownAndIdsEmpty) {
  TempDir dir;
  SavedState state = example(false);
  state.logits.clear();
  state.ids.clear();
  state.position = 0;
  save_state(dir / "s.state", state);
  expect_equal(load_state(dir / "s.state", kModel, kDims), state);
}

TEST(StateFile, AChangeOfAnyByteIsRefused) {
  TempDir dir;
  save_state(dir / "good", example(false));
  const std::string good = test::read_bytes(dir / "good");
  ASSERT_GT(good.size(), 1000U);
  for (size_t at = 0; at < good.size(); ++at) {
    for (const int change : {0x01, 0x80, 0x29}) {
      std::string bytes = good;
      bytes[at] = static_cast<char>(bytes[at] ^ change);
      test::write_bytes(dir / "bad", bytes);
      try {
        static_cast<void>(load_state(dir / "bad", kModel, kDims));
        ADD_FAILURE() << "byte " << at << " changed by " << change << " went unnoticed";
      } catch (const Error& error) {
        ASSERT_EQ(error.code(), ExitCode::kCheckpoint) << error.what();
      }
    }
  }
}

TEST(StateFile, TruncatedAndExtendedFilesAreRefused) {
  TempDir dir;
  save_state(dir / "good", example(true));
  const std::string good = test::read_bytes(dir / "good");
  for (const size_t size : {size_t{0}, size_t{7}, size_t{8}, size_t{100}, good.size() / 2, good.size() - 1}) {
    SCOPED_TRACE(size);
    test::write_bytes(dir / "cut", good.substr(0, size));
    EXPECT_THAT(load_error(dir / "cut"), HasSubstr("cut"));
  }
  test::write_bytes(dir / "long", good + "x");
  EXPECT_THAT(load_error(dir / "long"), HasSubstr("behind the last tensor"));
  EXPECT_THAT(load_error(dir / "none"), HasSubstr("none"));
}

TEST(StateFile, AStateOfAnotherModelIsRefused) {
  TempDir dir;
  save_state(dir / "s.state", example(true));
  EXPECT_THAT(load_error(dir / "s.state", "ffffffffffffffff"),
              AllOf(HasSubstr("state file model"), HasSubstr("ffffffffffffffff"), HasSubstr(kModel)));
  const std::vector<std::pair<StateDims, std::string>> others = {{{3, 3, 4, 5, 11}, "layers"},
                                                                 {{2, 2, 4, 5, 11}, "num_heads"},
                                                                 {{2, 3, 8, 5, 11}, "head_dim_qk"},
                                                                 {{2, 3, 4, 6, 11}, "head_dim_v"},
                                                                 {{2, 3, 4, 5, 12}, "vocab_size"}};
  for (const auto& [dims, name] : others) {
    SCOPED_TRACE(name);
    EXPECT_THAT(load_error(dir / "s.state", kModel, dims), HasSubstr(cat("state file ", name)));
  }
}

TEST(StateFile, AnOrdinarySafetensorsFileIsNoStateFile) {
  EXPECT_THAT(load_error(test::zoo_dir("single_f32") / "model.safetensors"),
              AllOf(HasSubstr("state file format"), HasSubstr("--state-save")));
}

// Rewrites a good file with changed metadata, checksum untouched.
void rewrite(const fs::path& from, const fs::path& to, const std::string& key, const std::string& value) {
  const SafetensorsFile file(from);
  SafetensorsWriter writer;
  for (const TensorView& view : file.tensors()) writer.add(view.name, view.dtype, view.shape, view.bytes);
  for (const auto& [k, v] : file.metadata()) writer.set_metadata(k, v);
  writer.set_metadata(key, value);
  writer.write(to);
}

TEST(StateFile, ANewerVersionIsNamedAsSuch) {
  TempDir dir;
  save_state(dir / "good", example(true));
  rewrite(dir / "good", dir / "new", "format_version", "2");
  EXPECT_THAT(load_error(dir / "new"), AllOf(HasSubstr("at most 1"), HasSubstr("newer program")));
  rewrite(dir / "good", dir / "odd", "format_version", "one");
  EXPECT_THAT(load_error(dir / "odd"), HasSubstr("\"one\""));
  rewrite(dir / "good", dir / "other", "format", "something");
  EXPECT_THAT(load_error(dir / "other"), HasSubstr("\"something\""));
}

TEST(StateFile, ChangedMetadataFailsTheChecksum) {
  TempDir dir;
  save_state(dir / "good", example(true));
  for (const char* key : {"seed", "position", "pending", "dtype", "ids_hash", "model", "layers", "checksum", "extra"}) {
    SCOPED_TRACE(key);
    rewrite(dir / "good", dir / "bad", key, "77");
    EXPECT_THAT(load_error(dir / "bad"), AllOf(HasSubstr("state file checksum"), HasSubstr("damaged")));
  }
}

// What a hostile program could write: any content under a valid checksum.
struct Forgery {
  std::map<std::string, std::string> metadata;
  std::map<std::string, TensorView> tensors;

  void write(const fs::path& path) const {
    Checksum checksum;
    for (const auto& [key, value] : metadata) {
      checksum.add(std::string_view(key));
      checksum.add(std::string_view(value));
    }
    SafetensorsWriter writer;
    for (const auto& [name, view] : tensors) {
      checksum.add(std::string_view(name));
      checksum.add(dtype_name(view.dtype));
      for (const int64_t size : view.shape) checksum.add(static_cast<uint64_t>(size));
      checksum.add(view.bytes);
      writer.add(name, view.dtype, view.shape, view.bytes);
    }
    for (const auto& [key, value] : metadata) writer.set_metadata(key, value);
    writer.set_metadata("checksum", checksum.hex());
    writer.write(path);
  }
};

TEST(StateFile, ForgedContentUnderAValidChecksumIsRefused) {
  TempDir dir;
  save_state(dir / "good", example(false));
  const SafetensorsFile file(dir / "good");
  Forgery good;
  good.metadata = file.metadata();
  good.metadata.erase("checksum");
  for (const TensorView& view : file.tensors()) good.tensors[view.name] = view;
  good.write(dir / "copy");
  expect_equal(load_state(dir / "copy", kModel, kDims), example(false));

  const std::vector<float> bad_m = {1.0F, std::nanf(""), 2.0F};
  const std::vector<std::pair<std::string, std::function<void(Forgery&)>>> cases = {
      {"layer.1.m", [&](Forgery& f) { f.tensors["layer.1.m"].bytes = std::as_bytes(std::span(bad_m)); }},
      {"layer.0.c",
       [](Forgery& f) {
         f.tensors["layer.0.c"].shape = {3, 5, 4};
       }},
      {"layer.0.n", [](Forgery& f) { f.tensors["layer.0.n"].dtype = DType::I32; }},
      {"layer.1.c", [](Forgery& f) { f.tensors.erase("layer.1.c"); }},
      {"tensors",
       [](Forgery& f) {
         f.tensors["more"] = {"more", DType::F32, {0}, {}};
       }},
      {"tensor ids", [](Forgery& f) { f.tensors.erase("ids"); }},
      {"tensor ids", [](Forgery& f) { f.metadata["ids_count"] = "5"; }},
      {"ids_hash", [](Forgery& f) { f.metadata["ids_hash"] = "0000000000000000"; }},
      {"tensor logits", [](Forgery& f) { f.metadata["pending"] = "1"; }},
      {"entry pending", [](Forgery& f) { f.metadata["pending"] = "2"; }},
      {"entry seed", [](Forgery& f) { f.metadata["seed"] = "-1"; }},
      {"entry position", [](Forgery& f) { f.metadata["position"] = "99999999999999999999"; }},
      {"entry dtype", [](Forgery& f) { f.metadata.erase("dtype"); }},
  };
  for (const auto& [what, forge] : cases) {
    SCOPED_TRACE(what);
    Forgery forgery = good;
    forge(forgery);
    forgery.write(dir / "forged");
    EXPECT_THAT(load_error(dir / "forged"), HasSubstr(what));
  }
}

TEST(StateFile, ValuesThatAreNotFiniteAreNotSaved) {
  TempDir dir;
  const std::vector<std::function<void(SavedState&)>> spoils = {
      [](SavedState& s) { s.layers[1].c[7] = std::nanf(""); }, [](SavedState& s) { s.layers[0].n[0] = HUGE_VALF; },
      [](SavedState& s) { s.layers[0].m[2] = -HUGE_VALF; }, [](SavedState& s) { s.logits[10] = std::nanf(""); }};
  for (const auto& spoil : spoils) {
    SavedState state = example(false);
    spoil(state);
    EXPECT_THAT(error_text(ExitCode::kOutput, [&] { save_state(dir / "s.state", state); }),
                AllOf(HasSubstr("state tensor"), HasSubstr("finite")));
    EXPECT_FALSE(fs::exists(dir / "s.state"));
  }
}

TEST(StateFile, IdsOutsideTheVocabularyAreRefused) {
  TempDir dir;
  for (const int64_t id : {int64_t{-1}, int64_t{11}}) {
    SavedState state = example(false);
    state.ids[1] = id;
    save_state(dir / "s.state", state);
    EXPECT_THAT(load_error(dir / "s.state"), AllOf(HasSubstr("state file ids"), HasSubstr(cat("got ", id))));
  }
}

TEST(StateFile, AnUnwritablePlaceIsAnOutputError) {
  EXPECT_THAT(error_text(ExitCode::kOutput, [&] { save_state("/no/such/dir/s.state", example(true)); }),
              HasSubstr("/no/such/dir"));
}

}  // namespace
}  // namespace xlstm
