// Text from ids that arrive one at a time.
#pragma once

#include <cstdint>
#include <string>

#include "xlstm/text/tokenizer.h"

namespace xlstm {

// The texts that push() and finish() return, joined, equal Tokenizer::decode of all ids. A character whose bytes are
// spread over several tokens comes out whole, with its last token. Not thread-safe; the tokenizer must outlive it.
class StreamDecoder {
 public:
  explicit StreamDecoder(const Tokenizer& tokenizer, bool skip_special = true)
      : tokenizer_(&tokenizer), skip_special_(skip_special) {}

  // The text that became final with this id, maybe none. Error kUsage for an unknown id.
  [[nodiscard]] std::string push(int64_t id);

  // What is left at the end of the ids: U+FFFD if they end inside a character. A new text may follow.
  [[nodiscard]] std::string finish();

 private:
  const Tokenizer* tokenizer_;
  bool skip_special_;
  std::string pending_;  // the beginning of a character, 0 to 3 bytes
};

}  // namespace xlstm
