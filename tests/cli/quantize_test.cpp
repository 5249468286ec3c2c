// `quantize` from the command line, and runs of what it writes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/cli/cli.h"
#include "tests/support/running_program.h"
#include "tests/support/sparse_checkpoint.h"
#include "tests/support/temp_dir.h"

namespace xlstm::test {
namespace {

using testing::HasSubstr;
using testing::StartsWith;
namespace fs = std::filesystem;

const std::string kTales = std::string(XLSTM_SOURCE_DIR) + "/models/xlstm-tales-8m";

class QuantizeCommand : public testing::Test {
 protected:
  ProgramResult quantize(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), "quantize");
    return run(arguments);
  }

  // Writes the bundled model with these bits and returns its directory.
  std::string quantized(const std::string& bits) {
    const std::string out = (dir_ / ("int" + bits)).string();
    const ProgramResult result = quantize({"-m", kTales, "-o", out, "--bits", bits});
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return out;
  }

  void expect_refused(const std::vector<std::string>& arguments, int code, const std::vector<std::string>& parts) {
    const int before = dir_.entries();
    const ProgramResult result = quantize(arguments);
    EXPECT_EQ(result.exit_code, code) << result.err;
    EXPECT_EQ(result.out, "");
    EXPECT_THAT(last_line(result.err), StartsWith("error: "));
    for (const std::string& part : parts) EXPECT_THAT(last_line(result.err), HasSubstr(part));
    EXPECT_EQ(dir_.entries(), before) << "something was left behind";
  }

  [[nodiscard]] std::string out() const { return (dir_ / "out").string(); }

  TempDir dir_;
};

double perplexity(const std::vector<std::string>& arguments) {
  std::vector<std::string> all = {"perplexity", "--json", "--max-ids",
                                  "257",        "-f",     (goldens() / "tales" / "val_docs.json").string()};
  all.insert(all.end(), arguments.begin(), arguments.end());
  const ProgramResult result = run(all);
  EXPECT_EQ(result.exit_code, 0) << result.err;
  return nlohmann::json::parse(result.out).value("ppl", 0.0);
}

TEST_F(QuantizeCommand, WritesCheckpointsThatRunAsTheyAreAndKeepTheQuality) {
  const double exact = perplexity({"-m", kTales, "--dtype", "float32"});
  const double int8 = perplexity({"-m", quantized("8")});
  const double int4 = perplexity({"-m", quantized("4")});
  EXPECT_NEAR(int8 / exact, 1, 0.005);
  EXPECT_NEAR(int4 / exact, 1, 0.04);
}

TEST_F(QuantizeCommand, AutoIsWhatIsStoredAndOtherBitsAreRefused) {
  const std::string int4 = quantized("4");
  const auto resolved = [](const ProgramResult& result) { return nlohmann::json::parse(result.out).at("_resolved"); };
  EXPECT_EQ(resolved(run({"-m", int4, "--print-effective-config"})).at("dtype"), "int4");
  EXPECT_EQ(resolved(run({"-m", int4, "--dtype", "float32", "--print-effective-config"})).at("dtype"), "float32");
  const ProgramResult other = run({"-m", int4, "--dtype", "int8", "-p", "Once"});
  EXPECT_EQ(other.exit_code, 4);
  EXPECT_THAT(last_line(other.err), HasSubstr("dtype (int4 checkpoint): expected auto, int4 or a float type"));
  const ProgramResult shown = run({"-m", int4, "--dtype", "int8", "--print-effective-config"});
  EXPECT_EQ(shown.exit_code, 4);
  EXPECT_THAT(resolved(shown).at("error").get<std::string>(), HasSubstr("int4 checkpoint"));
}

TEST_F(QuantizeCommand, InfoAndCheckSayHowACheckpointIsQuantized) {
  const std::string int4 = quantized("4");
  const auto model = nlohmann::json::parse(run({"info", "--json", "-m", int4}).out).at("model");
  EXPECT_EQ(model.at("stored_dtype"), "int4");
  EXPECT_EQ(model.at("quantization"), "int4, affine, group 32");
  EXPECT_EQ(model.at("parameters"), 8542528);
  const ProgramResult check = run({"check", int4});
  EXPECT_EQ(check.exit_code, 0);
  EXPECT_THAT(check.out, HasSubstr("quantized: int4, affine, group 32"));
  EXPECT_THAT(check.out, HasSubstr("8542528 parameters"));
  EXPECT_EQ(nlohmann::json::parse(run({"info", "--json", "-m", kTales}).out).at("model").at("quantization"), nullptr);
}

