// The executable with the Metal kernels as device mps, on the emulator: the whole program but Apple's compiler and GPU.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/cli/cli.h"
#include "tests/support/temp_dir.h"

namespace xlstm::test {
namespace {

using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;

// On the device mps, in float32, greedily unless the arguments say otherwise.
ProgramResult on_mps(std::vector<std::string> arguments) {
  arguments.insert(arguments.end(), {"--device", "mps"});
  return run(arguments);
}

std::vector<std::string> greedy(const std::string& prompt, int tokens) {
  return {"-p", prompt, "--temp", "0", "--dtype", "float32", "-n", std::to_string(tokens), "--ignore-eos"};
}

nlohmann::json golden_cases() {
  return nlohmann::json::parse(std::ifstream(goldens() / "tales/golden.json"))["cases"];
}

// The reference's text has special tokens written out, which the program does not print.
std::string printed(std::string text) {
  const std::string end_of_text = "<|endoftext|>";
  for (size_t at = text.find(end_of_text); at != std::string::npos; at = text.find(end_of_text)) {
    text.erase(at, end_of_text.size());
  }
  return text;
}

// Prompts of 2 to 471 tokens: steps, the sequence kernel and the chunkwise kernel, in segments.
TEST(MetalProgram, ContinuesEveryGoldenPromptAsTheReferenceDoes) {
  const nlohmann::json cases = golden_cases();
  for (const auto& [name, golden] : cases.items()) {
    std::vector<std::string> arguments = greedy(golden["prompt"], 48);
    arguments.insert(arguments.end(), {"--prefill-segment", "256"});
    const ProgramResult result = on_mps(arguments);
    EXPECT_EQ(result.exit_code, 0) << name << ": " << result.err;
    EXPECT_EQ(result.out, printed(golden["greedy_text"])) << name;
  }
}

TEST(MetalProgram, EveryChunkwiseBackendGivesTheSameText) {
  const auto golden = golden_cases()["unicode"];
  const std::string expected = golden["greedy_text"].get<std::string>().substr(0, 7);
  for (const char* backend : {"metal", "native_compiled", "ray_compiled_steps", "queued_compiled_steps", "native"}) {
    std::vector<std::string> arguments = greedy(golden["prompt"], 4);
    arguments.insert(arguments.end(), {"--chunkwise-backend", backend, "--chunk-size", "16", "--heads-per-band", "1"});
    const ProgramResult result = on_mps(arguments);
    EXPECT_EQ(result.exit_code, 0) << backend << ": " << result.err;
    EXPECT_EQ(result.out.substr(0, 7), expected) << backend;
  }
}

// libtorch's own calls among commands that are collected must come in the order of the program.
TEST(MetalProgram, MixesMetalKernelsWithPlainLibtorch) {
  const auto golden = golden_cases()["short"];
  const std::string expected = run(greedy(golden["prompt"], 8)).out;
  for (const char* native : {"--ops-backend", "--step-backend", "--sequence-backend"}) {
    std::vector<std::string> arguments = greedy(golden["prompt"], 8);
    arguments.insert(arguments.end(), {native, "native"});
    const ProgramResult result = on_mps(arguments);
    EXPECT_EQ(result.exit_code, 0) << native << ": " << result.err;
    EXPECT_EQ(result.out, expected) << native;
  }
}

TEST(MetalProgram, AStateSavedThereContinuesOnTheCpuAndBack) {
  const TempDir dir;
  const auto golden = golden_cases()["dialogue"];
  const std::string expected = golden["greedy_text"];
  const std::string state = (dir / "state").string();
  std::vector<std::string> first = greedy(golden["prompt"], 6);
  first.insert(first.end(), {"--state-save", state});
  const ProgramResult begin = on_mps(first);
  ASSERT_EQ(begin.exit_code, 0) << begin.err;
  const std::vector<std::string> rest = {"--state-load", state,     "--state-save", state, "--temp", "0",
                                         "--dtype",      "float32", "-n",           "6"};
  std::vector<std::string> on_cpu = rest;
  on_cpu.insert(on_cpu.end(), {"--device", "cpu"});
  const ProgramResult middle = run_program(XLSTM_PLAIN_EXECUTABLE, on_cpu);
  ASSERT_EQ(middle.exit_code, 0) << middle.err;
  const ProgramResult end = on_mps(rest);
  ASSERT_EQ(end.exit_code, 0) << end.err;
  const std::string text = begin.out + middle.out + end.out;
  EXPECT_EQ(text, expected.substr(0, text.size()));
  EXPECT_GT(text.size(), 20U);
}

TEST(MetalProgram, LoadsEveryDtype) {
  for (const char* dtype : {"float16", "bfloat16", "int8", "int4"}) {
    const ProgramResult metal = on_mps({"-p", "Once", "--temp", "0", "-n", "3", "--dtype", dtype});
    EXPECT_EQ(metal.exit_code, 0) << dtype << ": " << metal.err;
    const ProgramResult native = run_program(
        XLSTM_PLAIN_EXECUTABLE,
        {"-p", "Once", "--temp", "0", "-n", "3", "--dtype", dtype, "--device", "cpu", "--ops-backend", "native"});
    EXPECT_EQ(metal.out, native.out) << dtype;
  }
}

TEST(MetalProgram, SamplesTheTextThatTheCpuSamples) {
  const std::vector<std::string> arguments = {"-p", "A king", "-n", "12", "--seed", "3", "--dtype", "float32"};
  const ProgramResult metal = on_mps(arguments);
  EXPECT_EQ(metal.exit_code, 0) << metal.err;
  EXPECT_EQ(metal.out, run_program(XLSTM_PLAIN_EXECUTABLE, arguments).out);
}

TEST(MetalProgram, AutoPicksItAndInfoListsItsKernels) {
  const ProgramResult info = run({"info", "--json"});
  ASSERT_EQ(info.exit_code, 0) << info.err;
  const auto json = nlohmann::json::parse(info.out);
  EXPECT_EQ(json["device"], "mps");
  std::vector<std::string> keys;
  for (const auto& kernel : json["kernels"]) {
    if (kernel["device"] == "mps" && kernel["runs_here"]) keys.push_back(kernel["key"]);
  }
  EXPECT_THAT(keys, testing::UnorderedElementsAre("metal", "chunkwise--ray_compiled_steps",
                                                  "chunkwise--queued_compiled_steps", "chunkwise--native_compiled",
                                                  "chunkwise--metal", "native_sequence__metal", "metal"));
}

// Every kernel × dtype × shape against the native CPU kernels, and the bundled model's goldens.
TEST(MetalProgram, TheSelftestPasses) {
  const ProgramResult result = run({"selftest", "--device", "mps", "--json", "--speed", "E=64,heads=2,vocab=96"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  const auto report = nlohmann::json::parse(result.out);
  EXPECT_EQ(report["failed"], 0);
  EXPECT_TRUE(report["model_checked"]);
  std::vector<std::string> kernels;
  for (const auto& c : report["cases"]) kernels.push_back(c["kernel"]);
  EXPECT_THAT(kernels, testing::Contains("ops metal"));
  EXPECT_THAT(kernels, testing::Contains("chunkwise--metal"));
  EXPECT_THAT(kernels, testing::Contains("native_sequence__metal"));
  EXPECT_THAT(kernels, testing::Contains("model"));
  EXPECT_EQ(report["speed"].size(), 25U) << "five operations, five weight types";
  for (const auto& row : report["speed"]) {
    EXPECT_GT(row["bytes"].get<double>(), 0) << row;
    EXPECT_GT(row["gb_s"].get<double>(), 0) << row;
  }
}

TEST(PlainProgram, SaysInOneLineThatThereIsNoAppleGpu) {
  const ProgramResult result = run_program(XLSTM_PLAIN_EXECUTABLE, {"-p", "x", "--device", "mps"});
  EXPECT_EQ(result.exit_code, 4);
  EXPECT_THAT(result.err, HasSubstr("device (configuration): expected one of "));
  EXPECT_THAT(result.err, HasSubstr("mps"));
  EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
}

}  // namespace
}  // namespace xlstm::test
