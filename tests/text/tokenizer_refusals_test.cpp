// Files that must be refused: each with one line that names the file and what is wrong in it.
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "tests/text/tiny_tokenizer.h"

namespace xlstm {
namespace {

using testing_text::add_merge;
using testing_text::add_token;
using testing_text::expect_error;
using testing_text::Json;
using testing_text::tiny_json;
using testing_text::tokenizer_from_text;

struct Refusal {
  std::string name;
  std::function<void(Json&)> break_it;
  std::vector<std::string> message_parts;
};

Json sequence(const Json& steps) {
  return {{"type", "Sequence"}, {"pretokenizers", steps}};
}

Json split(const Json& changes) {
  Json step = {{"type", "Split"}, {"pattern", {{"String", "x"}}}, {"behavior", "Isolated"}, {"invert", false}};
  step.update(changes);
  return step;
}

Json byte_level() {
  return testing_text::byte_level_step();
}

const std::vector<Refusal>& refusals() {
  static const std::vector<Refusal> list = {
      {"no model", [](Json& j) { j.erase("model"); }, {"model (", "got none"}},
      {"model is a list", [](Json& j) { j["model"] = Json::array(); }, {"model (", "an object", "an array"}},
      {"other model", [](Json& j) { j["model"]["type"] = "Unigram"; }, {"model.type", "BPE", "Unigram"}},
      {"type is a number", [](Json& j) { j["model"]["type"] = 3; }, {"model.type", "a string", "got 3"}},
      {"no vocab", [](Json& j) { j["model"].erase("vocab"); }, {"model.vocab", "got none"}},
      {"vocab is a list", [](Json& j) { j["model"]["vocab"] = Json::array(); }, {"model.vocab", "an object"}},
      {"text as id", [](Json& j) { j["model"]["vocab"]["a"] = "7"; }, {"model.vocab", "a token id", "\"7\""}},
      {"fraction as id", [](Json& j) { j["model"]["vocab"]["a"] = 7.5; }, {"model.vocab", "7.5 for a"}},
      {"negative id", [](Json& j) { j["model"]["vocab"]["a"] = -1; }, {"model.vocab", "-1 for a"}},
      {"huge id", [](Json& j) { j["model"]["vocab"]["a"] = 1LL << 40; }, {"model.vocab", "1099511627776"}},
      {"one id twice", [](Json& j) { j["model"]["vocab"]["a"] = 98; }, {"model.vocab", "distinct", "98", "a", "b"}},
      {"no merges", [](Json& j) { j["model"].erase("merges"); }, {"model.merges", "got none"}},
      {"merges is text", [](Json& j) { j["model"]["merges"] = "a b"; }, {"model.merges", "an array"}},
      {"merge of one", [](Json& j) { j["model"]["merges"] = Json::array({"ab"}); }, {"model.merges", "\"ab\" at [0]"}},
      {"merge of three", [](Json& j) { j["model"]["merges"] = Json::array({"a b c"}); }, {"model.merges", "at [0]"}},
      {"triple",
       [](Json& j) {
         j["model"]["merges"] = Json::array({Json::array({"a", "b", "c"})});
       },
       {"model.merges", "at [0]"}},
      {"merge of numbers",
       [](Json& j) {
         j["model"]["merges"] = Json::array({Json::array({1, 2})});
       },
       {"model.merges", "at [0]"}},
      {"unknown merge half",
       [](Json& j) {
         j["model"]["merges"] = Json::array({Json::array({"a", "bb"})});
       },
       {"model.merges", "bb at [0]"}},
      {"unknown merge result",
       [](Json& j) { j["model"]["merges"] = Json::array({"a b"}); },
       {"model.merges", "ab at [0]"}},
      {"dropout", [](Json& j) { j["model"]["dropout"] = 0.1; }, {"model.dropout", "null", "0.1"}},
      {"unk_token", [](Json& j) { j["model"]["unk_token"] = "<unk>"; }, {"model.unk_token", "<unk>"}},
      {"fuse_unk", [](Json& j) { j["model"]["fuse_unk"] = true; }, {"model.fuse_unk", "true"}},
      {"prefix", [](Json& j) { j["model"]["continuing_subword_prefix"] = "##"; }, {"continuing_subword_prefix", "##"}},
      {"suffix", [](Json& j) { j["model"]["end_of_word_suffix"] = "</w>"; }, {"end_of_word_suffix", "</w>"}},
      {"byte_fallback", [](Json& j) { j["model"]["byte_fallback"] = true; }, {"model.byte_fallback", "true"}},
      {"flag is text", [](Json& j) { j["model"]["ignore_merges"] = "yes"; }, {"model.ignore_merges", "true or false"}},
      {"normalizer",
       [](Json& j) {
         j["normalizer"] = {{"type", "Lowercase"}};
       },
       {"normalizer.type", "Lowercase"}},
      {"normalizer without type", [](Json& j) { j["normalizer"] = Json::object(); }, {"normalizer.type", "got none"}},
      {"normalizer in a sequence",
       [](Json& j) {
         j["normalizer"] = {{"type", "Sequence"}, {"normalizers", Json::array({Json{{"type", "Strip"}}})}};
       },
       {"normalizer.normalizers[0].type", "Strip"}},
      {"sequence in a sequence",
       [](Json& j) {
         j["normalizer"] = {{"type", "Sequence"}, {"normalizers", Json::array({Json{{"type", "Sequence"}}})}};
       },
       {"normalizer.normalizers[0].type", "Sequence"}},
      {"no pre_tokenizer", [](Json& j) { j.erase("pre_tokenizer"); }, {"pre_tokenizer", "got none"}},
      {"null pre_tokenizer", [](Json& j) { j["pre_tokenizer"] = nullptr; }, {"pre_tokenizer", "an object", "null"}},
      {"pre_tokenizer",
       [](Json& j) {
         j["pre_tokenizer"] = {{"type", "Metaspace"}};
       },
       {"ByteLevel", "Metaspace"}},
      {"empty sequence", [](Json& j) { j["pre_tokenizer"] = sequence(Json::array()); }, {"pre_tokenizer", "no step"}},
      {"sequence without ByteLevel",
       [](Json& j) { j["pre_tokenizer"] = sequence(Json::array({split(Json::object())})); },
       {"ByteLevel", "Split"}},
      {"ByteLevel first",
       [](Json& j) {
         j["pre_tokenizer"] = sequence(Json::array({byte_level(), byte_level()}));
       },
       {"pretokenizers[0].type", "Split", "ByteLevel"}},
      {"step",
       [](Json& j) {
         j["pre_tokenizer"] = sequence(Json::array({Json{{"type", "Digits"}}, byte_level()}));
       },
       {"Digits"}},
      {"behavior",
       [](Json& j) {
         j["pre_tokenizer"] = sequence(Json::array({split({{"behavior", "Dropped"}}), byte_level()}));
       },
       {"behavior", "Isolated", "Dropped"}},
      {"no pattern kind",
       [](Json& j) {
         j["pre_tokenizer"] = sequence(Json::array({split({{"pattern", {{"Glob", "x"}}}}), byte_level()}));
       },
       {"pattern", "Regex or String"}},
      {"broken pattern",
       [](Json& j) {
         j["pre_tokenizer"] = sequence(Json::array({split({{"pattern", {{"Regex", "(a"}}}}), byte_level()}));
       },
       {"pre_tokenizer pattern", "(a"}},
      {"no add_prefix_space", [](Json& j) { j["pre_tokenizer"].erase("add_prefix_space"); }, {"add_prefix_space"}},
      {"post_processor",
       [](Json& j) {
         j["post_processor"] = {{"type", "BertProcessing"}};
       },
       {"BertProcessing"}},
      {"no decoder", [](Json& j) { j.erase("decoder"); }, {"decoder", "got none"}},
      {"decoder",
       [](Json& j) {
         j["decoder"] = {{"type", "WordPiece"}};
       },
       {"decoder.type", "ByteLevel", "WordPiece"}},
      {"added_tokens", [](Json& j) { j["added_tokens"] = Json::object(); }, {"added_tokens", "an array"}},
      {"added text",
       [](Json& j) { j["added_tokens"] = Json::array({"<t>"}); },
       {"added_tokens[0]", "an object", "<t>"}},
      {"added without id",
       [](Json& j) {
         j["added_tokens"] = Json::array({Json{{"content", "t"}}});
       },
       {"added_tokens[0].id"}},
      {"added without content",
       [](Json& j) {
         j["added_tokens"] = Json::array({Json{{"id", 300}}});
       },
       {"added_tokens[0].content"}},
      {"added nothing", [](Json& j) { add_token(j, 300, ""); }, {"added_tokens[0].content", "not empty"}},
      {"added negative id", [](Json& j) { add_token(j, -5, "t"); }, {"added_tokens[0].id", "-5"}},
      {"added huge id", [](Json& j) { add_token(j, 1LL << 33, "t"); }, {"added_tokens[0].id", "8589934592"}},
      {"added flag",
       [](Json& j) {
         add_token(j, 300, "t", {{"lstrip", 1}});
       },
       {"added_tokens[0].lstrip"}},
      {"added id of another", [](Json& j) { add_token(j, 97, "tt"); }, {"added_tokens[0]", "97", "tt"}},
      {"added other id", [](Json& j) { add_token(j, 300, "a"); }, {"added_tokens[0]", "id 97", "300 for a"}},
      {"added twice",
       [](Json& j) {
         add_token(j, 300, "t1");
         add_token(j, 301, "t1");
       },
       {"added_tokens[1]", "t1 twice"}},
      {"added same id",
       [](Json& j) {
         add_token(j, 300, "t1");
         add_token(j, 300, "t2");
       },
       {"added_tokens[1]", "300", "t1", "t2"}},
  };
  return list;
}

TEST(TokenizerRefusals, EveryMalformedOrUnsupportedFileIsRefusedByName) {
  for (const Refusal& refusal : refusals()) {
    SCOPED_TRACE(refusal.name);
    Json json = tiny_json();
    refusal.break_it(json);
    std::vector<std::string> parts = refusal.message_parts;
    parts.emplace_back("tokenizer.json");
    expect_error([&] { (void)tokenizer_from_text(json.dump()); }, ExitCode::kCheckpoint, parts);
  }
}

TEST(TokenizerRefusals, FilesThatAreNoJsonObject) {
  const std::string whole = tiny_json().dump();
  const std::vector<std::string> texts = {"",
                                          " ",
                                          "null",
                                          "[]",
                                          "\"text\"",
                                          "12",
                                          "{",
                                          "{\"model\"",
                                          "\xFF\xFE{}",
                                          whole.substr(0, whole.size() / 2),
                                          "{\"model\": \"\xC3\"}",
                                          std::string(1'000'000, '['),
                                          whole + "}",
                                          std::string(4, '\0')};
  for (const std::string& text : texts) {
    SCOPED_TRACE(text.substr(0, 40));
    expect_error([&] { (void)tokenizer_from_text(text); }, ExitCode::kCheckpoint, {"tokenizer.json"});
  }
}

TEST(TokenizerRefusals, DeepNestingNeitherCrashesNorHangs) {
  constexpr size_t kDepth = 1'000'000;
  const std::string deep = std::string(kDepth, '[') + std::string(kDepth, ']');
  const std::string in_merges = R"({"model": {"vocab": {"a": 0}, "merges": [)" + deep + R"(]},
      "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false}, "decoder": {"type": "ByteLevel"}})";
  for (const std::string& text : {deep, in_merges, R"({"model": {"type": )" + deep + "}}"}) {
    expect_error([&] { (void)tokenizer_from_text(text); }, ExitCode::kCheckpoint, {"tokenizer", "levels of nesting"});
  }
}

TEST(TokenizerRefusals, AMissingFileIsNamed) {
  expect_error([] { (void)Tokenizer::from_file("/no/such/tokenizer.json"); }, ExitCode::kCheckpoint,
               {"/no/such/tokenizer.json"});
}

TEST(TokenizerRefusals, EveryCutOfAValidFileIsRefused) {
  Json json = tiny_json();
  add_merge(json, "a", "b");
  add_token(json, 300, "<t>");
  const std::string text = json.dump();
  EXPECT_NO_THROW((void)tokenizer_from_text(text));
  for (size_t size = 0; size < text.size(); size += 37) {
    expect_error([&] { (void)tokenizer_from_text(text.substr(0, size)); }, ExitCode::kCheckpoint, {"tokenizer.json"});
  }
}

}  // namespace
}  // namespace xlstm