TEST_F(QuantizeCommand, GreedyTextIsThatOfQuantizingAtLoad) {
  const std::vector<std::string> prompt = {"-p", "Once upon a time", "-n", "12", "--temp", "0"};
  std::vector<std::string> ahead = {"-m", quantized("8")};
  std::vector<std::string> at_load = {"-m", kTales, "--dtype", "int8"};
  ahead.insert(ahead.end(), prompt.begin(), prompt.end());
  at_load.insert(at_load.end(), prompt.begin(), prompt.end());
  const ProgramResult a = run(ahead);
  EXPECT_EQ(a.exit_code, 0) << a.err;
  EXPECT_FALSE(a.out.empty());
  EXPECT_EQ(a.out, run(at_load).out);
}

TEST_F(QuantizeCommand, ReadsTheShippedSettingsAndLetsFlagsWin) {
  const std::string settings = std::string(XLSTM_SOURCE_DIR) + "/configs/varquant_default.json";
  const ProgramResult shipped = quantize({"-o", out(), "--settings", settings, "--json"});
  ASSERT_EQ(shipped.exit_code, 0) << shipped.err;
  const auto report = nlohmann::json::parse(shipped.out);
  const nlohmann::json int4 = {{"version", 1}, {"bits", 4}, {"group", 32}, {"scheme", "affine"}};
  EXPECT_EQ(report.at("quantization"), int4);
  EXPECT_EQ(report.at("verified"), true);
  EXPECT_LT(report.at("bytes"), report.at("source_bytes"));
  fs::remove_all(out());
  const ProgramResult wider = quantize(
      {"-o", out(), "--settings", settings, "--group", "64", "--scheme", "symmetric", "--no-verify", "--json"});
  ASSERT_EQ(wider.exit_code, 0) << wider.err;
  EXPECT_EQ(nlohmann::json::parse(wider.out).at("quantization").at("group"), 64);
  EXPECT_EQ(nlohmann::json::parse(wider.out).at("quantization").at("scheme"), "symmetric");
  EXPECT_EQ(nlohmann::json::parse(wider.out).at("verified"), false);
}

TEST_F(QuantizeCommand, RefusesWhatItCannotDo) {
  expect_refused({}, 2, {"-o", "a directory to write"});
  expect_refused({"-o", out(), "--bits", "3"}, 2, {"--bits", "8, 4", "3"});
  expect_refused({"-o", out(), "--group", "33"}, 2, {"quantize.group (command line)", "multiple of 32", "33"});
  expect_refused({"-o", out(), "--group", "999999968"}, 2, {"quantize.group", "up to 65536", "999999968"});
  expect_refused({"-o", out(), "--scheme", "affine"}, 2, {"quantize.scheme", "8 bits"});
  expect_refused({"-m", "/no/such", "-o", out()}, 3, {"/no/such"});
  expect_refused({"-o", (dir_ / "no" / "out").string()}, 6, {"no directory"});
  const std::string int8 = quantized("8");
  expect_refused({"-m", int8, "-o", out()}, 3, {"quantized already"});
  expect_refused({"-m", kTales, "-o", int8}, 6, {"new or an empty directory"});
  expect_refused({"-m", int8, "-o", int8 + "/again"}, 3, {"quantized already"});
  expect_refused({"-m", kTales, "-o", kTales + "/int8"}, 2, {"outside the checkpoint"});
  fs::create_symlink(dir_ / "nowhere", dir_ / "link");
  expect_refused({"-m", kTales, "-o", (dir_ / "link").string()}, 6, {"leads nowhere"});
}

TEST_F(QuantizeCommand, TakesTheBitsOfDtypeWhereNothingElseNamesThem) {
  const auto bits = [&](std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {"-o", out(), "--json", "--no-verify"});
    const ProgramResult result = quantize(arguments);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    fs::remove_all(out());
    return result.exit_code == 0 ? nlohmann::json::parse(result.out).at("quantization").value("bits", 0) : 0;
  };
  const std::string config = dir_.file("c.json", R"({"dtype": "int4"})").string();
  const std::string group = dir_.file("g.json", R"({"quantize": {"group": 64}})").string();
  EXPECT_EQ(bits({"--dtype", "int4"}), 4);
  EXPECT_EQ(bits({"--config", config}), 4);
  EXPECT_EQ(bits({"--dtype", "int8", "--bits", "8"}), 8);
  EXPECT_EQ(bits({"--dtype", "int4", "--settings", group}), 4);
  EXPECT_EQ(bits({"--dtype", "auto"}), 8);
}

