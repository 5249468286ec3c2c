// Reading a tokenizer.json into the parts of a tokenizer, with every check that a file from elsewhere needs.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "src/text/added_tokens.h"
#include "src/text/bpe.h"
#include "src/text/pre_tokenizer.h"
#include "src/text/unicode.h"

namespace xlstm {

struct StringHash {
  using is_transparent = void;
  size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
};
using Vocabulary = std::unordered_map<std::string, int32_t, StringHash, std::equal_to<>>;

struct TokenizerParts {
  std::vector<NormalForm> normalizers;
  PreTokenizer pre_tokenizer;
  Vocabulary vocabulary;  // content → id; ids are unique and from 0 to kMaxTokenId
  std::vector<Merge> merges;
  bool ignore_merges = false;            // a piece that is a token of its own is not merged from bytes
  std::vector<AddedToken> added_tokens;  // contents and ids unique, in agreement with the vocabulary
};

// Ids index tables, so a file with one huge id must not make us allocate gigabytes.
inline constexpr int32_t kMaxTokenId = (1 << 22) - 1;

// `file` is the path for errors. Error kCheckpoint for anything malformed or not supported.
[[nodiscard]] TokenizerParts parse_tokenizer_json(std::string_view text, const std::string& file);

}  // namespace xlstm
