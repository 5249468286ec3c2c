#include "xlstm/io/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "tests/io/io_test_support.h"
#include "xlstm/core/str.h"

namespace xlstm {
namespace {

using test::error_text;
using test::safetensors_bytes;
using test::TempDir;
using test::write_bytes;
using testing::ElementsAre;
using testing::HasSubstr;

std::vector<float> floats(const TensorView& view) {
  std::vector<float> out(view.bytes.size() / sizeof(float));
  if (!out.empty()) std::memcpy(out.data(), view.bytes.data(), view.bytes.size());
  return out;
}

std::string float_bytes(const std::vector<float>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)};
}

TEST(Safetensors, ReadsTensorsInTheOrderOfTheirData) {
  TempDir dir;
  write_bytes(dir / "a.safetensors",
              safetensors_bytes(R"({"__metadata__":{"format":"pt"},)"
                                R"("b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]},)"
                                R"("a":{"dtype":"I16","shape":[2,1],"data_offsets":[0,4]},)"
                                R"("scalar":{"dtype":"U8","shape":[],"data_offsets":[12,13]}}    )",
                                std::string("\x01\x00\x02\x00", 4) + float_bytes({1.5F, -2.0F}) + "\x07"));
  const SafetensorsFile file(dir / "a.safetensors");
  ASSERT_EQ(file.tensors().size(), 3U);
  EXPECT_EQ(file.tensors()[0].name, "a");
  EXPECT_EQ(file.tensors()[0].dtype, DType::I16);
  EXPECT_THAT(file.tensors()[0].shape, ElementsAre(2, 1));
  EXPECT_THAT(floats(file.tensors()[1]), ElementsAre(1.5F, -2.0F));
  EXPECT_EQ(file.tensors()[2].num_elements(), 1);
  EXPECT_EQ(file.find("b"), &file.tensors()[1]);
  EXPECT_EQ(file.find("c"), nullptr);
  EXPECT_EQ(file.metadata().at("format"), "pt");
}

TEST(Safetensors, DataMayLieAtAnyAlignment) {
  TempDir dir;
  // 8 + 59 bytes come before the data: an odd address for float32.
  write_bytes(dir / "a.safetensors",
              safetensors_bytes(R"({"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}    )", float_bytes({3, 4})));
  const SafetensorsFile file(dir / "a.safetensors");
  EXPECT_THAT(floats(*file.find("x")), ElementsAre(3.0F, 4.0F));
}

TEST(Safetensors, EmptyTensorsTakeNoRoomAnywhere) {
  TempDir dir;
  write_bytes(dir / "a.safetensors", safetensors_bytes(R"({"e":{"dtype":"F32","shape":[0,5],"data_offsets":[1,1]},)"
                                                       R"("x":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                                                       R"("y":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})",
                                                       "abc"));
  const SafetensorsFile file(dir / "a.safetensors");
  EXPECT_EQ(file.find("e")->num_elements(), 0);
  file.drop_pages(*file.find("e"));
  EXPECT_EQ(file.find("y")->bytes[1], std::byte{'c'});
}

TEST(Safetensors, AFileWithoutTensorsIsValid) {
  TempDir dir;
  write_bytes(dir / "a.safetensors", safetensors_bytes("{}"));
  EXPECT_TRUE(SafetensorsFile(dir / "a.safetensors").tensors().empty());
}

TEST(Safetensors, ViewsSurviveAMoveAndDroppedPagesComeBack) {
  TempDir dir;
  const std::vector<float> values(5000, 2.5F);
  SafetensorsWriter writer;
  writer.add("x", DType::F32, {5000}, std::as_bytes(std::span(values)));
  writer.write(dir / "a.safetensors");
  SafetensorsFile first(dir / "a.safetensors");
  const TensorView* view = first.find("x");
  const SafetensorsFile second(std::move(first));
  EXPECT_EQ(second.find("x"), view);
  second.drop_pages(*view);
  EXPECT_EQ(floats(*view), values);
}

struct BadFile {
  std::string why;
  std::string bytes;
  std::vector<std::string> message;  // each must occur in the error
};

