// The other commands of the executable, as a user runs them.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "tests/cli/cli.h"
#include "xlstm/core/str.h"

namespace xlstm::test {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

TEST(PrintEffectiveConfig, ShowsValuesOriginsLayersAndWhatWillRun) {
  const ProgramResult result = run({"--print-effective-config", "--device", "cpu", "--chunk-size", "48"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const json config = json::parse(result.out);
  EXPECT_EQ(config["chunk_size"], 48);
  EXPECT_EQ(config["_origin"]["chunk_size"], "command line");
  EXPECT_THAT(config["_origin"]["heads_per_band"].get<std::string>(), HasSubstr("golden_ray_cpu.json"));
  EXPECT_EQ(config["_layers"][0]["source"], "compiled defaults");
  EXPECT_EQ(config["_resolved"]["device"], "cpu");
  EXPECT_EQ(config["_resolved"]["chunkwise"], "chunkwise--ray_compiled_steps");
  EXPECT_EQ(config["_resolved"]["step"], "cpu");
}

TEST(PrintEffectiveConfig, FedBackThroughConfigReproducesItself) {
  const TempDir dir;
  const ProgramResult first = run({"--print-effective-config", "--temp", "0.3", "--stop", "END", "--stop", "\n\n",
                                   "--no-add-bos", "--profile", "golden_queued", "--seed", "12"});
  ASSERT_EQ(first.exit_code, 0) << first.err;
  const std::string file = dir.file("config.json", first.out).string();
  const ProgramResult second = run({"--print-effective-config", "--config", file});
  ASSERT_EQ(second.exit_code, 0) << second.err;
  json a = json::parse(first.out);
  json b = json::parse(second.out);
  EXPECT_EQ(b["_origin"]["temperature"], file);
  for (json* config : {&a, &b}) {
    config->erase("_origin");
    config->erase("_layers");
  }
  EXPECT_EQ(a, b);
}

TEST(PrintEffectiveConfig, WorksWithoutACheckpointAndWithADamagedOne) {
  const TempDir dir;
  EXPECT_EQ(run({"--print-effective-config", "-m", (dir / "nothing").string()}).exit_code, 0);
  (void)dir.file("config.json", "{");
  EXPECT_EQ(run({"--print-effective-config", "-m", dir.path().string()}).exit_code, 0);
}

TEST(PrintEffectiveConfig, PrintsEverythingForADeviceThatIsAbsentAndExits4) {
  const ProgramResult result = run({"--print-effective-config", "--device", "cuda:9"});
  EXPECT_EQ(result.exit_code, 4);
  const json config = json::parse(result.out);
  EXPECT_EQ(config["device"], "cuda:9");
  EXPECT_THAT(last_line(result.err), AllOf(StartsWith("error: "), HasSubstr("cuda:9")));
  EXPECT_THAT(config["_resolved"]["error"].get<std::string>(), HasSubstr("cuda:9"));
}

TEST(Info, ListsDevicesKernelsThreadsAndModelFacts) {
  const ProgramResult text = run({"info", "--device", "cpu"});
  ASSERT_EQ(text.exit_code, 0) << text.err;
  for (const char* part : {"chunkwise--queued_compiled_steps", "native_sequence__cpu", "threads:", "8542528"}) {
    EXPECT_THAT(text.out, HasSubstr(part));
  }
  const json info = json::parse(run({"info", "--device", "cpu", "--json"}).out);
  EXPECT_EQ(info["model"]["parameters"], 8542528);
  EXPECT_EQ(info["model"]["state_bytes_per_sequence"], 8 * 4 * (32 * 64 + 32 + 1) * 4);
}

TEST(Tokenize, RoundTripsTextAndIds) {
  EXPECT_EQ(run({"tokenize", "-p", "Hello, world!"}).out, "41 420 80 13 1000 2\n");
  EXPECT_EQ(run({"tokenize", "-p", "Hello, world!", "--add-bos"}).out, "0 41 420 80 13 1000 2\n");
  EXPECT_EQ(run({"tokenize", "--decode", "-p", "41 420 80 13 1000 2"}).out, "Hello, world!\n");
  EXPECT_EQ(run({"tokenize"}, {"Hello, world!\n", true, {}}).out, "41 420 80 13 1000 2\n");
}

TEST(Tokenize, WorksLineByLineOnJson) {
  const std::string lines = "{\"text\": \"Hello, world!\"}\n\n{\"text\": \"\"}\n";
  const ProgramResult encoded = run({"tokenize", "--jsonl"}, {lines, true, {}});
  EXPECT_EQ(encoded.out, "{\"ids\":[41,420,80,13,1000,2]}\n{\"ids\":[]}\n");
  EXPECT_EQ(run({"tokenize", "--jsonl", "--decode"}, {encoded.out, true, {}}).out,
            "{\"text\":\"Hello, world!\"}\n{\"text\":\"\"}\n");
}

TEST(Tokenize, NamesTheLineThatIsWrong) {
  for (const char* bad : {"{\"txt\": 1}", "nonsense", "[1]", "{\"text\": 5}"}) {
    const ProgramResult result = run({"tokenize", "--jsonl"}, {std::string("{\"text\": \"a\"}\n") + bad, true, {}});
    EXPECT_EQ(result.exit_code, 2) << bad;
    EXPECT_THAT(last_line(result.err), HasSubstr("line 2"));
  }
  EXPECT_EQ(run({"tokenize", "--decode", "-p", "1 2 three"}).exit_code, 2);
  EXPECT_EQ(run({"tokenize", "--decode", "-p", "99999"}).exit_code, 2);
  EXPECT_EQ(run({"tokenize"}).exit_code, 2) << "no text at all";
}

TEST(Tokenize, SurvivesDeeplyNestedInput) {
  const std::string nested(300000, '[');
  for (const std::string& line : {nested, nested + std::string(300000, ']')}) {
    const ProgramResult result = run({"tokenize", "--jsonl"}, {line, true, {}});
    EXPECT_EQ(result.exit_code, 2);
    EXPECT_THAT(last_line(result.err), StartsWith("error: "));
  }
  EXPECT_EQ(run({"tokenize", "--jsonl"}, {R"({"text": "a", "text": "b"})", true, {}}).exit_code, 2) << "a key twice";
}

TEST(Tokenize, ReadsStandardInputFromWhereItStands) {
  const TempDir dir;
  const std::string file = dir.file("lines", "skipped\nHello, world!\n").string();
  const std::string out = (dir / "out").string();
  const std::string command =
      cat("{ read -r line; '", executable(), "' tokenize; } <'", file, "' >'", out, "' 2>/dev/null");
  ASSERT_EQ(std::system(command.c_str()), 0);
  EXPECT_EQ(read_all(out), "41 420 80 13 1000 2\n");
}

TEST(Perplexity, OfTheValidationDocumentsEqualsTheReference) {
  const json golden = json::parse(std::ifstream(goldens() / "tales/golden.json"))["perplexity"];
  const ProgramResult result = run({"perplexity", "-f", (goldens() / "tales/val_docs.json").string(), "--max-ids",
                                    "1025", "--dtype", "float32", "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const json scores = json::parse(result.out);
  EXPECT_EQ(scores["tokens"], golden["tokens"]);
  EXPECT_NEAR(scores["nll"].get<double>(), golden["nll"].get<double>(), 1e-5 * golden["nll"].get<double>());
  EXPECT_NEAR(scores["ppl"].get<double>(), golden["ppl"].get<double>(), 1e-4 * golden["ppl"].get<double>());
  EXPECT_EQ(scores["documents"].size(), 4U);
}

TEST(Perplexity, ReadsTextAndJsonLines) {
  const TempDir dir;
  const std::string text = dir.file("a.txt", "Once upon a time there was a king.").string();
  const std::string lines =
      dir.file("a.jsonl", "{\"text\": \"Once upon a time there was a king.\"}\n{\"ids\": [66, 67]}\n").string();
  const json one = json::parse(run({"perplexity", "-f", text, "--json"}).out);
  const json two = json::parse(run({"perplexity", "-f", lines, "--json"}).out);
  EXPECT_EQ(one["documents"][0], two["documents"][0]);
  EXPECT_EQ(two["documents"][1]["tokens"], 2);
}

TEST(Perplexity, RefusesFilesThatHoldNoDocuments) {
  const TempDir dir;
  for (const auto& [name, content] :
       std::vector<std::pair<std::string, std::string>>{{"a.json", "{}"},
                                                        {"b.json", "[1]"},
                                                        {"c.json", "[]"},
                                                        {"d.json", "["},
                                                        {"e.jsonl", "{\"ids\": [\"x\"]}"},
                                                        {"f.jsonl", ""},
                                                        {"g.txt", "\xff"},
                                                        {"h.txt", ""},
                                                        {"i.jsonl", "{\"ids\": [1, 100000000000]}"},
                                                        {"j.jsonl", "{\"ids\": [-1]}"},
                                                        {"k.jsonl", "{\"ids\": [4096]}"}}) {
    const std::string file = dir.file(name, content).string();
    const ProgramResult result = run({"perplexity", "-f", file});
    EXPECT_EQ(result.exit_code, 2) << name << ": " << result.err;
    EXPECT_THAT(last_line(result.err), StartsWith("error: "));
  }
}

TEST(PrintEffectiveConfig, SurvivesAPathThatIsNotUtf8) {
  const TempDir dir;
  const std::string file = dir.file("d\xff.json", "{\"chunk_size\": 16}").string();
  const ProgramResult result = run({"--print-effective-config", "--config", file});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(json::parse(result.out)["chunk_size"], 16);
}

TEST(Check, DoesNotWaitForANamedPipeInACheckpoint) {
  const TempDir dir;
  std::filesystem::copy(goldens() / "zoo/single_f32", dir.path(), std::filesystem::copy_options::recursive);
  std::filesystem::remove(dir / "config.json");
  ASSERT_EQ(::mkfifo((dir / "config.json").c_str(), 0600), 0);
  EXPECT_EQ(run({"check", "-m", dir.path().string()}).exit_code, 3);
}

TEST(Check, ListsTensorsAndSaysThatNothingIsMissing) {
  const ProgramResult result = run({"check"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("backbone.blocks.7.ffn.proj_down.weight"));
  EXPECT_THAT(result.out, HasSubstr("complete"));
  const json report = json::parse(run({"check", "--json"}).out);
  EXPECT_EQ(report["parameters"], 8542528);
  EXPECT_TRUE(report["problems"].empty());
}

TEST(Check, SaysWhatFetchesAModelThatIsNotHere) {
  const ProgramResult name = run({"check", "NX-AI/xLSTM-7b"});
  EXPECT_EQ(name.exit_code, 3);
  EXPECT_THAT(last_line(name.err), HasSubstr("scripts/download_model.sh NX-AI/xLSTM-7b --to DIR"));
  const TempDir empty;
  const ProgramResult directory = run({"check", empty.path().string()});
  EXPECT_EQ(directory.exit_code, 3);
  EXPECT_THAT(last_line(directory.err), HasSubstr("--to " + empty.path().string()));
}

TEST(Check, NamesWhatIsWrongAndExits3) {
  const TempDir dir;
  std::filesystem::copy(goldens() / "zoo/single_f32", dir.path(), std::filesystem::copy_options::recursive);
  json config = json::parse(std::ifstream(dir / "config.json"));
  config["num_blocks"] = 3;
  config["num_hidden_layers"] = 3;
  std::ofstream(dir / "config.json") << config.dump();
  const ProgramResult result = run({"check", "-m", dir.path().string()});
  EXPECT_EQ(result.exit_code, 3);
  EXPECT_THAT(result.out, HasSubstr("problem: "));
  EXPECT_THAT(last_line(result.err), StartsWith("error: "));
}

TEST(Bench, PrintsEveryFormat) {
  const std::vector<std::string> small = {"bench", "--shape", "E=32,blocks=1,heads=2,vocab=64", "-p", "8", "-n", "2",
                                          "-r",    "1"};
  for (const char* format : {"table", "csv", "json", "jsonl", "md"}) {
    std::vector<std::string> arguments = small;
    arguments.insert(arguments.end(), {"-o", format});
    const ProgramResult result = run(arguments);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    EXPECT_THAT(result.out, HasSubstr("prefill")) << format;
    EXPECT_THAT(result.out, HasSubstr("decode")) << format;
  }
  const json report = json::parse(run({"bench", "--shape", "E=32,blocks=1,heads=2,vocab=64", "-p", "8", "-n", "0", "-b",
                                       "1,2", "-r", "1", "-o", "json"})
                                      .out);
  EXPECT_EQ(report["rows"].size(), 2U);
  EXPECT_EQ(run({"bench", "--shape", "E=65536,blocks=1000"}).exit_code, 5) << "terabytes of weights";
  EXPECT_EQ(run({"bench", "-p", "0", "-n", "0"}).exit_code, 2);
  EXPECT_EQ(run({"bench", "--shape", "huge"}).exit_code, 2);
  EXPECT_EQ(run({"bench", "--shape", "7b", "-b", "9223372036854775807"}).exit_code, 2);
}

// A tree as cmake --install makes it, with its own copy of the goldens.
class InstalledTree {
 public:
  InstalledTree() {
    const std::filesystem::path share = dir_ / "share/xlstm_generate";
    std::filesystem::create_directories(share / "models");
    std::filesystem::create_directories(share / "goldens");
    std::filesystem::create_directories(dir_ / "bin");
    std::filesystem::copy_file(executable(), program());
    std::filesystem::create_directory_symlink(std::filesystem::path(XLSTM_SOURCE_DIR) / "configs", share / "configs");
    std::filesystem::create_directory_symlink(std::filesystem::path(XLSTM_SOURCE_DIR) / "models/xlstm-tales-8m",
                                              share / "models/xlstm-tales-8m");
    std::filesystem::copy(goldens() / "tales", share / "goldens/tales");
  }
  [[nodiscard]] std::filesystem::path program() const { return dir_ / "bin/xlstm_generate"; }
  [[nodiscard]] std::filesystem::path golden() const {
    return dir_ / "share/xlstm_generate/goldens/tales/golden.safetensors";
  }
  [[nodiscard]] const std::filesystem::path& root() const { return dir_.path(); }

 private:
  TempDir dir_;
};

TEST(Selftest, PassesHereWhateverTheStateTypeAndListsEveryCase) {
  const ProgramResult result = run({"selftest", "--json", "--device", "cpu", "--state-dtype", "bfloat16"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const json report = json::parse(result.out);
  EXPECT_EQ(report["failed"], 0);
  EXPECT_TRUE(report["model_checked"]);
  std::set<std::string> kernels;
  for (const json& c : report["cases"]) kernels.insert(c["kernel"]);
  for (const char* kernel : {"chunkwise--cpu", "chunkwise--ray_compiled_steps", "native_sequence__cpu", "cpu",
                             "ops cpu", "chunkwise--native", "parallel--native", "model"}) {
    EXPECT_EQ(kernels.count(kernel), 1U) << kernel;
  }
}

TEST(Selftest, NamesTheGoldenThatDiffersAndExits7) {
  const InstalledTree tree;
  std::string bytes = read_all(tree.golden());
  // The middle of the file lies in the logits of some case: another exponent.
  bytes[bytes.size() / 2 + 3 - (bytes.size() / 2) % 4] ^= 0x08;
  std::filesystem::permissions(tree.golden(), std::filesystem::perms::owner_all);
  std::ofstream(tree.golden(), std::ios::binary) << bytes;
  const ProgramResult result = run_program(tree.program(), {"selftest", "--device", "cpu"}, {"", false, tree.root()});
  EXPECT_EQ(result.exit_code, 7) << result.err;
  EXPECT_THAT(result.out, HasSubstr("FAIL  model: golden "));
  EXPECT_THAT(last_line(result.err), AllOf(StartsWith("error: selftest"), HasSubstr("1 of ")));
}

TEST(Install, GivesATreeThatRunsWhereverItIsMoved) {
  const TempDir dir;
  const ProgramResult install =
      run_program(XLSTM_CMAKE, {"--install", XLSTM_BUILD_DIR, "--prefix", (dir / "first").string()});
  ASSERT_EQ(install.exit_code, 0) << install.err;
  std::filesystem::rename(dir / "first", dir / "moved");
  const ProgramResult result =
      run_program(dir / "moved/bin/xlstm_generate", {"-p", "Once", "--temp", "0", "-n", "3"}, {"", false, dir.path()});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_NE(result.out, "");
  EXPECT_THAT(result.err, HasSubstr((dir / "moved/share/xlstm_generate/models").string()));
  EXPECT_THAT(result.err, HasSubstr((dir / "moved/share/xlstm_generate/configs").string()));
}

TEST(Help, IsOnStandardOutputForEveryCommand) {
  for (const std::string command : {"", "info", "bench", "selftest", "perplexity", "tokenize", "check"}) {
    const ProgramResult result = command.empty() ? run({"--help"}) : run({command, "--help"});
    EXPECT_EQ(result.exit_code, 0) << command;
    EXPECT_THAT(result.out, HasSubstr("Usage:")) << command;
    EXPECT_EQ(result.err, "") << command;
  }
  EXPECT_THAT(run({"--version"}).out, HasSubstr("xlstm_generate"));
}

}  // namespace
}  // namespace xlstm::test
