// The executable as a user runs it: standard output, standard error, exit codes and files of a generation.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/cli/cli.h"
#include "xlstm/core/str.h"
#include "xlstm/io/safetensors.h"

namespace xlstm::test {
namespace {

using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

std::vector<int64_t> id_list(const std::string& text) {
  std::istringstream in(text);
  return {std::istream_iterator<int64_t>(in), std::istream_iterator<int64_t>()};
}

TEST(Generate, ContinuesAPromptGreedilyAsTheReferenceDoes) {
  const auto golden = nlohmann::json::parse(std::ifstream(goldens() / "tales/golden.json"))["cases"]["short"];
  const ProgramResult result =
      run({"-p", golden["prompt"], "--temp", "0", "-n", "48", "--dtype", "float32", "--device", "cpu"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.out, golden["greedy_text"].get<std::string>());
  EXPECT_THAT(result.err, HasSubstr("bundled"));
  EXPECT_THAT(result.err, HasSubstr("prompt: 5 tokens"));
  EXPECT_THAT(result.err, HasSubstr("decode: 48 tokens"));
}

TEST(Generate, RunsEntirelyOnTheNativeOracle) {
  const ProgramResult native =
      run({"-p", "The", "--temp", "0", "-n", "12", "--dtype", "float32", "--ops-backend", "native", "--step-backend",
           "native", "--sequence-backend", "native", "--chunkwise-backend", "native"});
  EXPECT_EQ(native.exit_code, 0) << native.err;
  EXPECT_EQ(native.out, run({"-p", "The", "--temp", "0", "-n", "12", "--dtype", "float32"}).out);
  EXPECT_THAT(native.err, HasSubstr("chunkwise--native"));
}

TEST(Generate, EqualSeedsGiveEqualTextsAndASeedIsLogged) {
  const ProgramResult first = run({"-p", "A king", "-n", "20", "--seed", "3"});
  EXPECT_EQ(first.out, run({"-p", "A king", "-n", "20", "-s", "3"}).out);
  EXPECT_NE(first.out, run({"-p", "A king", "-n", "20", "-s", "4"}).out);
  EXPECT_THAT(run({"-p", "A king", "-n", "1"}).err, HasSubstr("seed "));
}

TEST(Generate, TakesThePromptFromAFileFromStdinAndFromIds) {
  const TempDir dir;
  const std::string expected = run({"-p", "Once upon a time", "--temp", "0", "-n", "8"}).out;
  const std::string file = dir.file("prompt.txt", "Once upon a time\n").string();
  EXPECT_EQ(run({"-f", file, "--temp", "0", "-n", "8"}).out, expected) << "one trailing newline is dropped";
  EXPECT_EQ(run({"--temp", "0", "-n", "8"}, {"Once upon a time", true, {}}).out, expected);
  EXPECT_EQ(run({"-f", "-", "--temp", "0", "-n", "8"}, {"Once upon a time\n", true, {}}).out, expected);
  std::string ids = run({"tokenize", "-p", "Once upon a time", "--add-bos"}).out;
  ids.pop_back();
  std::replace(ids.begin(), ids.end(), ' ', ',');
  EXPECT_EQ(run({"--prompt-ids", ids, "--temp", "0", "-n", "8"}).out, expected) << "ids are fed exactly as given";
}

TEST(Generate, InterpretsEscapesOnlyWhenAsked) {
  const std::vector<std::string> greedy = {"--temp", "0", "-n", "4", "--echo"};
  std::vector<std::string> plain = {"-p", "a\\nb"};
  plain.insert(plain.end(), greedy.begin(), greedy.end());
  EXPECT_THAT(run(plain).out, StartsWith("a\\nb"));
  plain.push_back("-e");
  EXPECT_THAT(run(plain).out, StartsWith("a\nb"));
}

TEST(Generate, StopStringsEndTheTextBeforeThem) {
  const ProgramResult result =
      run({"-p", "Once upon a time", "--temp", "0", "-n", "48", "--stop", " wife. The", "--dtype", "float32"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(result.out, " there was a king who had a wife and a");
  EXPECT_THAT(result.err, HasSubstr("stop string"));
}

TEST(Generate, EndOfTextStopsAndIsNotPrinted) {
  const std::string prompt = "Das Mädchen sagte: « Où est le roi ? » — 你好";
  const ProgramResult stopped = run({"-p", prompt, "--temp", "0", "-n", "48", "--dtype", "float32"});
  EXPECT_EQ(stopped.out, "rchen.)\n\n(22) Grimm.");
  EXPECT_THAT(stopped.err, HasSubstr("end of text"));
  const ProgramResult ignored = run({"-p", prompt, "--temp", "0", "-n", "48", "--dtype", "float32", "--ignore-eos"});
  EXPECT_THAT(ignored.out, StartsWith("rchen.)\n\n(22) Grimm.THE STORY"));
}

TEST(Generate, ASavedStateContinuesWithTheIdsOfOneRun) {
  const TempDir dir;
  const std::string state = (dir / "state").string();
  for (const std::string cut : {"0", "13"}) {
    SCOPED_TRACE(cut);
    const ProgramResult whole =
        run({"-p", "The old man", "-s", "5", "-n", "40", "--dump-logits", (dir / "whole").string()});
    ASSERT_EQ(whole.exit_code, 0) << whole.err;
    const ProgramResult first = run({"-p", "The old man", "-s", "5", "-n", cut, "--state-save", state});
    ASSERT_EQ(first.exit_code, 0) << first.err;
    const ProgramResult rest = run(
        {"--state-load", state, "-n", std::to_string(40 - std::stoi(cut)), "--dump-logits", (dir / "rest").string()});
    ASSERT_EQ(rest.exit_code, 0) << rest.err;
    EXPECT_EQ(first.out + rest.out, whole.out);
    const auto ids = [&](const char* name) {
      const SafetensorsFile file(dir / name);
      const TensorView* tensor = file.find("ids");
      std::vector<int64_t> values(tensor->bytes.size() / sizeof(int64_t));
      std::memcpy(values.data(), tensor->bytes.data(), tensor->bytes.size());
      return values;
    };
    const std::vector<int64_t> all = ids("whole");
    EXPECT_EQ(ids("rest"), (std::vector<int64_t>(all.begin() + std::stoi(cut), all.end())));
  }
}

TEST(Generate, ALoadedStateGoesOnWithAPromptFromAPipeWithoutAnotherBos) {
  const TempDir dir;
  const std::string state = (dir / "state").string();
  ASSERT_EQ(run({"-p", "Once", "-n", "0", "--state-save", state, "--dtype", "float32"}).exit_code, 0);
  const std::string whole = run({"-p", "Once upon a time", "-n", "8", "--temp", "0", "--dtype", "float32"}).out;
  const std::vector<std::string> rest = {"--state-load", state, "-n", "8", "--temp", "0", "--dtype", "float32"};
  const ProgramResult piped = run(rest, {" upon a time", true, {}});
  EXPECT_EQ(piped.out, whole);
  EXPECT_THAT(piped.err, HasSubstr("prompt: 3 tokens"));
}

TEST(Generate, WarnsThatAStateOfAnotherTypeMayContinueDifferently) {
  const TempDir dir;
  const std::string state = (dir / "state").string();
  ASSERT_EQ(run({"-p", "Once", "-n", "2", "--state-save", state, "--state-dtype", "bfloat16"}).exit_code, 0);
  EXPECT_THAT(run({"--state-load", state, "-n", "1"}).err, HasSubstr("may differ"));
  EXPECT_THAT(run({"--state-load", state, "-n", "1", "--state-dtype", "bfloat16"}).err, Not(HasSubstr("may differ")));
}

TEST(Generate, WarnsAboutSettingsThatHaveNoEffectWhereverTheyComeFrom) {
  const TempDir dir;
  const std::string config =
      dir.file("c.json", "{\"ray_keep_alive\": 1, \"ray_dashboard\": 1, \"workers\": 0}").string();
  const std::vector<std::string> plain = {"-p", "x", "-n", "1", "--device", "cpu"};
  const auto warning = [&](std::vector<std::string> more) {
    more.insert(more.begin(), plain.begin(), plain.end());
    return run(more).err;
  };
  EXPECT_THAT(warning({"--config", config, "--streams", "2"}),
              HasSubstr("without effect: streams on cpu; ray_dashboard, ray_keep_alive with ray_local_mode 1\n"));
  EXPECT_THAT(warning({"--chunkwise-backend", "cpu", "--workers", "3"}),
              HasSubstr("without effect: workers with chunkwise--cpu\n"));
  EXPECT_THAT(warning({"--workers", "3", "--heads-per-band", "2"}), Not(HasSubstr("without effect")));
  EXPECT_THAT(run({"-p", "x", "-n", "1"}).err, Not(HasSubstr("without effect")));
}

TEST(Generate, RefusesTamperedTruncatedAndForeignStates) {
  const TempDir dir;
  const std::string state = (dir / "state").string();
  ASSERT_EQ(run({"-p", "The", "-n", "2", "--state-save", state}).exit_code, 0);
  const std::string good = read_all(state);
  const auto refused = [&](const std::string& bytes) {
    const std::string bad = dir.file("bad", bytes).string();
    const ProgramResult result = run({"--state-load", bad, "-n", "1"});
    EXPECT_EQ(result.exit_code, 3);
    EXPECT_THAT(last_line(result.err), StartsWith("error: "));
    EXPECT_THAT(result.err, HasSubstr(bad));
    EXPECT_EQ(result.out, "");
  };
  for (const size_t at : {size_t{3}, good.size() / 2, good.size() - 1}) {
    std::string tampered = good;
    tampered[at] = static_cast<char>(tampered[at] ^ 4);
    refused(tampered);
  }
  refused(good.substr(0, good.size() / 3));
  refused("");
  const ProgramResult foreign =
      run({"-m", (goldens() / "zoo/single_f32").string(), "--state-load", state, "-n", "1", "--prompt-ids", "1"});
  EXPECT_EQ(foreign.exit_code, 3);
  EXPECT_THAT(last_line(foreign.err), HasSubstr(state));
}

TEST(Generate, DumpsLogitsInTheDocumentedForm) {
  const TempDir dir;
  const std::string path = (dir / "logits.safetensors").string();
  ASSERT_EQ(run({"-p", "The", "--temp", "0", "-n", "3", "--dump-logits", path}).exit_code, 0);
  const SafetensorsFile file(path);
  EXPECT_EQ(file.find("prompt_ids")->shape, (std::vector<int64_t>{2}));
  EXPECT_EQ(file.find("prompt_logits")->shape, (std::vector<int64_t>{2, 4096}));
  EXPECT_EQ(file.find("ids")->shape, (std::vector<int64_t>{3}));
  EXPECT_EQ(file.find("logits")->shape, (std::vector<int64_t>{3, 4096}));
  EXPECT_EQ(file.find("ids")->dtype, DType::I64);
  EXPECT_EQ(file.find("logits")->dtype, DType::F32);
  EXPECT_EQ(dir.entries(), 1);
}

TEST(Generate, WritesAStatsLog) {
  const TempDir dir;
  const std::string path = (dir / "stats.csv").string();
  ASSERT_EQ(run({"-p", "The", "-n", "11", "--ignore-eos", "--stats-log", path, "--stats-every", "5"}).exit_code, 0);
  std::ifstream in(path);
  std::string line;
  std::getline(in, line);
  EXPECT_EQ(line, "step,dt_ms,cum_ms,inst_tok_s,avg_tok_s");
  int rows = 0;
  while (std::getline(in, line)) ++rows;
  EXPECT_EQ(rows, 2);
}

TEST(Generate, WithoutATokenizerWorksOnIdsAndPrintsIds) {
  const std::string model = (goldens() / "zoo/single_f32").string();
  const ProgramResult result = run({"-m", model, "--prompt-ids", "1,2,3", "--temp", "0", "-n", "5"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(id_list(result.out).size(), 5U);
  const ProgramResult text = run({"-m", model, "-p", "hello", "-n", "1"});
  EXPECT_EQ(text.exit_code, 3);
  EXPECT_THAT(last_line(text.err), HasSubstr("tokenizer.json"));
}

TEST(Generate, RunsWithoutAnyPromptFromTheStartOfText) {
  const ProgramResult result = run({"-n", "5", "-s", "1"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_NE(result.out, "");
  EXPECT_THAT(result.err, HasSubstr("prompt: 1 token "));
  EXPECT_EQ(run({"-n", "5", "--no-add-bos"}).exit_code, 2) << "nothing at all to start from";
}

struct BadCall {
  std::vector<std::string> arguments;
  int exit_code;
  std::vector<std::string> parts;
};

void PrintTo(const BadCall& call, std::ostream* out) {
  *out << testing::PrintToString(call.arguments);
}

class BadCalls : public testing::TestWithParam<BadCall> {};

TEST_P(BadCalls, EndInOneLineAndTheDocumentedExitCode) {
  const ProgramResult result = run(GetParam().arguments);
  EXPECT_EQ(result.exit_code, GetParam().exit_code) << result.err;
  EXPECT_EQ(result.out, "");
  const std::string line = last_line(result.err);
  EXPECT_THAT(line, StartsWith("error: "));
  for (const std::string& part : GetParam().parts) EXPECT_THAT(line, HasSubstr(part));
}

INSTANTIATE_TEST_SUITE_P(
    CommandLine, BadCalls,
    testing::Values(
        BadCall{{"-p", "x", "--step-backend", "metal", "--device", "cpu"}, 4, {"step_backend", "native, cpu", "metal"}},
        BadCall{{"-p", "x", "--device", "cuda:7"}, 4, {"device", "cpu", "cuda:7"}},
        BadCall{{"-p", "x", "--device", "tpu"}, 2, {"device", "tpu"}},
        BadCall{{"-p", "x", "--dtype", "int2"}, 2, {"dtype", "int8, int4", "int2"}},
        BadCall{{"-p", "x", "--chunk-siz", "3"}, 2, {"--chunk-size"}},
        BadCall{{"-p", "x", "--chunk-size", "0"}, 2, {"chunk-size", "1", "0"}},
        BadCall{{"-p", "x", "--chunk-size", "1e3"}, 2, {"chunk-size", "1e3"}},
        BadCall{{"-p", "x", "--temp", "nan"}, 2, {"temp"}}, BadCall{{"-p", "x", "--stop", ""}, 2, {"stop"}},
        BadCall{{"-p", "x", "-m", "/no/such/model"}, 3, {"/no/such/model"}},
        BadCall{{"-p", "x", "-m", "NX-AI/xLSTM-7b"}, 3, {"NX-AI/xLSTM-7b", "download"}},
        BadCall{{"-p", "\xff\xfe", "-n", "1"}, 2, {"UTF-8"}},
        BadCall{{"-f", "/no/such/prompt", "-n", "1"}, 2, {"/no/such/prompt"}},
        BadCall{{"-f", "/tmp", "-n", "1"}, 2, {"/tmp"}},
        BadCall{{"--prompt-ids", "1,4096", "-n", "1"}, 2, {"4095", "4096"}},
        BadCall{{"--prompt-ids", "1,x"}, 2, {"prompt-ids", "x"}},
        BadCall{{"--profile", "golden_rai"}, 2, {"golden_rai", "golden_ray"}},
        BadCall{{"--config", "/no/such.json"}, 2, {"/no/such.json"}},
        BadCall{{"--state-load", "/no/such/state"}, 3, {"/no/such/state"}},
        BadCall{{"frobnicate"}, 2, {"frobnicate"}}));

TEST(Generate, ReportsAPlaceThatCannotBeWrittenBeforeTheWork) {
  const ProgramResult result =
      run({"-p", "Once upon a time", "--temp", "0", "-n", "3", "--state-save", "/no/such/folder/state"});
  EXPECT_EQ(result.exit_code, 6);
  EXPECT_EQ(result.out, "");
  EXPECT_THAT(last_line(result.err), HasSubstr("/no/such/folder/state"));
}

TEST(Generate, RefusesOutputsThatWouldOverwriteEachOtherOrTheModel) {
  const TempDir dir;
  const std::string path = (dir / "a").string();
  for (const std::vector<std::string>& outputs :
       std::vector<std::vector<std::string>>{{"--state-save", path, "--dump-logits", dir.path().string() + "/./a"},
                                             {"--log-file", path, "--stats-log", path},
                                             {"--stats-log", "/dev/stdout"}}) {
    SCOPED_TRACE(testing::PrintToString(outputs));
    std::vector<std::string> arguments = {"-p", "x", "-n", "1"};
    arguments.insert(arguments.end(), outputs.begin(), outputs.end());
    EXPECT_EQ(run(arguments).exit_code, 2);
  }
  std::filesystem::copy(goldens() / "zoo/single_f32", dir / "model");
  const std::string weights = (dir / "model/model.safetensors").string();
  const std::string before = read_all(weights);
  EXPECT_EQ(run({"-m", (dir / "model").string(), "--prompt-ids", "1", "-n", "1", "--state-save", weights}).exit_code,
            2);
  EXPECT_EQ(read_all(weights), before);
}

TEST(Generate, AFileSizeLimitIsAnErrorThatLeavesNoFile) {
  const TempDir dir;
  const std::string command = cat("ulimit -f 1; cd '", dir.path().string(), "'; '", executable(),
                                  "' -p x -n 2 --state-save state >out 2>err </dev/null");
  EXPECT_EQ(exit_code_of(std::system(command.c_str())), 6);
  EXPECT_THAT(last_line(read_all(dir / "err")), StartsWith("error: "));
  EXPECT_EQ(dir.entries(), 2) << "out and err only";
}

TEST(Generate, EndsQuietlyWhenTheReaderOfItsOutputGoesAway) {
  const TempDir dir;
  const std::string err = (dir / "err").string();
  const std::string code = (dir / "code").string();
  const std::string command = cat("{ '", executable(), "' -p Once -n 400 --ignore-eos 2>'", err, "'; echo $? >'", code,
                                  "'; } | head -c 5 >/dev/null");
  ASSERT_EQ(std::system(command.c_str()), 0);
  EXPECT_EQ(read_all(code), "141\n");
  EXPECT_THAT(read_all(err), Not(HasSubstr("error")));
}

TEST(Generate, NeverWritesResultsIntoAnotherFileWhenStandardOutputIsClosed) {
  const TempDir dir;
  const std::string state = (dir / "state").string();
  const std::string command =
      cat("'", executable(), "' -p Once -n 4 --state-save '", state, "' >&- 2>'", (dir / "err").string(), "' <&-");
  EXPECT_EQ(exit_code_of(std::system(command.c_str())), 6);
  EXPECT_THAT(last_line(read_all(dir / "err")), HasSubstr("standard output"));
  EXPECT_EQ(dir.entries(), 1) << "no state of a run that failed";
}

TEST(Generate, ReportsAFullOutputDevice) {
  if (!std::filesystem::exists("/dev/full")) GTEST_SKIP() << "NOT RUN: this system has no /dev/full";
  const TempDir dir;
  const std::string err = (dir / "err").string();
  const std::string command = cat("'", executable(), "' -p Once -n 4 >/dev/full 2>'", err, "' </dev/null");
  EXPECT_EQ(exit_code_of(std::system(command.c_str())), 6);
  EXPECT_THAT(last_line(read_all(err)), HasSubstr("standard output"));
}

TEST(Generate, DoesNotDependOnTheEnvironment) {
  ::setenv("OMP_NUM_THREADS", "1", 1);
  const ProgramResult with = run({"-p", "Once", "--temp", "0", "-n", "5"});
  ::unsetenv("OMP_NUM_THREADS");
  EXPECT_EQ(with.out, run({"-p", "Once", "--temp", "0", "-n", "5"}).out);
}

}  // namespace
}  // namespace xlstm::test
