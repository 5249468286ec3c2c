#include "xlstm/model/quantization.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/model/editable_checkpoint.h"
#include "tests/support/expect_error.h"
#include "tests/support/temp_dir.h"
#include "xlstm/model/weight_formats.h"

namespace xlstm {
namespace {

using nlohmann::json;
using test::expect_error;

Quantization parse(const char* text) {
  return parse_quantization(json::parse(text), "config.json", {});
}

TEST(Quantization, ReadsWhatItWrites) {
  for (const Quantization& q :
       {default_quantization(8), default_quantization(4), Quantization{8, 128, QuantScheme::kSymmetric},
        Quantization{4, 64, QuantScheme::kSymmetric}}) {
    EXPECT_EQ(parse_quantization(to_json(q), "here", {}), q) << q.text();
  }
}

TEST(Quantization, AbsentKeysAreTheDefaultsOfTheBits) {
  EXPECT_EQ(parse(R"({"version": 1, "bits": 8})"), default_quantization(8));
  EXPECT_EQ(parse(R"({"version": 1, "bits": 4, "note": "passed over"})"), default_quantization(4));
}

TEST(Quantization, RefusesUnknownValuesByTheirKey) {
  struct Case {
    const char* text;
    const char* key;
  };
  for (const Case& c :
       {Case{R"({"bits": 8})", "quantization.version"}, Case{R"({"version": 2, "bits": 8})", "quantization.version"},
        Case{R"({"version": "1", "bits": 8})", "quantization.version"}, Case{R"({"version": 1})", "quantization.bits"},
        Case{R"({"version": 1, "bits": 3})", "quantization.bits"},
        Case{R"({"version": 1, "bits": "8"})", "quantization.bits"},
        Case{R"({"version": 1, "bits": 8, "group": -32})", "quantization.group"},
        Case{R"({"version": 1, "bits": 8, "group": 48})", "quantization.group"},
        Case{R"({"version": 1, "bits": 8, "group": 65568})", "a multiple of 32 up to 65536"},
        Case{R"({"version": 1, "bits": 8, "group": 1e30})", "quantization.group"},
        Case{R"({"version": 1, "bits": 8, "group": null})", "quantization.group"},
        Case{R"({"version": 1, "bits": 8, "scheme": "affine"})", "quantization.scheme"},
        Case{R"({"version": 1, "bits": 4, "scheme": "nf4"})", "quantization.scheme"},
        Case{R"({"version": 1, "bits": 4, "scheme": 4})", "quantization.scheme"},
        Case{R"([1])", "quantization (config.json): expected an object"}}) {
    expect_error([&] { (void)parse(c.text); }, ExitCode::kCheckpoint, {c.key, "config.json"});
  }
}

TEST(Quantization, TheHeadIsInt8InBothSchemes) {
  EXPECT_EQ(default_quantization(4).head(), (MatrixFormat{WeightFormat::kInt8, 0}));
  EXPECT_EQ((Quantization{8, 64, QuantScheme::kSymmetric}.head()), (MatrixFormat{WeightFormat::kInt8, 64}));
}

TEST(Groups, OfARowTooWideForOneScaleAreHalfTheBound) {
  const MatrixFormat row{WeightFormat::kInt8, 0};
  EXPECT_EQ(effective_group(row, 1), 1);
  EXPECT_EQ(effective_group(row, 65536), 65536);
  EXPECT_EQ(effective_group(row, 65537), 32768);
  EXPECT_EQ(effective_group({WeightFormat::kInt4, 64}, 65537), 64);
  EXPECT_EQ(groups_per_row(row, 65536), 1);
  EXPECT_EQ(groups_per_row(row, 65537), 3);
  EXPECT_EQ(groups_per_row({WeightFormat::kInt4, 64}, 65537), 1025);
  EXPECT_EQ(groups_per_row({WeightFormat::kInt8, 65536}, 65537), 2);
}

TEST(StoredDtype, IsEmptyForFloatsAndForWhatCannotBeRead) {
  const test::TempDir dir;
  EXPECT_EQ(stored_dtype(test::zoo_dir("single_f32")), "");
  EXPECT_EQ(stored_dtype(dir / "absent"), "");
  (void)dir.file("config.json", R"({"quantization": {"version": 9, "bits": 4}})");
  EXPECT_EQ(stored_dtype(dir.path()), "");
  (void)dir.file("config.json", R"({"quantization": {"version": 1, "bits": 4}})");
  EXPECT_EQ(stored_dtype(dir.path()), "int4");
}

TEST(WeightFormats, FloatTypesAreThoseOfAllMatrices) {
  const WeightFormats formats = weight_formats("float16");
  EXPECT_EQ(formats.matrices.format, WeightFormat::kFloat16);
  EXPECT_EQ(formats.head.format, WeightFormat::kFloat16);
  EXPECT_EQ(formats.embedding, WeightFormat::kFloat16);
}

TEST(WeightFormats, IntegersKeepTheEmbeddingAndUseTheGroupsOfTheCheckpoint) {
  CheckpointLayout layout;
  layout.config.dtype = "float32";
  const WeightFormats made = weight_formats("int4", layout);
  EXPECT_EQ(made.matrices, (MatrixFormat{WeightFormat::kInt4, 32}));
  EXPECT_EQ(made.head, (MatrixFormat{WeightFormat::kInt8, 0}));
  EXPECT_EQ(made.embedding, WeightFormat::kFloat32);
  layout.config.quantization = Quantization{8, 96, QuantScheme::kSymmetric};
  EXPECT_EQ(weight_formats("int8", layout).matrices.group, 96);
  EXPECT_EQ(weight_formats("int8", layout).head.group, 96);
  EXPECT_EQ(weight_formats("float32", layout).matrices, MatrixFormat{});
}

TEST(MatrixBytes, CountsCodesScalesAndZeroPoints) {
  EXPECT_EQ(matrix_bytes({WeightFormat::kBfloat16, 0}, 3, 5), 30);
  EXPECT_EQ(matrix_bytes({WeightFormat::kInt8, 0}, 3, 70), 3 * (70 + 2));
  EXPECT_EQ(matrix_bytes({WeightFormat::kInt8, 32}, 3, 70), 3 * (70 + 3 * 2));
  EXPECT_EQ(matrix_bytes({WeightFormat::kInt8, 0}, 3, 65537), 3 * (65537 + 3 * 2)) << "too wide for one scale";
  EXPECT_EQ(matrix_bytes({WeightFormat::kInt4, 32}, 3, 71), 3 * (36 + 3 * (2 + 1)));
}

}  // namespace
}  // namespace xlstm
