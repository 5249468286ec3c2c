#include "src/config/config_file.h"

#include <gtest/gtest.h>

#include "tests/support/expect_error.h"
#include "tests/support/temp_dir.h"

namespace xlstm {
namespace {

using nlohmann::json;
using test::expect_error;
using test::TempDir;

TEST(StrictJson, ReadsEveryKindOfValue) {
  const std::string text = R"({"a": 1, "b": -2, "c": 0.5, "d": "é\n", "e": [true, [], {}],
      "f": {"g": [1, {"h": false}]}, "": 18446744073709551615})";
  const JsonObject file = parse_config_text(text, "x.json");
  EXPECT_EQ(file.value, json::parse(text));
  EXPECT_TRUE(file.value["a"].is_number_integer());
  EXPECT_TRUE(file.value["c"].is_number_float());
}

TEST(StrictJson, KnowsTheLineOfEveryKey) {
  const JsonObject file = parse_config_text("{\n\"a\": 1,\n\n \"b\":\n{\"a\": 2}, \"c\": 3}", "x.json");
  EXPECT_EQ(file.lines.at("a"), 2U);
  EXPECT_EQ(file.lines.at("b"), 4U);
  EXPECT_EQ(file.lines.at("c"), 5U);
  EXPECT_EQ(file.lines.size(), 3U);
}

TEST(StrictJson, AcceptsAByteOrderMarkAndSurroundingBlanks) {
  EXPECT_EQ(parse_config_text("\xef\xbb\xbf \n{\"a\": 1}\r\n ", "x.json").value, json({{"a", 1}}));
}

TEST(StrictJson, RefusesWhatALenientReaderWouldResolveSilently) {
  const std::vector<std::pair<std::string, std::vector<std::string>>> cases = {
      {"{\"a\": 1,\n \"a\": 2}", {"key \"a\" (x.json:2)", "each key once"}},
      {"{\"a\": {\"b\": 1,\n\"c\": [{\"d\": 1, \"d\": 1}]}}", {"key \"d\" (x.json:2)", "each key once"}},
      {"{\"_a\": {\"b\": 1, \"b\": 2}}", {"key \"b\" (x.json:1)"}},
      {"{\"a\":\n null}", {"key \"a\" (x.json:2): expected a value, got null"}},
      {"{\"a\": [1, {\"b\": [null]}]}", {"expected a value, got null"}},
      {"{\"_a\": 1, \"b\": null}", {"key \"b\" (x.json:1)"}},
      {"null", {"null (x.json:1): expected a value"}},
      {"{\"a\": 1} x", {"JSON text (x.json:1)", "expected end of input"}},
      {"{\"a\": 1}\n{\"a\": 1}", {"JSON text (x.json:2)"}},
      {"{\"a\": 1,}", {"JSON text (x.json:1): expected valid JSON"}},
      {"{'a': 1}", {"JSON text (x.json:1)"}},
      {"{\"a\": 1 // one\n}", {"JSON text (x.json"}},
      {"{\"a\": NaN}", {"JSON text (x.json:1)"}},
      {"{\"a\": 01}", {"JSON text (x.json:1)"}},
      {"{\"a\": 1e999}", {"JSON text (x.json:1)", "overflow"}},
      {"{\"a\": \"\xff\"}", {"JSON text (x.json:1)", "UTF-8"}},
      {"{\"a\": \"\xc3\"}", {"JSON text (x.json:1)", "UTF-8"}},
      {"{\"a\": \"\\ud800\"}", {"JSON text (x.json:1)"}},
      {"{\"a\": \"x\ny\"}", {"JSON text (x.json"}},
      {"{\"a\": \"x", {"JSON text (x.json:1)"}},
      {"{\"a\": 1", {"JSON text (x.json:1)"}},
      {"", {"JSON text (x.json:1)", "unexpected end of input"}},
      {"   \n", {"JSON text (x.json"}},
      {"[1, 2]", {"JSON text (x.json): expected a JSON object, got a list"}},
      {"3", {"got 3"}},
      {"\"a\"", {"got a string"}},
      {std::string("{\"a\": 1}\0x", 10), {"JSON text (x.json): expected valid JSON, got a NUL byte"}}};
  for (const auto& [text, parts] : cases) {
    SCOPED_TRACE(text);
    expect_error([&, t = text] { (void)parse_config_text(t, "x.json"); }, ExitCode::kUsage, parts);
  }
}

TEST(StrictJson, AllowsNullOnlyInsidePrivateKeys) {
  EXPECT_TRUE(
      parse_config_text(R"({"_resolved": {"error": null}, "a": 1})", "x.json").value["_resolved"]["error"].is_null());
}

TEST(StrictJson, LimitsNesting) {
  const auto nested = [](size_t depth) { return "{\"a\": " + std::string(depth, '[') + std::string(depth, ']') + "}"; };
  EXPECT_NO_THROW((void)parse_config_text(nested(kMaxJsonDepth - 1), "x.json"));
  expect_error([&] { (void)parse_config_text(nested(kMaxJsonDepth), "x.json"); }, ExitCode::kUsage,
               {"levels of nesting"});
  expect_error([&] { (void)parse_config_text(nested(1'000'000), "x.json"); }, ExitCode::kUsage, {"levels of nesting"});
}

TEST(StrictJson, ReadsFilesAndRefusesWhatIsNone) {
  const TempDir dir;
  EXPECT_EQ(read_config_file(dir.file("a.json", "{\"a\": 1}")).value, json({{"a", 1}}));
  expect_error([&] { (void)read_config_file(dir / "missing.json"); }, ExitCode::kUsage,
               {"missing.json", "a readable file"});
  expect_error([&] { (void)read_config_file(dir.path()); }, ExitCode::kUsage, {dir.path().string()});
  expect_error([&] { (void)read_config_file("/dev/zero"); }, ExitCode::kUsage, {"/dev/zero", "a device"});
  const auto large = dir.file("large.json", std::string(kMaxConfigBytes + 1, ' '));
  expect_error([&] { (void)read_config_file(large); }, ExitCode::kUsage, {"large.json", "at most 4.2 MB"});
}

}  // namespace
}  // namespace xlstm