std::string tensor(const std::string& fields) {
  return cat("{\"x\":{", fields, "}}");
}

std::vector<BadFile> bad_files() {
  const std::string good = R"("dtype":"U8","shape":[4],"data_offsets":[0,4])";
  const auto with = [](const std::string& header, const std::string& data = "abcd") {
    return safetensors_bytes(header, data);
  };
  return {
      {"empty file", "", {"at least 8 bytes", "0 bytes"}},
      {"shorter than the length", std::string("\x02\0\0", 3), {"at least 8 bytes", "3 bytes"}},
      {"length beyond the file", test::le64(100) + "{}", {"truncated", "100 bytes of header"}},
      {"length above the limit", test::le64(100'000'001) + "{}", {"at most 100000000"}},
      {"absurd length", std::string(8, '\xff') + "{}", {"at most 100000000"}},
      {"length zero", test::le64(0) + "{}", {"a JSON object", "nothing"}},
      {"GGUF", "GGUF\x03" + std::string(100, 'x'), {"a safetensors file", "GGUF file, which is not read"}},
      {"LFS pointer", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n", {"Git LFS pointer"}},
      {"pickle", "PK\x03\x04" + std::string(100, 'x'), {"PyTorch pickle"}},
      {"leading space", with(" {}", ""), {"a JSON object", "\" {}\""}},
      {"a list", with("[]", ""), {"a JSON object"}},
      {"cut JSON", with("{\"x\":}", ""), {"valid JSON"}},
      {"text behind the JSON", with("{} {}", ""), {"valid JSON"}},
      {"NUL padding", with(std::string("{}\0\0", 4), ""), {"padding spaces"}},
      {"tab padding", with("{}\t", ""), {"padding spaces"}},
      {"NUL then braces", with(std::string("{}\0}", 4), ""), {"valid JSON", "NUL"}},
      {"invalid UTF-8", with("{\"\xff\":1}", ""), {"valid JSON"}},
      {"too deep",
       with(cat("{\"x\":", std::string(1000, '['), std::string(1000, ']'), "}"), ""),
       {"levels of nesting"}},
      {"duplicate tensor", with(cat("{\"x\":{", good, "},\"x\":{", good, "}}")), {"\"x\"", "each key once"}},
      {"duplicate field", with(tensor(good + R"(,"dtype":"U8")")), {"\"dtype\"", "each key once"}},
      {"metadata is no object", with(R"({"__metadata__":"pt"})", ""), {"__metadata__", "an object"}},
      {"metadata value is no string", with(R"({"__metadata__":{"k":1}})", ""), {"key k", "a string"}},
      {"tensor is no object", with(R"({"x":[1]})", ""), {"tensor x", "an object", "a list"}},
      {"unknown field", with(tensor(good + R"(,"strides":[1])")), {"tensor x", "strides"}},
      {"no dtype", with(tensor(R"("shape":[4],"data_offsets":[0,4])")), {"tensor x", "\"dtype\"", "none"}},
      {"no shape", with(tensor(R"("dtype":"U8","data_offsets":[0,4])")), {"tensor x", "\"shape\"", "none"}},
      {"no offsets", with(tensor(R"("dtype":"U8","shape":[4])")), {"tensor x", "\"data_offsets\"", "none"}},
      {"unknown dtype", with(tensor(R"("dtype":"F8","shape":[4],"data_offsets":[0,4])")), {"tensor x", "\"F8\""}},
      {"dtype number", with(tensor(R"("dtype":8,"shape":[4],"data_offsets":[0,4])")), {"tensor x", "dtype name"}},
      {"negative size", with(tensor(R"("dtype":"U8","shape":[-4],"data_offsets":[0,4])")), {"tensor x", "-4"}},
      {"fractional size", with(tensor(R"("dtype":"U8","shape":[4.0],"data_offsets":[0,4])")), {"tensor x", "4.0"}},
      {"size above int64",
       with(tensor(R"("dtype":"U8","shape":[9223372036854775808],"data_offsets":[0,4])")),
       {"tensor x", "below 2^63"}},
      {"size above uint64",
       with(tensor(R"("dtype":"U8","shape":[99999999999999999999],"data_offsets":[0,4])")),
       {"tensor x", "below 2^63"}},
      {"element count overflow",
       with(tensor(R"("dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,4])")),
       {"tensor x", "fits into 64 bits"}},
      {"byte count overflow",
       with(tensor(R"("dtype":"F64","shape":[4611686018427387904],"data_offsets":[0,4])")),
       {"tensor x", "fits into 64 bits"}},
      {"shape is no list", with(tensor(R"("dtype":"U8","shape":4,"data_offsets":[0,4])")), {"tensor x", "list"}},
      {"one offset", with(tensor(R"("dtype":"U8","shape":[4],"data_offsets":[4])")), {"tensor x", "[begin, end]"}},
      {"negative offset", with(tensor(R"("dtype":"U8","shape":[4],"data_offsets":[-4,0])")), {"tensor x", "[-4,0]"}},
      {"offsets reversed", with(tensor(R"("dtype":"U8","shape":[4],"data_offsets":[4,0])")), {"begin <= end"}},
      {"offsets beyond the data",
       with(tensor(R"("dtype":"U8","shape":[5],"data_offsets":[0,5])")),
       {"tensor x", "truncated"}},
      {"huge offsets",
       with(tensor(R"("dtype":"U8","shape":[1],"data_offsets":[18446744073709551614,18446744073709551615])")),
       {"tensor x", "within the file's 4 bytes"}},
      {"size differs from shape",
       with(tensor(R"("dtype":"F16","shape":[4],"data_offsets":[0,4])")),
       {"tensor x", "8 bytes for F16 [4]", "got 4 bytes"}},
      {"overlap",
       with(
           R"({"x":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},"y":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}})"),
       {"tensor y", "tensor x ends", "overlap"}},
      {"same bytes twice",
       with(
           R"({"x":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"y":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})"),
       {"overlap"}},
      {"hole",
       with(
           R"({"x":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"y":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}})"),
       {"tensor y", "hole"}},
      {"hole at the start", with(tensor(R"("dtype":"U8","shape":[2],"data_offsets":[2,4])")), {"tensor x", "hole"}},
      {"empty tensor outside the covered data",
       with(
           R"({"x":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"y":{"dtype":"U8","shape":[0],"data_offsets":[2,2]}})"),
       {"overlap"}},
      {"trailing bytes", with(tensor(good), "abcde"), {"1 bytes behind the last tensor"}},
      {"data without tensors", with("{}", "a"), {"behind the last tensor"}},
      {"truncated data", with(tensor(good), "abc"), {"tensor x", "truncated"}},
  };
}

TEST(Safetensors, EachBreachOfTheFormatIsRefusedWithFileAndReason) {
  TempDir dir;
  for (const BadFile& bad : bad_files()) {
    SCOPED_TRACE(bad.why);
    write_bytes(dir / "bad.safetensors", bad.bytes);
    const std::string text = error_text(ExitCode::kCheckpoint, [&] { SafetensorsFile file(dir / "bad.safetensors"); });
    EXPECT_THAT(text, HasSubstr("bad.safetensors"));
    EXPECT_THAT(text, HasSubstr("expected "));
    for (const std::string& part : bad.message) EXPECT_THAT(text, HasSubstr(part));
  }
}

TEST(Safetensors, AMissingFileAndADirectoryAreRefused) {
  TempDir dir;
  EXPECT_THAT(error_text(ExitCode::kCheckpoint, [&] { SafetensorsFile file(dir / "none"); }), HasSubstr("none"));
  EXPECT_THAT(error_text(ExitCode::kCheckpoint, [&] { SafetensorsFile file(dir.path()); }), HasSubstr("directory"));
}

TEST(Safetensors, DamagedHeadersLoadOrAreRefusedButNeverCrash) {
  TempDir dir;
  const std::string good = safetensors_bytes(R"({"__metadata__":{"format":"pt"},)"
                                             R"("b":{"dtype":"F32","shape":[2,3],"data_offsets":[4,28]},)"
                                             R"("a":{"dtype":"I16","shape":[2],"data_offsets":[0,4]}}  )",
                                             std::string(28, 'x'));
  std::mt19937 random(7);
  const auto below = [&](size_t n) { return std::uniform_int_distribution<size_t>(0, n - 1)(random); };
  constexpr std::string_view kUseful = "{}[]\",:0123456789-eE. \\u";
  int refused = 0;
  for (int round = 0; round < 3000; ++round) {
    std::string bytes = good;
    for (size_t i = 0; i < 1 + below(4); ++i) {
      const size_t at = below(bytes.size());
      switch (below(4)) {
        case 0: bytes[at] = static_cast<char>(below(256)); break;
        case 1: bytes[at] = kUseful[below(kUseful.size())]; break;
        case 2: bytes.erase(at, 1 + below(3)); break;
        default: bytes.insert(at, 1, kUseful[below(kUseful.size())]); break;
      }
      if (bytes.empty()) bytes.push_back('x');
    }
    write_bytes(dir / "f", bytes);
    try {
      const SafetensorsFile file(dir / "f");
      unsigned sum = 0;
      for (const TensorView& view : file.tensors()) {
        for (const std::byte byte : view.bytes) sum += std::to_integer<unsigned>(byte);
      }
      EXPECT_LE(sum, 255U * bytes.size());
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kCheckpoint) << error.what();
      ++refused;
    }
  }
  EXPECT_GT(refused, 1500);
}

