// Small tokenizer.json files for tests: a vocabulary of the 256 bytes (id = byte) and whatever a test adds.
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "src/text/byte_alphabet.h"
#include "xlstm/core/errors.h"
#include "xlstm/text/tokenizer.h"

namespace xlstm::testing_text {

using Json = nlohmann::json;
using Ids = std::vector<int64_t>;

// A directory of one test, removed at its end.
class TempDirectory {
 public:
  TempDirectory() {
    static std::atomic<int> counter{0};
    const auto* info = ::testing::UnitTest::GetInstance()->current_test_info();
    std::string name =
        std::string("xlstm_text_") + info->test_suite_name() + "_" + info->name() + "_" + std::to_string(counter++);
    for (char& c : name) c = c == '/' ? '_' : c;
    path_ = std::filesystem::path(::testing::TempDir()) / name;
    std::filesystem::create_directories(path_);
  }
  ~TempDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempDirectory(const TempDirectory&) = delete;
  TempDirectory& operator=(const TempDirectory&) = delete;

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

inline Tokenizer tokenizer_from_text(std::string_view text) {
  const TempDirectory directory;
  const std::filesystem::path file = directory.path() / "tokenizer.json";
  std::ofstream(file, std::ios::binary) << text;
  return Tokenizer::from_file(file);
}

inline Tokenizer tokenizer_from(const Json& json) {
  return tokenizer_from_text(json.dump());
}

inline Json byte_level_step() {
  return {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}};
}

// Without merges: every byte is its own id.
inline Json tiny_json() {
  Json vocab = Json::object();
  for (int byte = 0; byte < 256; ++byte) vocab[std::string(byte_symbol(static_cast<uint8_t>(byte)))] = byte;
  return {
      {"added_tokens", Json::array()},      {"normalizer", nullptr},
      {"pre_tokenizer", byte_level_step()}, {"post_processor", nullptr},
      {"decoder", {{"type", "ByteLevel"}}}, {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", Json::array()}}}};
}

// Adds the merge of two tokens, in the pair form; the result's id is the next free one, 256 for the first merge.
inline void add_merge(Json& json, const std::string& left, const std::string& right) {
  Json& vocab = json["model"]["vocab"];
  if (!vocab.contains(left + right)) vocab[left + right] = vocab.size();
  json["model"]["merges"].push_back({left, right});
}

inline void add_token(Json& json, int64_t id, const std::string& content, const Json& flags = Json::object()) {
  Json token = {{"id", id},        {"content", content}, {"special", false},    {"normalized", false},
                {"lstrip", false}, {"rstrip", false},    {"single_word", false}};
  token.update(flags);
  json["added_tokens"].push_back(token);
}

// The pieces that `json` cuts a text into: those listed in `pieces` become tokens of their own, so that ignore_merges
// makes one id of them; any other piece shows as its single bytes.
inline std::vector<std::string> pieces_of(Json json, const std::string& text, const std::vector<std::string>& pieces) {
  json["model"]["ignore_merges"] = true;
  Json& vocab = json["model"]["vocab"];
  for (const std::string& piece : pieces) {
    std::string symbols;
    for (const char c : piece) symbols += byte_symbol(static_cast<uint8_t>(c));
    if (!vocab.contains(symbols)) vocab[symbols] = vocab.size();
  }
  const Tokenizer tokenizer = tokenizer_from(json);
  std::vector<std::string> out;
  for (const int64_t id : tokenizer.encode(text)) out.emplace_back(tokenizer.token_bytes(id));
  return out;
}

// Expects that `action` throws an Error with this code and a one-line message that contains every one of `parts`.
template <class Action>
void expect_error(Action&& action, ExitCode code, const std::vector<std::string>& parts) {
  try {
    action();
  } catch (const Error& error) {
    const std::string message = error.what();
    EXPECT_EQ(error.code(), code) << message;
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    for (const std::string& part : parts)
      EXPECT_NE(message.find(part), std::string::npos) << part << " in: " << message;
    return;
  }
  ADD_FAILURE() << "no Error thrown; expected one with: " << (parts.empty() ? "" : parts.front());
}

}  // namespace xlstm::testing_text
