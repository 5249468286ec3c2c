// The executable with a device's kernels: on an emulator the whole program but the device's own compiler and hardware.
// XLSTM_TEST_DEVICE is the kind of device, XLSTM_TEST_BACKEND the name of its kernels.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/cli/cli.h"
#include "tests/support/temp_dir.h"

namespace xlstm::test {
namespace {

using testing::HasSubstr;

const std::string kKind = XLSTM_TEST_DEVICE;
const std::string kBackend = XLSTM_TEST_BACKEND;
constexpr bool kEmulated = XLSTM_DEVICE_IS_EMULATED != 0;

// In float32 and greedily unless the arguments say otherwise.
ProgramResult on_device(std::vector<std::string> arguments) {
  arguments.insert(arguments.end(), {"--device", kKind});
  return run(arguments);
}

ProgramResult on_cpu(std::vector<std::string> arguments) {
  arguments.insert(arguments.end(), {"--device", "cpu"});
  return run_program(XLSTM_PLAIN_EXECUTABLE, arguments);
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

void expect_refusal(const ProgramResult& result, const std::vector<std::string>& parts) {
  EXPECT_EQ(result.exit_code, 4) << result.err;
  for (const std::string& part : parts) EXPECT_THAT(result.err, HasSubstr(part));
  EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
}

// Prompts of 2 to 471 tokens: steps, the sequence kernel and the chunkwise kernel, in segments. On an emulator the
// first tokens of each: `selftest` looks at all of them.
TEST(DeviceProgram, ContinuesEveryGoldenPromptAsTheReferenceDoes) {
  const nlohmann::json cases = golden_cases();
  for (const auto& [name, golden] : cases.items()) {
    std::vector<std::string> arguments = greedy(golden["prompt"], kEmulated ? 12 : 48);
    arguments.insert(arguments.end(), {"--prefill-segment", "256"});
    const ProgramResult result = on_device(arguments);
    EXPECT_EQ(result.exit_code, 0) << name << ": " << result.err;
    const std::string expected = printed(golden["greedy_text"]);
    EXPECT_EQ(result.out, kEmulated ? expected.substr(0, result.out.size()) : expected) << name;
    EXPECT_FALSE(result.out.empty()) << name;
  }
}

TEST(DeviceProgram, EveryChunkwiseBackendGivesTheSameText) {
  const auto golden = golden_cases()["unicode"];
  const std::string expected = golden["greedy_text"].get<std::string>().substr(0, 7);
  for (const std::string& backend : {kBackend, std::string("native_compiled"), std::string("ray_compiled_steps"),
                                     std::string("queued_compiled_steps"), std::string("native")}) {
    std::vector<std::string> arguments = greedy(golden["prompt"], 4);
    arguments.insert(arguments.end(), {"--chunkwise-backend", backend, "--chunk-size", "16", "--heads-per-band", "1"});
    const ProgramResult result = on_device(arguments);
    EXPECT_EQ(result.exit_code, 0) << backend << ": " << result.err;
    EXPECT_EQ(result.out.substr(0, 7), expected) << backend;
  }
}

// libtorch's own calls among commands that are collected must come in the order of the program.
TEST(DeviceProgram, MixesItsKernelsWithPlainLibtorch) {
  const auto golden = golden_cases()["short"];
  const std::string expected = on_device(greedy(golden["prompt"], 8)).out;
  EXPECT_FALSE(expected.empty());
  for (const char* native : {"--ops-backend", "--step-backend", "--sequence-backend"}) {
    std::vector<std::string> arguments = greedy(golden["prompt"], 8);
    arguments.insert(arguments.end(), {native, "native"});
    const ProgramResult result = on_device(arguments);
    EXPECT_EQ(result.exit_code, 0) << native << ": " << result.err;
    EXPECT_EQ(result.out, expected) << native;
  }
}

TEST(DeviceProgram, AStateSavedThereContinuesOnTheCpuAndBack) {
  const TempDir dir;
  const auto golden = golden_cases()["dialogue"];
  const std::string expected = golden["greedy_text"];
  const std::string state = (dir / "state").string();
  std::vector<std::string> first = greedy(golden["prompt"], 6);
  first.insert(first.end(), {"--state-save", state});
  const ProgramResult begin = on_device(first);
  ASSERT_EQ(begin.exit_code, 0) << begin.err;
  const std::vector<std::string> rest = {"--state-load", state,     "--state-save", state, "--temp", "0",
                                         "--dtype",      "float32", "-n",           "6"};
  const ProgramResult middle = on_cpu(rest);
  ASSERT_EQ(middle.exit_code, 0) << middle.err;
  const ProgramResult end = on_device(rest);
  ASSERT_EQ(end.exit_code, 0) << end.err;
  const std::string text = begin.out + middle.out + end.out;
  EXPECT_EQ(text, expected.substr(0, text.size()));
  EXPECT_GT(text.size(), 20U);
}

TEST(DeviceProgram, LoadsEveryDtype) {
  for (const char* dtype : {"float16", "bfloat16", "int8", "int4"}) {
    const std::vector<std::string> arguments = {"-p", "Once", "--temp", "0", "-n", "3", "--dtype", dtype};
    const ProgramResult device = on_device(arguments);
    EXPECT_EQ(device.exit_code, 0) << dtype << ": " << device.err;
    std::vector<std::string> native = arguments;
    native.insert(native.end(), {"--ops-backend", "native"});
    EXPECT_EQ(device.out, on_cpu(native).out) << dtype;
  }
}

TEST(DeviceProgram, AStateInBfloat16GivesText) {
  const ProgramResult result =
      on_device({"-p", "Once upon a time", "--temp", "0", "-n", "4", "--state-dtype", "bfloat16"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, testing::StartsWith(" there was")) << result.out;
}

TEST(DeviceProgram, SamplesTheTextThatTheCpuSamples) {
  const std::vector<std::string> arguments = {"-p", "A king", "-n", "12", "--seed", "3", "--dtype", "float32"};
  const ProgramResult device = on_device(arguments);
  EXPECT_EQ(device.exit_code, 0) << device.err;
  EXPECT_EQ(device.out, on_cpu(arguments).out);
}

TEST(DeviceProgram, MeasuresItsSpeed) {
  const ProgramResult result = on_device({"bench", "--shape", "E=64,blocks=2,heads=2,vocab=96", "-p", "32", "-n", "8",
                                          "-b", "1,3", "-r", "1", "--chunk-size", "16", "-o", "json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const auto rows = nlohmann::json::parse(result.out)["rows"];
  ASSERT_EQ(rows.size(), 4U);
  for (const auto& row : rows) EXPECT_GT(row["tok_s"].get<double>(), 0) << row;
}

TEST(DeviceProgram, AutoPicksItAndInfoListsItsKernels) {
  const ProgramResult info = run({"info", "--json"});
  ASSERT_EQ(info.exit_code, 0) << info.err;
  const auto json = nlohmann::json::parse(info.out);
  EXPECT_EQ(json["device"], kKind == "cuda" ? "cuda:0" : kKind);
  std::vector<std::string> keys;
  for (const auto& kernel : json["kernels"]) {
    if (kernel["device"] == kKind && kernel["runs_here"]) keys.push_back(kernel["key"]);
  }
  EXPECT_THAT(keys, testing::UnorderedElementsAre(kBackend, "chunkwise--ray_compiled_steps",
                                                  "chunkwise--queued_compiled_steps", "chunkwise--native_compiled",
                                                  "chunkwise--" + kBackend, "native_sequence__" + kBackend, kBackend));
}

// Every kernel × dtype × shape against the native CPU kernels, and the bundled model's goldens.
TEST(DeviceProgram, TheSelftestPasses) {
  if (kKind == "cuda" && kEmulated) {
    GTEST_SKIP() << "NOT RUN: takes a quarter of an hour without an NVIDIA GPU; test_kernels_cuda has its kernels";
  }
  const ProgramResult result = on_device({"selftest", "--json", "--speed", "E=64,heads=2,vocab=96"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  const auto report = nlohmann::json::parse(result.out);
  EXPECT_EQ(report["failed"], 0);
  EXPECT_TRUE(report["model_checked"]);
  std::vector<std::string> kernels;
  for (const auto& c : report["cases"]) {
    kernels.push_back(c["kernel"]);
    EXPECT_TRUE(c["passed"]) << c;
  }
  EXPECT_THAT(kernels, testing::Contains("ops " + kBackend));
  EXPECT_THAT(kernels, testing::Contains("chunkwise--" + kBackend));
  EXPECT_THAT(kernels, testing::Contains("native_sequence__" + kBackend));
  EXPECT_THAT(kernels, testing::Contains("model"));
  EXPECT_EQ(report["speed"].size(), 25U) << "five operations, five weight types";
  for (const auto& row : report["speed"]) {
    EXPECT_GT(row["bytes"].get<double>(), 0) << row;
    EXPECT_GT(row["gb_s"].get<double>(), 0) << row;
  }
}

TEST(DeviceProgram, RefusesVariablesThatTradePrecisionForSpeed) {
  const char* const name = kKind == "cuda" ? "NVIDIA_TF32_OVERRIDE" : "PYTORCH_MPS_FAST_MATH";
  ::setenv(name, "1", 1);
  expect_refusal(on_device({"-p", "x"}), {name, "(environment)", "got 1"});
  EXPECT_EQ(on_cpu({"-p", "x", "-n", "1"}).exit_code, 0);
  ::unsetenv(name);
}

TEST(CudaProgram, TakesADeviceByItsNumber) {
  if (kKind != "cuda" || !kEmulated) GTEST_SKIP() << "NOT RUN: needs the emulated devices cuda:0 to cuda:2";
  const auto golden = golden_cases()["short"];
  std::vector<std::string> arguments = greedy(golden["prompt"], 4);
  const std::string expected = on_device(arguments).out;
  arguments.insert(arguments.end(), {"--device", "cuda:1"});
  const ProgramResult second = run(arguments);
  EXPECT_EQ(second.exit_code, 0) << second.err;
  EXPECT_EQ(second.out, expected);
  EXPECT_THAT(second.err, HasSubstr("device cuda:1"));
  expect_refusal(run({"-p", "x", "--device", "cuda:2"}), {"one of cuda:0, cuda:1, cpu, got cuda:2 (too old)"});
}

TEST(CudaProgram, SaysWhichDevicesThereAre) {
  if (kKind != "cuda") GTEST_SKIP() << "NOT RUN: the device is " << kKind;
  expect_refusal(run({"-p", "x", "--device", "cuda:99"}),
                 {"device (configuration): expected one of cuda:0, ", "got cuda:99 (a device that this machine"});
}

TEST(PlainProgram, SaysInOneLineThatThereIsNoSuchDevice) {
  if (!kEmulated) GTEST_SKIP() << "NOT RUN: this machine has the device";
  expect_refusal(run_program(XLSTM_PLAIN_EXECUTABLE, {"-p", "x", "--device", kKind}),
                 {"device (configuration): expected one of ", kKind});
}

}  // namespace
}  // namespace xlstm::test