TEST(SafetensorsWriter, WhatIsWrittenReadsBack) {
  TempDir dir;
  const std::vector<uint8_t> small = {1, 2, 3};
  const std::vector<float> values = {1, 2, 3, 4, 5, 6};
  const std::vector<int64_t> ids = {7, -8};
  SafetensorsWriter writer;
  writer.add("small", DType::U8, {3}, std::as_bytes(std::span(small)));
  writer.add("values", DType::F32, {2, 3}, std::as_bytes(std::span(values)));
  writer.add("ids", DType::I64, {2}, std::as_bytes(std::span(ids)));
  writer.add("none", DType::F32, {0}, {});
  writer.set_metadata("who", "tests \"quoted\" ü");
  writer.write(dir / "out.safetensors");

  const std::string bytes = test::read_bytes(dir / "out.safetensors");
  const auto header_bytes = static_cast<unsigned char>(bytes[0]) + 256 * static_cast<unsigned char>(bytes[1]);
  EXPECT_EQ(header_bytes % 8, 0) << "the data must start at a multiple of 8";
  const SafetensorsFile file(dir / "out.safetensors");
  EXPECT_EQ(file.metadata().at("who"), "tests \"quoted\" ü");
  EXPECT_EQ(floats(*file.find("values")), values);
  EXPECT_THAT(file.find("values")->shape, ElementsAre(2, 3));
  EXPECT_EQ(file.find("small")->bytes[2], std::byte{3});
  EXPECT_EQ(file.tensors()[0].name, "ids") << "wide elements come first, so that all are aligned";
  EXPECT_EQ(file.find("none")->num_elements(), 0);
}

