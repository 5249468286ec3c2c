// Pre-tokenization: cuts a text into the pieces inside which byte-pair merges happen. Any number of Split steps, then
// one ByteLevel step, as in the `tokenizers` library.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "src/text/regex.h"

namespace xlstm {

// What becomes of the parts that a Split step's pattern matches.
enum class SplitBehavior { kIsolated, kRemoved, kMergedWithPrevious, kMergedWithNext, kContiguous };

struct SplitStep {
  Regex pattern;
  SplitBehavior behavior = SplitBehavior::kIsolated;
  bool invert = false;  // the parts between the matches count as matches, and the other way round
};

// Cuts `text` (not empty, valid UTF-8) and appends the parts that remain, none of them empty.
void apply_split(const SplitStep& step, std::string_view text, std::vector<std::string_view>& out);

// Thread-safe after construction.
class PreTokenizer {
 public:
  struct ByteLevel {
    bool add_prefix_space = false;
    std::optional<SplitStep> words;  // GPT-2's word pattern, unless "use_regex" is false
  };

  PreTokenizer(std::vector<SplitStep> splits, ByteLevel byte_level)
      : splits_(std::move(splits)), byte_level_(std::move(byte_level)) {}

  // Calls sink(piece) for each piece of `text` in order; a piece is valid only during its call.
  void for_each_piece(std::string_view text, const std::function<void(std::string_view)>& sink) const;

 private:
  std::vector<SplitStep> splits_;
  ByteLevel byte_level_;
};

// The Split step with GPT-2's word pattern.
[[nodiscard]] SplitStep gpt2_words();

}  // namespace xlstm