TEST_F(QuantizeCommand, RefusesADtypeThatItWouldNotWrite) {
  const std::string config = dir_.file("c.json", R"({"dtype": "float16"})").string();
  const std::string settings = dir_.file("s.json", R"({"quantize": {"bits": 8}})").string();
  expect_refused({"-o", out(), "--dtype", "bfloat16"}, 2, {"dtype (command line)", "use --bits", "bfloat16"});
  expect_refused({"-o", out(), "--config", config}, 2, {"c.json", "use --bits", "float16"});
  expect_refused({"-o", out(), "--dtype", "int4", "--bits", "8"}, 2, {"dtype", "int8, as --bits says", "int4"});
  expect_refused({"-o", out(), "--dtype", "int4", "--settings", settings}, 2, {"dtype", "int8, as ", "s.json", "int4"});
}

TEST_F(QuantizeCommand, WarnsOfSettingsThatItHasNoUseFor) {
  const ProgramResult result = quantize({"-o", out(), "--no-verify", "--device", "cpu", "--top-k", "3", "-t", "1"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.err, HasSubstr("without effect: device, top_k in quantize"));
  fs::remove_all(out());
  const ProgramResult quiet = quantize({"-o", out(), "--no-verify", "--dtype", "int4", "-t", "1", "--no-progress"});
  EXPECT_THAT(quiet.err, testing::Not(HasSubstr("without effect")));
}

TEST_F(QuantizeCommand, JudgesASettingsFileByItselfAndDropsWhatWasMeantForOtherBits) {
  const auto settings = [&](const char* text) { return dir_.file("s.json", text).string(); };
  const std::string wrong = settings(R"({"quantize": {"bits": 8, "group": 33}})");
  expect_refused({"-o", out(), "--settings", wrong, "--bits", "4"}, 2, {"quantize.group", "s.json", "33"});
  const std::string affine = settings(R"({"quantize": {"bits": 8, "scheme": "affine"}})");
  expect_refused({"-o", out(), "--settings", affine, "--group", "32"}, 2, {"quantize.scheme", "s.json", "affine"});
  const std::string good = settings(R"({"quantize": {"bits": 4, "group": 64, "scheme": "affine", "verify": false}})");
  expect_refused({"-o", out(), "--settings", good, "--group", "31"}, 2, {"quantize.group (command line)", "31"});
  const ProgramResult other = quantize({"-o", out(), "--settings", good, "--bits", "8", "--json"});
  ASSERT_EQ(other.exit_code, 0) << other.err;
  const nlohmann::json int8 = {{"version", 1}, {"bits", 8}, {"group", 0}, {"scheme", "symmetric"}};
  EXPECT_EQ(nlohmann::json::parse(other.out).at("quantization"), int8);
  EXPECT_EQ(nlohmann::json::parse(other.out).at("verified"), false) << "of the file all the same";
}

TEST_F(QuantizeCommand, RefusesSettingsThatItDoesNotKnow) {
  const auto settings = [&](const char* text) { return dir_.file("s.json", text).string(); };
  expect_refused({"-o", out(), "--settings", settings(R"({"quantize": {"bit": 4}})")}, 2, {"did you mean bits"});
  expect_refused({"-o", out(), "--settings", settings(R"({"quantize": {"bits": 5}})")}, 2, {"quantize.bits", "s.json"});
  expect_refused({"-o", out(), "--settings", settings(R"({"quantize": {"verify": 1}})")}, 2, {"quantize.verify"});
  expect_refused({"-o", out(), "--settings", settings(R"({"quantize": {"seed": "x"}})")}, 2, {"quantize.seed"});
  expect_refused({"-o", out(), "--settings", settings(R"({"chunk_size": 4})")}, 2, {"quantize", "an object"});
}

TEST_F(QuantizeCommand, LeavesNothingBehindWhenASignalEndsIt) {
  const TempDir source;
  write_sparse_checkpoint(kTales, source / "model", /*vocab=*/400'000);
  for (const bool impatient : {false, true}) {
    RunningProgram program(executable(), {"quantize", "-m", (source / "model").string(), "-o", out()});
    EXPECT_TRUE(program.wait_until([&] { return dir_.entries() > 0; })) << program.err();
    impatient ? program.send_until_end(SIGTERM) : program.send(SIGTERM);
    const ProgramResult result = program.wait();
    EXPECT_EQ(result.exit_code, 143) << result.err;
    EXPECT_EQ(dir_.entries(), 0);
  }
}

}  // namespace
}  // namespace xlstm::test