TEST(SafetensorsWriter, AnUnwritablePlaceIsAnOutputError) {
  TempDir dir;
  const SafetensorsWriter writer;
  EXPECT_THAT(error_text(ExitCode::kOutput, [&] { writer.write(dir / "no/such/dir/file"); }), HasSubstr("file"));
}

TEST(SafetensorsWriter, SizesThatDifferFromTheShapeAreOurOwnBug) {
  const std::vector<float> values(3);
  SafetensorsWriter writer;
  EXPECT_THAT(
      error_text(ExitCode::kInternal, [&] { writer.add("x", DType::F32, {4}, std::as_bytes(std::span(values))); }),
      HasSubstr("internal error"));
}

TEST(DType, NamesAndSizesAgreeBothWays) {
  const std::vector<std::pair<DType, uint64_t>> sizes = {
      {DType::F64, 8}, {DType::F32, 4}, {DType::F16, 2}, {DType::BF16, 2}, {DType::I64, 8},
      {DType::I32, 4}, {DType::I16, 2}, {DType::I8, 1},  {DType::U64, 8},  {DType::U32, 4},
      {DType::U16, 2}, {DType::U8, 1},  {DType::Bool, 1}};
  for (const auto& [dtype, size] : sizes) {
    SCOPED_TRACE(dtype_name(dtype));
    EXPECT_EQ(dtype_size(dtype), size);
    EXPECT_EQ(parse_dtype(dtype_name(dtype)), dtype);
    EXPECT_THAT(dtype_names(), HasSubstr(std::string(dtype_name(dtype))));
  }
  EXPECT_EQ(parse_dtype("f32"), std::nullopt);
  EXPECT_TRUE(is_float(DType::BF16));
  EXPECT_FALSE(is_float(DType::I8));
}

TEST(ElementCount, OverflowAndNegativeSizesGiveMinusOne) {
  EXPECT_EQ(element_count({}), 1);
  EXPECT_EQ(element_count({3, 4}), 12);
  EXPECT_EQ(element_count({3, 0}), 0);
  EXPECT_EQ(element_count({3, -1}), -1);
  EXPECT_EQ(element_count({int64_t{1} << 62, 2}), -1);
}

std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span(text));
}

const std::vector<TensorHeader> kStreamed = {
    {"bytes", DType::U8, {3}}, {"words", DType::F32, {2, 1}}, {"empty", DType::F32, {0, 4}}};

TEST(SafetensorsStream, TakesPiecesInAnyOrderAndWritesWhatTheWriterWould) {
  const TempDir dir;
  const std::string words = float_bytes({1.5F, -2.0F});
  SafetensorsStream stream(dir / "stream", kStreamed);
  stream.write("bytes", 2, bytes_of("c"));
  stream.write("words", 4, bytes_of(words.substr(4)));
  stream.write("words", 0, bytes_of(words.substr(0, 4)));
  stream.write("bytes", 0, bytes_of("ab"));
  stream.write("empty", 0, {});
  EXPECT_FALSE(std::filesystem::exists(dir / "stream")) << "not before it is complete";
  stream.commit();

  SafetensorsWriter writer;
  const std::string letters = "abc";
  writer.add("bytes", DType::U8, {3}, bytes_of(letters));
  writer.add("words", DType::F32, {2, 1}, bytes_of(words));
  writer.add("empty", DType::F32, {0, 4}, {});
  writer.write(dir / "writer");
  EXPECT_EQ(read_file(dir / "stream", ExitCode::kUsage), read_file(dir / "writer", ExitCode::kUsage));
}

TEST(SafetensorsStream, LeavesNothingWithoutACommit) {
  const TempDir dir;
  {
    SafetensorsStream stream(dir / "stream", kStreamed);
    stream.write("bytes", 0, bytes_of("abc"));
  }
  EXPECT_EQ(dir.entries(), 0);
}

TEST(SafetensorsStream, KnowsItsTensorsTheirSizesAndWhatIsMissing) {
  const TempDir dir;
  SafetensorsStream stream(dir / "stream", kStreamed);
  EXPECT_THAT(error_text(ExitCode::kInternal, [&] { stream.write("other", 0, bytes_of("a")); }), HasSubstr("place"));
  EXPECT_THAT(error_text(ExitCode::kInternal, [&] { stream.write("bytes", 1, bytes_of("abc")); }), HasSubstr("size"));
  EXPECT_THAT(error_text(ExitCode::kInternal, [&] { stream.write("bytes", 0, bytes_of("abcd")); }), HasSubstr("size"));
  stream.write("bytes", 0, bytes_of("abc"));
  EXPECT_THAT(error_text(ExitCode::kInternal, [&] { stream.commit(); }), HasSubstr("missing_"));
}

TEST(SafetensorsStream, NamesThePlaceThatItCannotWriteTo) {
  const TempDir dir;
  EXPECT_THAT(error_text(ExitCode::kOutput, [&] { SafetensorsStream(dir / "no" / "file", kStreamed); }),
              HasSubstr((dir / "no").string()));
}

}  // namespace
}  // namespace xlstm
